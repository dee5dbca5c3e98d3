"""Hostile input and violent ends, as a command: python -m tools.torture."""
