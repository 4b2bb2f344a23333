"""Checkpoint folders, whole and broken: what is read, what is refused, what a failed write leaves behind."""

import dataclasses
import json
import os
import struct
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from models import bert, hub
from models.config import ModelError
from models.hub import files

CONFIG = bert.BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=10,
    labels=("negative", "neutral", "positive"),
)
IDS = jnp.arange(16).reshape(2, 8) + 5
WEIGHTS = "model.safetensors"


def published(folder: Path, head: str = "BertForPreTraining", **changes) -> tuple[nn.Module, dict]:
    """A checkpoint folder as `save` writes it, every parameter different."""
    model = getattr(bert, head)(dataclasses.replace(CONFIG, **changes))
    rng = np.random.default_rng(0)
    values = {
        path: jnp.asarray(rng.normal(size=shape.shape), shape.dtype) for path, shape in hub.shapes_of(model).items()
    }
    variables = {"params": unflatten_dict(values, sep="/")}
    hub.save(folder, model, variables)
    return model, variables


def change_json(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, change) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def renamed(old: str, new: str):
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def assert_same(one: dict, other: dict) -> None:
    one, other = (flatten_dict(variables["params"], sep="/") for variables in (one, other))
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], err_msg=path)


# ── In and out ───────────────────────────────────────────────────────────────────────────────────────────────────────

HEADS = [name for name in vars(bert) if name.startswith("BertFor") or name == "BertModel"]


@pytest.mark.parametrize("head", HEADS)
def test_save_and_load_give_the_same_model(head, tmp_path):
    model, variables = published(tmp_path, head)
    again, loaded = hub.load(tmp_path)
    labelled = head != "BertForQuestionAnswering"
    assert type(again) is type(model)
    assert again.config == (CONFIG if labelled else dataclasses.replace(CONFIG, labels=bert.BertConfig().labels))
    assert_same(loaded, variables)
    ids = IDS[None] if head == "BertForMultipleChoice" else IDS
    for name, value in model.apply(variables, ids).items():
        np.testing.assert_array_equal(again.apply(loaded, ids)[name], value)


