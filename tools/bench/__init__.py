"""The benchmark: `python -m tools.bench`. Nothing else in the project needs it."""
