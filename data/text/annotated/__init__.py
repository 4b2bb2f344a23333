"""Texts with annotations in them: tagged words, answered questions, choices between endings."""
