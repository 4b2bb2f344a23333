"""Architectures: one file each (config, Linen modules, heads), `layers` shared by several, `hub` for published checkpoints."""
