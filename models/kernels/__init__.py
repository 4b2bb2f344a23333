"""Functions with gradients written by hand, and what XLA's CPU backend needs instead of the plain formula."""
