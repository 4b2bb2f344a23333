"""Models at work: generation and task pipelines."""

from inference.pipeline import pipeline

__all__ = ["pipeline"]
