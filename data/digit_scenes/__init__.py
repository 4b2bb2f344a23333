"""The TFDS data set `digit_scenes`: scenes composed of photographs and handwritten digits."""
