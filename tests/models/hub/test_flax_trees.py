"""Trees that the Flax classes of `transformers` wrote: read under the published names."""

import json

import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict

from models import hub
from models.config import ModelError
from models.hub import files, flax_trees
from tests.models.hub.folders import MODELS, as_flax_tree, assert_same, published, to_flax


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_trees_of_the_flax_classes(model, tmp_path):
    variables = published(tmp_path, model)
    to_flax(tmp_path)
    assert_same(hub.load(tmp_path)[1], variables)


def test_the_tree_of_flax_bert_has_the_names_that_it_had(tmp_path):
    """What `FlaxBertForPreTraining` and `FlaxGPT2LMHeadModel` of transformers 4.57.6 wrote, name by name and shape."""
    published(tmp_path / "bert", MODELS[0])
    published(tmp_path / "gpt2", MODELS[2])
    bert_tree, gpt2_tree = (flatten_dict(as_flax_tree(tmp_path / name), sep="/") for name in ("bert", "gpt2"))
    for tree, name, shape in [
        (bert_tree, "bert/embeddings/word_embeddings/embedding", (40, 16)),
        (bert_tree, "bert/embeddings/LayerNorm/scale", (16,)),
        (bert_tree, "bert/encoder/layer/1/attention/self/query/kernel", (16, 16)),
        (bert_tree, "bert/encoder/layer/0/intermediate/dense/kernel", (16, 24)),
        (bert_tree, "cls/predictions/bias", (40,)),
        (bert_tree, "cls/predictions/transform/LayerNorm/bias", (16,)),
        (bert_tree, "cls/seq_relationship/kernel", (16, 2)),
        (gpt2_tree, "transformer/wte/embedding", (40, 16)),
        (gpt2_tree, "transformer/h/1/ln_1/scale", (16,)),
        (gpt2_tree, "transformer/h/0/attn/c_attn/kernel", (48, 16)),
        (gpt2_tree, "transformer/h/0/mlp/c_fc/kernel", (64, 16)),
        (gpt2_tree, "transformer/ln_f/bias", (16,)),
    ]:
        assert tree[name].shape == shape, name


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        (("conv1", "kernel"), (3, 8, 16), ("conv1.weight", (16, 8, 3))),
        (("patch", "projection", "kernel"), (4, 5, 3, 16), ("patch.projection.weight", (16, 3, 4, 5))),
        (("params", "norm", "scale"), (7,), ("norm.weight", (7,))),
        (("batch_stats", "norm", "mean"), (7,), ("norm.running_mean", (7,))),
        (("params", "0", "layer", "layer_1", "kernel"), (1, 1, 8, 16), ("0.layer.1.weight", (16, 8, 1, 1))),
        (("vit", "embeddings", "cls_token"), (1, 1, 8), ("vit.embeddings.cls_token", (1, 1, 8))),
    ],
)
def test_leaves_of_other_kinds(path, shape, expected):
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    name, found = flax_trees.published(path, value)
    assert (name, found.shape) == expected
    if len(shape) > 2 and path[-1] == "kernel":  # out and in trade places with space, which keeps its order
        np.testing.assert_array_equal(found[3, 2], value[..., 2, 3])


def test_trees_in_several_files(tmp_path):
    variables = published(tmp_path, MODELS[0])
    tree = as_flax_tree(tmp_path)
    for number, part in enumerate(("bert", "cls")):
        name = f"flax_model-{number + 1:05}-of-00002.msgpack"
        (tmp_path / name).write_bytes(msgpack_serialize({part: tree[part]}))
    where = {"bert/a": "flax_model-00001-of-00002.msgpack", "cls/b": "flax_model-00002-of-00002.msgpack"}
    (tmp_path / flax_trees.INDEX).write_text(json.dumps({"weight_map": where}))
    (tmp_path / files.SINGLE).unlink()
    assert_same(hub.load(tmp_path)[1], variables)


def test_safetensors_come_before_a_flax_tree(tmp_path):
    variables = published(tmp_path, MODELS[0])
    (tmp_path / flax_trees.SINGLE).write_bytes(b"never read")
    assert_same(hub.load(tmp_path)[1], variables)


def test_flax_trees_that_do_not_fit(tmp_path):
    published(tmp_path, MODELS[0])

    def change(tree):
        layers = tree["bert"]["encoder"]["layer"]
        layers["1"]["output"].pop("dense")
        layers["0"]["intermediate"]["dense"]["kernel"] = np.zeros((3, 5), np.float32)
        return {**tree, "extra": {"kernel": np.zeros((2, 2), np.float32)}}

    to_flax(tmp_path, change)
    with pytest.raises(ModelError) as error:
        hub.load(tmp_path)
    for said in (
        "missing: bert.encoder.layer.1.output.dense.weight, bert.encoder.layer.1.output.dense.bias",
        "unexpected: extra.weight",
        "misshapen: bert.encoder.layer.0.intermediate.dense.weight float32[3, 5] for float32[16, 24]",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x81", b"\xc1", b"garbage", msgpack_serialize({"a": np.ones(3)})[:-2]])
def test_flax_files_that_lie_are_refused(content, tmp_path):
    published(tmp_path, MODELS[0])
    (tmp_path / files.SINGLE).unlink()
    (tmp_path / flax_trees.SINGLE).write_bytes(content)
    with pytest.raises(ModelError, match=r"flax_model\.msgpack is no whole Flax checkpoint"):
        hub.load(tmp_path)
