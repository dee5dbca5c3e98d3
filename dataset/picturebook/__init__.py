"""A synthetic world that the repo draws itself: facts first, then pictures and texts made from them."""
