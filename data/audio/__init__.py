"""Audio: reading, resampling and normalising, sources, and examples."""
