"""Models at work: task pipelines."""
