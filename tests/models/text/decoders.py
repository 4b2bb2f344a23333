"""Small decoders, their variables, and ids that they read."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import gpt2, llama
from models.gpt2 import GPT2Config
from models.llama import LlamaConfig

GPT2 = GPT2Config(vocab_size=60, n_positions=40, n_embd=32, n_layer=3, n_head=4, initializer_range=0.2)
LLAMA = LlamaConfig(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=44,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=40,
    attention_dropout=0.1,
    initializer_range=0.2,
)
BASE = {"gpt2": gpt2.GPT2Model(GPT2), "llama": llama.LlamaModel(LLAMA)}
LANGUAGE = {
    "gpt2": gpt2.GPT2LMHeadModel(GPT2),
    "llama": llama.LlamaForCausalLM(LLAMA),
    "llama, tied": llama.LlamaForCausalLM(dataclasses.replace(LLAMA, tie_word_embeddings=True)),
}
BATCH, LENGTH = 4, 12


@functools.cache
def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def ids(rows: int = BATCH, length: int = LENGTH, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, 60, (rows, length)), jnp.int32)
