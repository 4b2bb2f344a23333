"""Task metrics and the baselines that a result is held against."""
