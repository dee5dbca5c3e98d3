"""The installed command: `glimpse`, see __main__.py."""
