"""Layers that several architectures share, as their equations read; what a platform needs instead is in `models.kernels`."""
