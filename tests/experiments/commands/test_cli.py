"""What the command sets up before it computes."""

import os

import pytest

from experiments import cli
from experiments.commands import generate

FLAG = "--xla_gpu_deterministic_ops"


@pytest.mark.parametrize(
    ("installed", "before", "after"),
    {
        "a GPU's plugin": ("jax_cuda13_plugin", "", f"{FLAG}=true"),
        "the older one, beside another flag": ("jax_cuda12_plugin", "--xla_a=1", f"--xla_a=1 {FLAG}=true"),
        "somebody has decided": ("jax_cuda13_plugin", f"{FLAG}=false", f"{FLAG}=false"),
        "no GPU's plugin": ("", "--xla_a=1", "--xla_a=1"),
    }.values(),
)
def test_programs_for_gpus_give_the_same_numbers_every_time(installed, before, after, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name == installed or None)
    monkeypatch.setenv("XLA_FLAGS", before)
    cli.repeat_on_gpus()
    assert os.environ["XLA_FLAGS"] == after


@pytest.mark.parametrize(
    ("installed", "devices", "variables", "platforms"),
    {
        "libtpu and no TPU": (("libtpu",), (), {}, "cpu"),
        "a TPU of an older kind": (("libtpu",), ("accel0",), {}, None),
        "a TPU of a newer kind": (("libtpu",), ("vfio/0",), {}, None),
        "what is no TPU": (("libtpu",), ("vfio/vfio", "nvidia0"), {}, "cpu"),
        "a machine that says it has one": (("libtpu",), (), {"TPU_WORKER_ID": "0"}, None),
        "somebody has decided": (("libtpu",), (), {"JAX_PLATFORMS": "tpu"}, "tpu"),
        "no libtpu": ((), (), {}, None),
        "a GPU beside it": (("libtpu", "jax_cuda13_plugin"), ("nvidia0",), {}, "cuda,cpu"),
        "a GPU's plugin and no GPU": (("libtpu", "jax_cuda13_plugin"), (), {}, "cpu"),
    }.values(),
)
def test_no_tpu_is_looked_for_where_there_is_none(installed, devices, variables, platforms, tmp_path, monkeypatch):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_PLATFORMS", *cli.TPU_NAMES))}
    monkeypatch.setattr(cli.os, "environ", {**kept, **variables})
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name in installed or None)
    for device in devices:
        (tmp_path / device).parent.mkdir(exist_ok=True)
        (tmp_path / device).touch()
    cli.look_for_no_tpu(tmp_path)
    assert os.environ.get("JAX_PLATFORMS") == platforms


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["A text", "--do-sample"], ["A text", "--do-sample", "True"]),
        (["--do-sample", "A text"], ["--do-sample", "True", "A text"]),
        (["A text", "--do-sample", "--top-k", "5"], ["A text", "--do-sample", "True", "--top-k", "5"]),
        (["A text", "--do_sample", "False"], ["A text", "--do_sample", "False"]),
        (["A text", "--early-stopping", "never"], ["A text", "--early-stopping", "never"]),
    ],
)
def test_yes_or_no_may_be_left_out(typed, read):
    assert generate.spelled_out(typed) == read
