"""Where checkpoints come from and go to: shards, trees of the old Flax classes, folders of two generations, hub names."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from data.text import tokenizer_settings
from models import bert, gpt2, hub, llama
from models.config import ModelError
from models.hub import downloads, files, flax_trees

BERT = bert.BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=10,
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
ROOT = Path(__file__).parents[3]


def published(folder: Path, model: nn.Module, **settings) -> dict:
    """A checkpoint folder as `save` writes it, every parameter different; the variables in it."""
    rng = np.random.default_rng(0)
    values = {
        path: jnp.asarray(rng.normal(size=shape.shape), shape.dtype) for path, shape in hub.shapes_of(model).items()
    }
    variables = {"params": unflatten_dict(values, sep="/")}
    hub.save(folder, model, variables, **settings)
    return variables


def change_json(folder: Path, change) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def assert_same(one: dict, other: dict) -> None:
    one, other = (flatten_dict(variables["params"], sep="/") for variables in (one, other))
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], err_msg=path)


# ── Shards ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── Trees of the Flax classes ────────────────────────────────────────────────────────────────────────────────────────


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


# ── Tied heads ───────────────────────────────────────────────────────────────────────────────────────────────────────


def change_tensors(folder: Path, change) -> None:
    save_file(change(load_file(folder / files.SINGLE)), folder / files.SINGLE, metadata={"format": "pt"})


@pytest.mark.parametrize("model", [gpt2.GPT2LMHeadModel(GPT2), llama.LlamaForCausalLM(TIED)])
def test_a_head_that_the_config_ties_may_be_there_if_it_is_the_same(model, tmp_path):
    variables = published(tmp_path, model)
    table = "transformer.wte.weight" if isinstance(model, gpt2.GPT2LMHeadModel) else "model.embed_tokens.weight"
    change_tensors(tmp_path, lambda tensors: {**tensors, "lm_head.weight": tensors[table]})
    assert_same(hub.load(tmp_path)[1], variables)
    change_tensors(tmp_path, lambda tensors: {name: x for name, x in tensors.items() if name != table})
    assert_same(hub.load(tmp_path)[1], variables)
    change_tensors(tmp_path, lambda tensors: {**tensors, table: tensors["lm_head.weight"] + 1})
    with pytest.raises(ModelError, match=f"lm_head.weight differs from {table}, and the config ties them"):
        hub.load(tmp_path)


def test_an_untied_head_is_a_parameter_of_its_own(tmp_path):
    variables = published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    head, table = variables["params"]["lm_head"]["kernel"], variables["params"]["model"]["word_embeddings"]["embedding"]
    assert not np.array_equal(head, table.T)
    np.testing.assert_array_equal(load_file(tmp_path / files.SINGLE)["lm_head.weight"], head.T)
    for missing in ("lm_head.weight", "model.embed_tokens.weight"):
        whole = load_file(tmp_path / files.SINGLE)
        change_tensors(tmp_path, lambda tensors, gone=missing: {n: x for n, x in tensors.items() if n != gone})
        with pytest.raises(ModelError, match=rf"missing: {missing} \(load"):
            hub.load(tmp_path)
        save_file(whole, tmp_path / files.SINGLE)
    base, loaded = hub.load(tmp_path, architecture="LlamaModel")
    assert_same(loaded, {"params": variables["params"]["model"]})
    assert type(base) is llama.LlamaModel


def test_buffers_of_old_llama_files_are_no_parameters(tmp_path):
    variables = published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(2)}
    change_tensors(tmp_path, lambda tensors: {**tensors, **buffers})
    assert_same(hub.load(tmp_path)[1], variables)


# ── Folders of transformers 4 and 5 ──────────────────────────────────────────────────────────────────────────────────

RARE = {  # as transformers 4.57.6 and 5.23 write them beside what we read
    4: {"torch_dtype": "bfloat16", "transformers_version": "4.57.6", "use_cache": True, "pretraining_tp": 1},
    5: {"dtype": "bfloat16", "transformers_version": "5.23.0", "use_cache": True, "attn_implementation": "eager"},
}


@pytest.mark.parametrize("generation", RARE)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_folders_of_two_generations_are_the_same_model(model, generation, tmp_path):
    """The dtype of the file is not taken for ours: parameters become float32, whatever the folder says."""
    variables = published(tmp_path, model)
    change_tensors(tmp_path, lambda tensors: {n: np.asarray(x, jnp.bfloat16) for n, x in tensors.items()})

    def rewritten(config):
        config.pop("dtype")
        if generation == 5 and config["model_type"] == "llama":
            config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}
        return {**config, **RARE[generation]}

    change_json(tmp_path, rewritten)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3, "transformers_version": "4.57.6"}')
    again, loaded = hub.load(tmp_path)
    assert again.config == model.config and type(again) is type(model)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), variables)
    assert_same(loaded, rounded)
    hub.load(tmp_path, dtype="bfloat16", param_dtype="bfloat16")


def test_what_is_written_is_read_by_both_generations(tmp_path):
    """transformers 4 knows `rope_theta` and `rope_scaling`, 5 reads them too; both read `dtype`."""
    published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == 10_000.0 and "rope_parameters" not in config and config["dtype"] == "float32"
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert isinstance(config["rope_scaling"]["original_max_position_embeddings"], int)


# ── Names on the hub ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cached(tmp_path: Path, monkeypatch) -> Path:
    """A cache that holds `some-maker/small-bert` as `huggingface_hub` lays it out, and nothing else."""
    cache, commit = tmp_path / "huggingface" / "hub", "0123456789" * 4
    model = cache / "models--some-maker--small-bert"
    published(model / "snapshots" / commit, MODELS[0])
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return model / "snapshots" / commit


def test_a_hub_name_is_what_the_cache_has(cached):
    assert hub.checkpoint_folder("some-maker/small-bert") == cached
    model, variables = hub.load("some-maker/small-bert")
    assert_same(variables, hub.load(cached)[1])
    assert model.config == BERT


def test_a_folder_of_that_name_comes_first(cached):
    other = published(Path("some-maker/small-bert"), MODELS[2])
    assert_same(hub.load("some-maker/small-bert")[1], other)
    assert hub.checkpoint_folder(Path("some-maker/other")) == Path("some-maker/other")


def test_a_cached_flax_tree_will_do(cached):
    expected = hub.load(cached)[1]
    to_flax(cached)
    assert_same(hub.load("some-maker/small-bert")[1], expected)


def test_all_files_of_tokenizers_are_fetched_from_the_hub():
    names = {
        "tokenizer.json",
        "special_tokens_map.json",
        *(name for names in tokenizer_settings.FILES.values() for name in names),
    }
    assert [name for name in sorted(names) if not any(fnmatch(name, pattern) for pattern in downloads.WANTED)] == []


@pytest.mark.parametrize("name", ["some-maker/large-bert", "small-bert"])
def test_a_name_that_is_not_cached(name, cached):
    with pytest.raises(
        ModelError, match=rf"no checkpoint folder '{name}', and no such model in the .*cache .*: "
    ) as error:
        hub.load(name)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a/b/c", "../there", "/nowhere/at", "runs/demo/model", "", ".hidden/x"])
def test_what_is_no_hub_name_is_a_folder(name, cached):
    with pytest.raises(ModelError, match=r"no checkpoint folder '[^']*'$|has no config.json"):
        hub.load(name)


def test_the_command_line_takes_hub_names(cached):
    """In a process of its own, which finds the cache where HF_HOME says."""
    environment = {
        **os.environ,
        "HF_HOME": str(cached.parents[3]),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    environment.pop("HF_HUB_CACHE", None)

    def told(name: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "experiments.cli", "import", name]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    found = told("some-maker/small-bert")
    assert found.returncode == 0 and found.stdout.startswith("BertForPreTraining: "), found.stderr
    found = told("some-maker/large-bert")
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1 and "large-bert" in found.stderr


# ── Types of numbers ─────────────────────────────────────────────────────────────────────────────────────────────────


def stored_as(folder: Path, name: str, dtype: str) -> None:
    """Rewrite one tensor's entry as if it were of another type, of a byte a number."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, name: np.zeros(tensors[name].shape, np.uint8)}, path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header[name]["dtype"] = dtype
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[end:])


QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8"])
def test_a_quantised_folder_is_a_sentence(dtype, tmp_path):
    published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    stored_as(tmp_path, QUERY, dtype)
    said = (
        "is stored as" if dtype.startswith("F8") else r"misshapen: model\.layers\.0\.self_attn\.q_proj\.weight u?int8"
    )
    with pytest.raises(ModelError, match=said):
        hub.load(tmp_path)
    change_json(tmp_path, lambda about: {**about, "quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(ModelError, match=rf"is quantised \(fp8: {re.escape(QUERY)} is {dtype}\)") as error:
        hub.load(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_config_says_of_quantisation_does_not_count_where_the_tensors_are_plain(tmp_path):
    variables = published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    change_json(tmp_path, lambda about: {**about, "quantization_config": {"load_in_8bit": False}})
    assert_same(hub.load(tmp_path)[1], variables)


def test_float64_tensors_without_metadata_are_read_exactly(tmp_path):
    variables = published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    path = tmp_path / "model.safetensors"
    save_file({name: x.astype(np.float64) for name, x in load_file(path).items()}, path)
    with files.tensors(tmp_path) as handles:
        assert files.read(handles, QUERY).dtype == np.float64
    assert_same(hub.load(tmp_path)[1], variables)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    {
        "the folder of a run": (
            "run",
            r"run has no config.json: it is the folder of a run, whose model is in .*run/model$",
        ),
        "of one that is not done": ("begun", r"it is the folder of a run without a model yet.*`lacuna export`"),
        "nearly its name": ("run/modle", r"no checkpoint folder '.*modle': the nearest on disk is '.*run/model'"),
        "nearly the run's": ("rum/model", r"the nearest on disk is '.*run/model'"),
        "nothing alike": ("elsewhere", r"no checkpoint folder '[^']*elsewhere'$"),
    }.values(),
)
def test_a_folder_that_holds_no_model_says_where_one_is(tmp_path, asked, sentence):
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelError, match=sentence):
        hub.load(tmp_path / asked)


def test_a_name_that_is_nearly_a_folder_says_so(tmp_path, monkeypatch):
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ModelError, match=r"no checkpoint folder 'my-modell' \(the nearest on disk is 'my-model'\), and no such model"
    ):
        hub.load("my-modell")
