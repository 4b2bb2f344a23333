"""From an experiment's description to the parts that run it: `assemble` makes them, an `Assembly` holds them."""
