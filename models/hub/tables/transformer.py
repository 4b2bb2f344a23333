"""The Transformer's names: Marian's. `transformers` has no class of this type, its folders are for this code alone."""

from models.hub.tables.marian import TABLE

__all__ = ["TABLE"]
