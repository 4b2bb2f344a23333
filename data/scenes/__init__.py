"""Pictures with what is found in them: boxes, classes and masks of objects, and depth; carried through what changes a picture."""
