"""Audio: reading, resampling and normalising it, where it comes from, and examples made of it."""
