"""Runs that fine-tune a model for a task, and what they export."""
