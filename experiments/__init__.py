"""Experiments: one Python file per published one (`<architecture>/<name>.py`), and the command line that runs any of them."""
