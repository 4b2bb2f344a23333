"""Folders that cannot be read: tensors and configs that do not fit, broken files."""

import json
import struct

import numpy as np
import pytest

from models import hub
from models.config import ModelError
from models.hub import files
from tests.models.hub.folders import bert_folder, change_json, change_tensors, shard

# ── What does not fit ────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_does_not_fit_is_said_at_once(tmp_path):
    bert_folder(tmp_path)
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
    bert_folder(tmp_path)
    change_tensors(tmp_path, lambda tensors: {k: np.ascontiguousarray(x) for k, x in change(tensors).items()})
    with pytest.raises(ModelError, match=message):
        hub.load(tmp_path)


@pytest.mark.parametrize("architecture", [None, "BertModel", "BertForQuestionAnswering"])
def test_layers_beyond_the_config_are_refused(architecture, tmp_path):
    bert_folder(tmp_path)
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
    bert_folder(tmp_path)
    change_json(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        hub.load(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe\x00", b""])
def test_a_config_that_is_no_json(text, tmp_path):
    bert_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"config\.json (is not JSON|holds no JSON object)"):
        hub.load(tmp_path)


def test_a_setting_that_is_not_there(tmp_path):
    bert_folder(tmp_path)
    with pytest.raises(ModelError, match="no field 'dtipe': did you mean 'dtype'"):
        hub.load(tmp_path, dtipe="bfloat16")


# ── Broken files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="no checkpoint folder"):
        hub.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        hub.load(tmp_path)
    bert_folder(tmp_path)
    (tmp_path / files.SINGLE).unlink()
    with pytest.raises(ModelError, match=r"has no \*\.safetensors$"):
        hub.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle.*never read.*save_pretrained"):
        hub.load(tmp_path)


def test_indices_that_lead_nowhere(tmp_path):
    bert_folder(tmp_path)
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
    bert_folder(tmp_path)
    (tmp_path / files.SINGLE).write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file .*fetch or write it again"):
        hub.load(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_files(share, tmp_path):
    bert_folder(tmp_path)
    whole = (tmp_path / files.SINGLE).read_bytes()
    (tmp_path / files.SINGLE).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="no whole safetensors file"):
        hub.load(tmp_path)
