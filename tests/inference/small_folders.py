"""Texts of a small vocabulary, and what the model of a folder gives for them, unpadded."""

from pathlib import Path

import jax.numpy as jnp

from data.text import tokenizers
from models import hub

TEXTS = ["the cat sat on the mat and looked at the dog", "dogs and cats are animals that do not speak to rivers"] * 9


def outputs(path: Path, *texts: str):
    """The model's outputs for one text or a pair, unpadded, and the encoding."""
    encoding = tokenizers.load(path).encode(*texts)
    model, variables = hub.load(path)
    ids, types = (jnp.asarray([x], jnp.int32) for x in (encoding.ids, encoding.type_ids))
    return model.apply(variables, ids, token_type_ids=types), encoding
