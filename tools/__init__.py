"""What is done with trained models: export, benchmarks, harnesses."""
