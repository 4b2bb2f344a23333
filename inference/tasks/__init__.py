"""What models are asked for: one file a task."""
