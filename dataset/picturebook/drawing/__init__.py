"""How a scene is drawn; picture.py is where it begins."""
