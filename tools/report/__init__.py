"""An index of all runs in a folder, as one HTML page: python -m tools.report out/"""
