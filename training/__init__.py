"""Training: state, step, optimizers, parallelism, checkpoints, metrics, the loop."""
