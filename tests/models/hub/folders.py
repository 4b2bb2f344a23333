"""Small models of several architectures, their folders, and changes to what lies in them."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from models import bert, gpt2, hub, llama
from models.hub import files, flax_trees

BERT = bert.BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=10,
    labels=("negative", "neutral", "positive"),
)
GPT2 = gpt2.GPT2Config(vocab_size=40, n_positions=10, n_embd=16, n_layer=2, n_head=2)
LLAMA = llama.LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=10,
    rope_scaling=llama.LLAMA3_1,
)
TIED = dataclasses.replace(LLAMA, tie_word_embeddings=True)
MODELS = [
    bert.BertForPreTraining(BERT),
    bert.BertModel(BERT),
    gpt2.GPT2LMHeadModel(GPT2),
    llama.LlamaForCausalLM(LLAMA),
    llama.LlamaForCausalLM(TIED),
]
IDS = jnp.arange(16).reshape(2, 8) + 5


def published(folder: Path, model: nn.Module, **settings) -> dict:
    """A checkpoint folder as `save` writes it, every parameter different; the variables in it."""
    rng = np.random.default_rng(0)
    values = {
        path: jnp.asarray(rng.normal(size=shape.shape), shape.dtype) for path, shape in hub.shapes_of(model).items()
    }
    variables = {"params": unflatten_dict(values, sep="/")}
    hub.save(folder, model, variables, **settings)
    return variables


def bert_folder(folder: Path, head: str = "BertForPreTraining", **changes) -> tuple[nn.Module, dict]:
    """`published` of BERT with this head and other fields of its config; the model and the variables in it."""
    model = getattr(bert, head)(dataclasses.replace(BERT, **changes))
    return model, published(folder, model)


def change_json(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_same(one: dict, other: dict) -> None:
    one, other = (flatten_dict(variables["params"], sep="/") for variables in (one, other))
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], err_msg=path)


def change_tensors(folder: Path, change) -> None:
    save_file(change(load_file(folder / files.SINGLE)), folder / files.SINGLE, metadata={"format": "pt"})


def shard(folder: Path) -> None:
    tensors = load_file(folder / files.SINGLE)
    names, where = sorted(tensors), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[number::3]}, folder / file)
        where |= dict.fromkeys(names[number::3], file)
    (folder / files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / files.SINGLE).unlink()


def as_flax_tree(folder: Path) -> dict:
    """The tree that the Flax class of `transformers` 4.57 has for a published folder: its modules' names and layouts."""
    tree = {}
    for name, value in load_file(folder / files.SINGLE).items():
        *modules, leaf = name.split(".")
        if leaf == "weight":
            norm = "norm" in modules[-1].lower() or modules[-1].startswith("ln_")
            table = "embed" in modules[-1] or modules[-1] in ("wte", "wpe")
            leaf = "embedding" if table else "scale" if norm else "kernel"
            leaf = (
                "weight" if norm and "layernorm" in modules[-1] + "layernorm" * (modules == ["model", "norm"]) else leaf
            )
            value = value.T if leaf == "kernel" else value
        tree[(*modules, leaf)] = np.ascontiguousarray(value)
    return unflatten_dict(tree)


def to_flax(folder: Path, change=lambda tree: tree) -> None:
    tree = change(as_flax_tree(folder))
    (folder / flax_trees.SINGLE).write_bytes(msgpack_serialize(tree))
    (folder / files.SINGLE).unlink()
