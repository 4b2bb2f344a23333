"""Small encoder-decoders of every architecture, and ids that they read."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import bart, marian, mbart, t5, transformer

SHAPE = dict(
    vocab_size=60,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=48,
    decoder_ffn_dim=40,
    max_position_embeddings=20,
    init_std=0.2,
    pad_token_id=1,
    eos_token_id=2,
    scan_layers=True,
)
GENERATORS = {
    "bart": bart.BartForConditionalGeneration(bart.BartConfig(**SHAPE)),
    "mbart": mbart.MBartForConditionalGeneration(mbart.MBartConfig(**SHAPE, scale_embedding=True)),
    "marian": marian.MarianMTModel(marian.MarianConfig(**SHAPE, decoder_start_token_id=2)),
    "transformer": transformer.TransformerForConditionalGeneration(transformer.TransformerConfig(**SHAPE)),
}
T5 = t5.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=2)
BART = GENERATORS["bart"]
SOURCE, TARGET = 9, 6


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def with_config(model: nn.Module, **changes) -> nn.Module:
    return type(model)(dataclasses.replace(model.config, **changes))


def ids(length: int = SOURCE, rows: int = 4, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, SHAPE["vocab_size"], (rows, length)), jnp.int32)
