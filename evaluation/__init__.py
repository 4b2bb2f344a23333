"""How good a model is: metrics, named evaluations, intervals, and the baselines that a result is held against."""
