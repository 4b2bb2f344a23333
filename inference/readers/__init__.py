"""What a task reads, made into the inputs of a model: one file a modality."""
