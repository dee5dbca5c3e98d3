"""Benchmarks, exports and harness adapters: each a command of its own, run as `python -m tools.NAME`."""
