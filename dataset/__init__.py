"""Data: from a raw row or a drawn scene to a padded batch (record, sources, pictures, encoding, batching, features)."""
