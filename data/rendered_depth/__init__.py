"""The TFDS data set `rendered_depth`: rooms with things in them, with the depth of each pixel."""
