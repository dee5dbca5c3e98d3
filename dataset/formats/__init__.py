"""Data file formats, read and written as rows."""