def test_published_names_and_layout(tmp_path):
    _, variables = published(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    query = variables["params"]["bert"]["layers"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(tensors["bert.encoder.layer.1.attention.self.query.weight"], query[1].T)
    assert tensors["bert.encoder.layer.0.intermediate.dense.weight"].shape == (24, 16)
    assert "cls.predictions.decoder.weight" not in tensors
    with safe_open(tmp_path / WEIGHTS, "np") as file:
        assert file.metadata() == {"format": "pt"}
    about = json.loads((tmp_path / "config.json").read_text())
    assert (about["architectures"], about["model_type"]) == (["BertForPreTraining"], "bert")
    assert not set(bert.BertConfig.execution) & set(about) - {"dtype"}


def test_boxed_variables_are_saved_too(tmp_path):
    model = bert.BertForMaskedLM(CONFIG)
    boxed = model.init(jax.random.key(0), IDS)
    hub.save(tmp_path, model, boxed)
    assert_same(hub.load(tmp_path)[1], nn.unbox(boxed))


def test_config_changes_and_dtypes(tmp_path):
    published(tmp_path)
    model, variables = hub.load(tmp_path, dtype="bfloat16", param_dtype="bfloat16", scan_layers=True)
    assert model.config.scan_layers and model.apply(variables, IDS).prediction_logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files_become_the_parameter_dtype(dtype, tmp_path):
    _, variables = published(tmp_path, param_dtype=dtype)
    assert {str(value.dtype) for value in load_file(tmp_path / WEIGHTS).values()} == {dtype}
    _, loaded = hub.load(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}
    assert_same(loaded, jax.tree.map(lambda x: x.astype(jnp.float32), variables))


@pytest.mark.parametrize(
    "change",
    [
        renamed("LayerNorm.weight", "LayerNorm.gamma"),
        renamed("LayerNorm.bias", "LayerNorm.beta"),
        renamed("bert.", ""),
        renamed("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        renamed("cls.predictions.bias", "cls.predictions.decoder.bias"),
        lambda tensors: {**tensors, "cls.predictions.decoder.bias": tensors["cls.predictions.bias"]},
        lambda tensors: {
            **tensors,
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        },
        lambda tensors: {**tensors, "bert.embeddings.position_ids": np.arange(10)[None]},
    ],
    ids=["gamma", "beta", "no prefix", "decoder only", "decoder bias only", "both biases", "both tables", "positions"],
)
def test_other_names_of_the_same_tensors(change, tmp_path):
    _, variables = published(tmp_path)
    change_tensors(tmp_path, change)
    assert_same(hub.load(tmp_path)[1], variables)


def shard(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names, where = sorted(tensors), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[number::3]}, folder / file)
        where |= dict.fromkeys(names[number::3], file)
    (folder / files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / WEIGHTS).unlink()


def test_shards(tmp_path):
    _, variables = published(tmp_path)
    shard(tmp_path)
    assert_same(hub.load(tmp_path)[1], variables)


def test_saving_over_a_sharded_folder_is_not_shadowed_by_the_old_shards(tmp_path):
    model, variables = published(tmp_path)
    shard(tmp_path)
    newer = jax.tree.map(lambda x: x + 1, variables)
    hub.save(tmp_path, model, newer)
    assert_same(hub.load(tmp_path)[1], newer)


# ── Heads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("architecture", [None, "BertForMaskedLM", bert.BertForMaskedLM])
def test_heads_nobody_wants_are_left_out_and_it_is_said(architecture, tmp_path, caplog):
    """As in the published bert-base-uncased, which names BertForMaskedLM and holds a pooler and a sentence head."""
    published(tmp_path)
    change_json(tmp_path, architectures=["BertForMaskedLM"])
    with caplog.at_level("INFO", logger="lacuna"):
        model, variables = hub.load(tmp_path, architecture=architecture)
    assert type(model) is bert.BertForMaskedLM and "pooler" not in variables["params"]["bert"]
    (record,) = caplog.records
    assert "bert.pooler.dense.weight" in record.message and "cls.seq_relationship.bias" in record.message
    assert record.levelname == ("WARNING" if architecture is None else "INFO")


def test_a_new_head_wants_a_key(tmp_path, caplog):
    _, old = published(tmp_path, "BertModel")
    with pytest.raises(ModelError, match=r"missing: classifier\.weight, classifier\.bias \(load"):
        hub.load(tmp_path, architecture="BertForSequenceClassification")
    changes = dict(architecture="BertForSequenceClassification", labels=("no", "yes"))
    model, variables = hub.load(tmp_path, initialize=jax.random.key(3), **changes)
    assert "freshly initialised" in caplog.text and "classifier.weight" in caplog.text
    assert variables["params"]["classifier"]["kernel"].shape == (16, 2)
    assert_same({"params": variables["params"]["bert"]}, old)
    assert np.abs(variables["params"]["classifier"]["kernel"]).max() > 0
    assert model.apply(variables, IDS).logits.shape == (2, 2)
    with pytest.raises(ModelError, match="missing"):  # a key makes anew, it does not excuse what does not fit
        change_tensors(tmp_path, lambda tensors: {name: x[:-1] for name, x in tensors.items() if "query" not in name})
        hub.load(tmp_path, initialize=jax.random.key(3), **changes)


@pytest.mark.parametrize("architecture", [None, "BertModel"])
def test_a_base_model_without_pooler(architecture, tmp_path):
    published(tmp_path, "BertForMaskedLM")
    change_json(tmp_path, architectures=["BertModel"])
    change_tensors(tmp_path, lambda tensors: {k: x for k, x in tensors.items() if k.startswith("bert.")})
    model, variables = hub.load(tmp_path, architecture=architecture)
    assert "pooler_output" not in model.apply(variables, IDS)
    model, variables = hub.load(tmp_path, architecture="BertModel", initialize=jax.random.key(0))
    assert model.apply(variables, IDS).pooler_output.shape == (2, 16)


# ── What does not fit ────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_does_not_fit_is_said_at_once(tmp_path):
    published(tmp_path)
    change_json(tmp_path, vocab_size=41)
    change_tensors(
        tmp_path,
        lambda tensors: (
            {name: x for name, x in tensors.items() if "layer.1.output.dense" not in name}
            | {"bert.encoder.layer.0.attention.self.relative.weight": np.zeros(3, np.float32)}
        ),
    )
    with pytest.raises(ModelError) as error:
        hub.load(tmp_path)
    for said in (
        "missing: bert.encoder.layer.1.output.dense.weight, bert.encoder.layer.1.output.dense.bias",
        "unexpected: bert.encoder.layer.0.attention.self.relative.weight",
        "misshapen: bert.embeddings.word_embeddings.weight float32[40, 16] for float32[41, 16], cls.predictions.bias",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "foo.weight": np.zeros(3, np.float32)}, "unexpected: foo.weight"),
        (
            lambda t: {name: x for name, x in t.items() if "decoder" not in name and "pooler" not in name},
            "missing: bert.p",
        ),
        (
            lambda t: {**t, "cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"] + 1},
            "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight",
        ),
        (
            lambda t: {**t, "bert.embeddings.LayerNorm.gamma": t["bert.embeddings.LayerNorm.weight"]},
            "holds bert.embeddings.LayerNorm.weight twice",
        ),
        (lambda t: {name: x.astype(np.int8) for name, x in t.items()}, r"query.weight int8\[16, 16\] for float32"),
        (lambda t: {name: x.T for name, x in t.items()}, r"intermediate.dense.weight float32\[24, 16\] for"),
    ],
    ids=["unknown", "no pooler", "untied", "twice", "quantised", "transposed"],
)
def test_tensors_that_would_give_other_numbers_are_refused(change, message, tmp_path):
    published(tmp_path)
    change_tensors(tmp_path, lambda tensors: {k: np.ascontiguousarray(x) for k, x in change(tensors).items()})
    with pytest.raises(ModelError, match=message):
        hub.load(tmp_path)


