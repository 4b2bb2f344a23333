"""Objectives of texts, one file each."""
