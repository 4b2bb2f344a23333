"""Models at work: generation and task pipelines."""
