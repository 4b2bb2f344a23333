"""What `data` raises."""


class DataError(ValueError):
    """Data that cannot be used: one sentence on what was expected, what came and where to mend it."""
