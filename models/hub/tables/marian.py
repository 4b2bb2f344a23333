"""Marian's names, as `transformers` publishes them. Older files hold the sinusoids, too."""

import dataclasses

from models.hub.tables.bart import SHARED

POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")

TABLE = dataclasses.replace(SHARED, ignored=(*SHARED.ignored, *POSITIONS))