@pytest.mark.parametrize("architecture", [None, "BertModel", "BertForQuestionAnswering"])
def test_layers_beyond_the_config_are_refused(architecture, tmp_path):
    published(tmp_path)
    change_json(tmp_path, num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"unexpected: .*encoder.layer.1.attention"):
        hub.load(tmp_path, architecture=architecture)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bort"}, "unknown model_type 'bort': did you mean 'bert'"),
        ({"model_type": None}, "model_type=None"),
        ({"architectures": ["BertForPretraining"]}, "unknown architecture .*did you mean 'BertForPreTraining'"),
        ({"architectures": "BertModel"}, "expected a list of class names"),
        ({"hidden_size": "16"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: expected a whole number"),
        ({"id2label": {"a": "b"}}, "describes no BertConfig"),
        ({"id2label": ["a"]}, "describes no BertConfig"),
        ({"hidden_act": "gelo"}, "unknown activation"),
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_configs_that_cannot_be_used(changes, message, tmp_path):
    published(tmp_path)
    change_json(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        hub.load(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe\x00", b""])
def test_a_config_that_is_no_json(text, tmp_path):
    published(tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"config\.json (is not JSON|holds no JSON object)"):
        hub.load(tmp_path)


def test_a_setting_that_is_not_there(tmp_path):
    published(tmp_path)
    with pytest.raises(ModelError, match="no field 'dtipe': did you mean 'dtype'"):
        hub.load(tmp_path, dtipe="bfloat16")


# ── Broken files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="no checkpoint folder"):
        hub.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        hub.load(tmp_path)
    published(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"has no \*\.safetensors$"):
        hub.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle.*never read.*save_pretrained"):
        hub.load(tmp_path)


def test_indices_that_lead_nowhere(tmp_path):
    published(tmp_path)
    shard(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00003\.safetensors"):
        hub.load(tmp_path)
    for index in ({}, {"weight_map": [1]}, {"weight_map": {"a": 3}}):
        (tmp_path / files.INDEX).write_text(json.dumps(index))
        with pytest.raises(ModelError, match="has no weight_map"):
            hub.load(tmp_path)
    outside = tmp_path.parent / "outside.safetensors"
    outside.write_bytes((tmp_path / "model-00001-of-00003.safetensors").read_bytes())
    (tmp_path / files.INDEX).write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(ModelError, match=r"lacks outside\.safetensors"):
        hub.load(tmp_path)


def header(tensors: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin: int, end: int, shape=(4,), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n",
        header({"a": tensor(0, 16)}, bytes(16), length=2**63),
        header({"a": tensor(0, 16)}, bytes(16), length=1_000),
        header(b"{nope"),
        header(b"\xff\xfe{}"),
        header({"a": tensor(0, 16)}, bytes(8)),
        header({"a": tensor(0, 16)}, bytes(20)),
        header({"a": tensor(0, 2**40, (2**38,))}, bytes(16)),
        header({"a": tensor(0, 16, (5,))}, bytes(16)),
        header({"a": tensor(0, 16, (2**40, 2**40))}, bytes(16)),
        header({"a": tensor(0, 16, (-4,))}, bytes(16)),
        header({"a": tensor(16, 0)}, bytes(16)),
        header({"a": tensor(0, 16, dtype="F99")}, bytes(16)),
        header({"a": tensor(0, 16), "b": tensor(8, 24)}, bytes(24)),
        header({"a": tensor(0, 16), "b": tensor(20, 36)}, bytes(36)),
    ],
    ids=[
        "empty",
        "short",
        "pointer",
        "length of 2**63",
        "length beyond the file",
        "no json",
        "no utf-8",
        "truncated",
        "too long",
        "range",
        "shape",
        "overflow",
        "negative",
        "backwards",
        "dtype",
        "overlap",
        "hole",
    ],
)
def test_files_that_lie_are_refused(content, tmp_path):
    published(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file .*fetch or write it again"):
        hub.load(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_files(share, tmp_path):
    published(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="no whole safetensors file"):
        hub.load(tmp_path)


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fails", ["save_file", "fsync", "replace"])
def test_a_failed_write_loses_nothing(fails, tmp_path, monkeypatch):
    model, variables = published(tmp_path)
    before = contents(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files if fails == "save_file" else os, fails, full)
    with pytest.raises(ModelError, match=r"cannot write .*No space left on device; what was there before is untouched"):
        hub.save(tmp_path, model, jax.tree.map(lambda x: x + 1, variables))
    monkeypatch.undo()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: {**params, "extra": np.zeros(3)}, r"extra \(3,\) for none"),
        (
            lambda params: {name: x for name, x in params.items() if name != "transform"},
            r"transform/kernel missing for",
        ),
        (lambda params: {**params, "predictions_bias": np.zeros(3)}, r"predictions_bias \(3,\) for \(40,\)"),
    ],
    ids=["extra", "missing", "misshapen"],
)
def test_parameters_of_another_model_are_not_written(change, message, tmp_path):
    model, variables = published(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ModelError, match=message):
        hub.save(tmp_path, model, {"params": change(variables["params"])})
    assert contents(tmp_path) == before


def test_places_that_cannot_be_written_or_read(tmp_path):
    model, variables = published(tmp_path / "there")
    with pytest.raises(ModelError, match="cannot make the folder"):
        hub.save(tmp_path / "there" / "config.json", model, variables)
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        hub.save(tmp_path / "new", model, variables, tokenizer=tmp_path / "tokenizer.json")
    assert not (tmp_path / "new").exists()


def test_files_are_as_readable_as_any_other(tmp_path):
    published(tmp_path)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_tokenizer_goes_along(tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    mask = {"id": 4, "content": "[MASK]", "special": True}
    tokenizer.write_text(json.dumps({"added_tokens": [mask], "model": {"vocab": {"[MASK]": 4}}}), encoding="utf-8")
    model, variables = published(tmp_path / "plain")
    hub.save(tmp_path / "there", model, variables, tokenizer=tokenizer)
    assert (tmp_path / "there" / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    about = json.loads((tmp_path / "there" / "tokenizer_config.json").read_text())
    assert about["model_max_length"] == 10 and about["mask_token"] == "[MASK]"


# ── The name tables ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_has_one_published_name(head):
    shapes = hub.shapes_of(getattr(bert, head)(CONFIG))
    names = hub.name_table("bert").by_ours(shapes)
    assert names.keys() == shapes.keys()
    assert len({name.published for name in names.values()}) == len(names)
    for path, name in names.items():
        assert ("{layer}" in name.published) == ("layers/" in path)
