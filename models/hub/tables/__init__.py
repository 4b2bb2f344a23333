"""The published names of each architecture's parameters: `TABLE` of `<model_type>.py`."""
