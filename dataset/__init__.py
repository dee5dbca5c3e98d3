"""The data pipeline: from a raw row or a scene to a padded batch."""
