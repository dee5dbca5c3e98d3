"""Stage, the training loop, checkpoints and runtime."""
