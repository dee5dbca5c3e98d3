"""Drawing of scenes; the entry point is picture.py."""
