"""Texts, pictures and weights of published packages, unpacked for the campaigns."""
