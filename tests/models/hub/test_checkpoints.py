"""Checkpoint folders in and out: what is read, what is written, what a failed write leaves behind."""

import dataclasses
import json
import os
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from models import bert, hub
from models.config import ModelError
from models.hub import files
from tests.models.hub.folders import BERT, IDS, assert_same, bert_folder, change_json, change_tensors, shard


def renamed(old: str, new: str):
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


# ── In and out ───────────────────────────────────────────────────────────────────────────────────────────────────────


HEADS = [name for name in vars(bert) if name.startswith("BertFor") or name == "BertModel"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("head", HEADS)
def test_save_and_load_give_the_same_model(head, tmp_path):
    model, variables = bert_folder(tmp_path, head)
    again, loaded = hub.load(tmp_path)
    labelled = head != "BertForQuestionAnswering"
    assert type(again) is type(model)
    assert again.config == (BERT if labelled else dataclasses.replace(BERT, labels=bert.BertConfig().labels))
    assert_same(loaded, variables)
    ids = IDS[None] if head == "BertForMultipleChoice" else IDS
    for name, value in model.apply(variables, ids).items():
        np.testing.assert_array_equal(again.apply(loaded, ids)[name], value)


def test_published_names_and_layout(tmp_path):
    _, variables = bert_folder(tmp_path)
    tensors = load_file(tmp_path / files.SINGLE)
    query = variables["params"]["bert"]["layers"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(tensors["bert.encoder.layer.1.attention.self.query.weight"], query[1].T)
    assert tensors["bert.encoder.layer.0.intermediate.dense.weight"].shape == (24, 16)
    assert "cls.predictions.decoder.weight" not in tensors
    with safe_open(tmp_path / files.SINGLE, "np") as file:
        assert file.metadata() == {"format": "pt"}
    about = json.loads((tmp_path / "config.json").read_text())
    assert (about["architectures"], about["model_type"]) == (["BertForPreTraining"], "bert")
    assert not set(bert.BertConfig.execution) & set(about) - {"dtype"}


def test_boxed_variables_are_saved_too(tmp_path):
    model = bert.BertForMaskedLM(BERT)
    boxed = model.init(jax.random.key(0), IDS)
    hub.save(tmp_path, model, boxed)
    assert_same(hub.load(tmp_path)[1], nn.unbox(boxed))


def test_config_changes_and_dtypes(tmp_path):
    bert_folder(tmp_path)
    model, variables = hub.load(tmp_path, dtype="bfloat16", param_dtype="bfloat16", scan_layers=True)
    assert model.config.scan_layers and model.apply(variables, IDS).prediction_logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files_become_the_parameter_dtype(dtype, tmp_path):
    _, variables = bert_folder(tmp_path, param_dtype=dtype)
    assert {str(value.dtype) for value in load_file(tmp_path / files.SINGLE).values()} == {dtype}
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
    _, variables = bert_folder(tmp_path)
    change_tensors(tmp_path, change)
    assert_same(hub.load(tmp_path)[1], variables)


def test_shards(tmp_path):
    _, variables = bert_folder(tmp_path)
    shard(tmp_path)
    assert_same(hub.load(tmp_path)[1], variables)


def test_saving_over_a_sharded_folder_is_not_shadowed_by_the_old_shards(tmp_path):
    model, variables = bert_folder(tmp_path)
    shard(tmp_path)
    newer = jax.tree.map(lambda x: x + 1, variables)
    hub.save(tmp_path, model, newer)
    assert_same(hub.load(tmp_path)[1], newer)


# ── Heads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("architecture", [None, "BertForMaskedLM", bert.BertForMaskedLM])
def test_heads_nobody_wants_are_left_out_and_it_is_said(architecture, tmp_path, caplog):
    """As in the published bert-base-uncased, which names BertForMaskedLM and holds a pooler and a sentence head."""
    bert_folder(tmp_path)
    change_json(tmp_path, architectures=["BertForMaskedLM"])
    with caplog.at_level("INFO", logger="lacuna"):
        model, variables = hub.load(tmp_path, architecture=architecture)
    assert type(model) is bert.BertForMaskedLM and "pooler" not in variables["params"]["bert"]
    (record,) = caplog.records
    assert "bert.pooler.dense.weight" in record.message and "cls.seq_relationship.bias" in record.message
    assert record.levelname == ("WARNING" if architecture is None else "INFO")


def test_a_new_head_wants_a_key(tmp_path, caplog):
    _, old = bert_folder(tmp_path, "BertModel")
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
    bert_folder(tmp_path, "BertForMaskedLM")
    change_json(tmp_path, architectures=["BertModel"])
    change_tensors(tmp_path, lambda tensors: {k: x for k, x in tensors.items() if k.startswith("bert.")})
    model, variables = hub.load(tmp_path, architecture=architecture)
    assert "pooler_output" not in model.apply(variables, IDS)
    model, variables = hub.load(tmp_path, architecture="BertModel", initialize=jax.random.key(0))
    assert model.apply(variables, IDS).pooler_output.shape == (2, 16)


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fails", ["save_file", "fsync", "replace"])
def test_a_failed_write_loses_nothing(fails, tmp_path, monkeypatch):
    model, variables = bert_folder(tmp_path)
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
    model, variables = bert_folder(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ModelError, match=message):
        hub.save(tmp_path, model, {"params": change(variables["params"])})
    assert contents(tmp_path) == before


def test_places_that_cannot_be_written_or_read(tmp_path):
    model, variables = bert_folder(tmp_path / "there")
    with pytest.raises(ModelError, match="cannot make the folder"):
        hub.save(tmp_path / "there" / "config.json", model, variables)
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        hub.save(tmp_path / "new", model, variables, tokenizer=tmp_path / "tokenizer.json")
    assert not (tmp_path / "new").exists()


def test_files_are_as_readable_as_any_other(tmp_path):
    bert_folder(tmp_path)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_tokenizer_goes_along(tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    mask = {"id": 4, "content": "[MASK]", "special": True}
    tokenizer.write_text(json.dumps({"added_tokens": [mask], "model": {"vocab": {"[MASK]": 4}}}), encoding="utf-8")
    model, variables = bert_folder(tmp_path / "plain")
    hub.save(tmp_path / "there", model, variables, tokenizer=tokenizer)
    assert (tmp_path / "there" / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    about = json.loads((tmp_path / "there" / "tokenizer_config.json").read_text())
    assert about["model_max_length"] == 10 and about["mask_token"] == "[MASK]"


# ── The name tables ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_has_one_published_name(head):
    shapes = hub.shapes_of(getattr(bert, head)(BERT))
    names = hub.name_table("bert").by_ours(shapes)
    assert names.keys() == shapes.keys()
    assert len({name.published for name in names.values()}) == len(names)
    for path, name in names.items():
        assert ("{layer}" in name.published) == ("layers/" in path)
