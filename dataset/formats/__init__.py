"""The files that data sets come in, read and written as rows."""
