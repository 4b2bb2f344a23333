"""Objectives of audio."""
