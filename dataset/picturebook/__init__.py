"""A small world that the repo draws itself: facts first, and picture and text both made from them."""
