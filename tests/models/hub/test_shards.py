"""Checkpoints in several files and their index."""

import json

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from models import hub
from models.config import ModelError
from models.hub import files, flax_trees
from tests.models.hub.folders import MODELS, assert_same, published


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_shards_are_small_and_their_index_leads_to_every_tensor(model, tmp_path):
    whole = published(tmp_path / "whole", model)
    published(tmp_path / "shards", model, max_shard_size=2_000)
    index = json.loads((tmp_path / "shards" / files.INDEX).read_text())
    names = sorted(set(index["weight_map"].values()))
    assert names == [f"model-{i + 1:05}-of-{len(names):05}.safetensors" for i in range(len(names))] and len(names) > 3
    assert not (tmp_path / "shards" / files.SINGLE).exists()
    expected, found = load_file(tmp_path / "whole" / files.SINGLE), {}
    for name in names:
        part = load_file(tmp_path / "shards" / name)
        assert len(part) == 1 or sum(x.nbytes for x in part.values()) <= 2_000
        assert all(index["weight_map"][tensor] == name for tensor in part)
        with safe_open(tmp_path / "shards" / name, "np") as file:
            assert file.metadata() == {"format": "pt"}
        found |= part
    assert found.keys() == expected.keys() == index["weight_map"].keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert index["metadata"] == {
        "total_parameters": sum(x.size for x in expected.values()),
        "total_size": sum(x.nbytes for x in expected.values()),
    }
    assert_same(hub.load(tmp_path / "shards")[1], whole)


def test_hidden_files_are_no_weights(tmp_path):
    """macOS leaves a `._name` beside each file that it copies to another file system."""
    for name in ("model-of-ours.safetensors", "._model-of-ours.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in files.shards(tmp_path)] == ["model-of-ours.safetensors"]
    (tmp_path / "model-of-ours.safetensors").unlink()
    (tmp_path / flax_trees.SINGLE).write_bytes(b"")
    assert flax_trees.alone(tmp_path)


def test_one_file_where_everything_fits_and_the_last_writing_is_what_is_read(tmp_path):
    model = MODELS[0]
    variables = published(tmp_path, model, max_shard_size="1GB")
    assert (tmp_path / files.SINGLE).exists() and not (tmp_path / files.INDEX).exists()
    for number, size in enumerate((3_000, "2KB", "1TB", 4_000)):
        variables = jax.tree.map(lambda x: x + 1, variables)
        hub.save(tmp_path, model, variables, max_shard_size=size)
        assert (tmp_path / files.SINGLE).exists() == (number == 2)
        assert_same(hub.load(tmp_path)[1], variables)


@pytest.mark.parametrize(
    ("size", "parsed"), [(1, 1), (5_000, 5_000), ("5GB", 5 * 10**9), ("200mb", 2 * 10**8), ("1.5 KB", 1_500), ("7", 7)]
)
def test_sizes_of_shards(size, parsed):
    assert files.parse_size(size) == parsed


@pytest.mark.parametrize("size", [0, -1, "", "GB", "5XB", "big"])
def test_sizes_that_are_none(size, tmp_path):
    with pytest.raises(ModelError, match=r"max_shard_size=.*: expected a number of bytes, such as '5GB'"):
        published(tmp_path, MODELS[0], max_shard_size=size)


def test_a_failed_write_of_shards_loses_nothing(tmp_path, monkeypatch):
    model = MODELS[0]
    variables = published(tmp_path, model, max_shard_size=2_000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write, calls = files.save_file, []

    def full(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return write(*arguments, **settings)

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(
        ModelError, match=r"cannot write .*00003-of.*No space left.* what was there before is untouched"
    ):
        hub.save(tmp_path, model, jax.tree.map(lambda x: x + 1, variables), max_shard_size=2_000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
