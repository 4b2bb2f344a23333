"""Pictures: where they come from, how they are decoded, scaled and augmented."""
