"""Data: from a raw row or a drawn scene to a padded batch."""
