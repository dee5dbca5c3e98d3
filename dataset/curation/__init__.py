"""Text quality rules and deduplication; dataset/check.py and clean.py are the commands."""
