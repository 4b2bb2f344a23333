"""Where checkpoints come from: tied heads, folders of two generations, hub names, types of numbers."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data.text import tokenizer_settings
from models import gpt2, hub, llama
from models.config import ModelError
from models.hub import downloads, files
from tests.models.hub.folders import (
    BERT,
    GPT2,
    LLAMA,
    MODELS,
    TIED,
    assert_same,
    change_json,
    change_tensors,
    published,
    to_flax,
)

ROOT = Path(__file__).parents[3]


# ── Tied heads ───────────────────────────────────────────────────────────────────────────────────────────────────────


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

    path = tmp_path / "config.json"
    path.write_text(json.dumps(rewritten(json.loads(path.read_text()))))
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
    """A cache that holds `some-maker/small-bert` as `huggingface_hub` lays it out, and nothing else.

    The working directory has a folder of its own around it: an error message names the folders that lie beside it.
    """
    cache, commit = tmp_path / "huggingface" / "hub", "0123456789" * 4
    model = cache / "models--some-maker--small-bert"
    published(model / "snapshots" / commit, MODELS[0])
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
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
    change_json(tmp_path, quantization_config={"quant_method": "fp8"})
    with pytest.raises(ModelError, match=rf"is quantised \(fp8: {re.escape(QUERY)} is {dtype}\)") as error:
        hub.load(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_config_says_of_quantisation_does_not_count_where_the_tensors_are_plain(tmp_path):
    variables = published(tmp_path, llama.LlamaForCausalLM(LLAMA))
    change_json(tmp_path, quantization_config={"load_in_8bit": False})
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
