"""Objectives of pictures, one file each."""
