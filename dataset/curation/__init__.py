"""What is wrong with rows, and which of them say the same; dataset/check.py and clean.py are the commands."""
