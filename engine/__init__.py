"""Training: flags, trainer, the loop, checkpoints, devices, all-reduce, inference."""
