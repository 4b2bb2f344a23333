"""What the command sets up before it computes."""

import os

import pytest

from experiments import cli

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
