"""`lacuna bench --task generate`: tokens a second, the time to the first token, and how much of the memory bandwidth is used."""

import dataclasses
import statistics
from typing import Any, Literal

import jax
import tyro
from flax import linen as nn
from rich.console import Console

from experiments.benchmarks.decoding import Load, Speed, writing_speed
from experiments.benchmarks.pages import summary
from experiments.commands import console, option, parse_experiment
from experiments.experiment import ExperimentError
from models import hub
from models.model import Model
from training.hardware import machine
from training.progress import working


@dataclasses.dataclass(frozen=True)
class Options:
    """What is written, and how often.

    Attributes:
        texts: prompts that are gone on with at a time.
        beams: of each; 1 takes the likeliest token each time.
        prompt_length: tokens of each prompt, or of the text that an encoder reads.
        new_tokens: of each text.
        rounds: times that all of it is written, after a first one that compiles.
    """

    texts: int = 1
    beams: int = 1
    prompt_length: int = 16
    new_tokens: int = 128
    rounds: int = 5

    def load(self) -> Load:
        if self.rounds < 1:
            raise ExperimentError(f"--rounds {self.rounds}: expected a positive number")
        return Load(self.texts, self.beams, self.prompt_length, self.new_tokens)


@dataclasses.dataclass(frozen=True)
class FolderOptions(Options):
    """Measure how fast a model writes: `lacuna bench --task generate --model openai-community/gpt2`.

    Attributes:
        dtype: what its weights are held in.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


def main(arguments: list[str]) -> None:
    """Of the recipe FILE, with random weights, or of the checkpoint `--model`."""
    folder, rest = option(arguments, "--model")
    if folder is None:
        experiment, options = parse_experiment("bench", rest, Options)
        name, load = experiment.name, options.load()
        config = dataclasses.replace(experiment.model, scan_layers=False, remat="none")  # as of a folder that is opened
        model = hub.model_class(config.model_type, experiment.architecture)(config)
        with working("making random weights", console.print):
            variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    else:
        options = tyro.cli(FolderOptions, args=rest, prog=f"lacuna bench --task generate --model {folder}")
        name, load = folder, options.load()
        with working(f"opening {folder}", console.print):
            model, variables = hub.load(folder, param_dtype=options.dtype)
    console.print(f"compiling, then {options.rounds} rounds that count")
    speed = writing_speed(model, variables, load, options.rounds)
    report(name, model, variables, speed)
    summary(
        "bench",
        task="generate",
        name=name,
        machine=machine(),
        load=dataclasses.asdict(load),
        dtype=model.config.dtype,
        param_dtype=model.config.param_dtype,
        seconds=speed.seconds,
        seconds_to_first_token=speed.first,
        seconds_compiling=speed.compiling,
        tokens_per_second=speed.tokens_per_second,
        bytes_of_a_token=speed.bytes_read,
        bandwidth=speed.bandwidth,
        share_of_bandwidth=speed.share,
    )


def report(name: str, model: Model, variables: dict[str, Any], speed: Speed) -> None:
    """Print what was measured."""
    out, load, config = Console(soft_wrap=True, highlight=False), speed.load, model.config
    parameters = sum(x.size for x in jax.tree.leaves(variables))
    search = "greedy" if load.beams == 1 else f"{load.beams} beams"
    out.print(
        f"{name}: {type(model).__name__}, {parameters:,} parameters in {config.param_dtype}, computed in {config.dtype},"
        f" {load.texts} × {load.new_tokens} tokens behind {load.prompt_length}, {search}"
    )
    for fact, value in machine().items():
        out.print(f"  {fact}: {value}")
    low, high = (load.texts * load.new_tokens / pick(speed.seconds) for pick in (max, min))
    out.print(
        f"tokens/s       {speed.tokens_per_second:,.1f} median of {len(speed.seconds)} ({low:,.1f} to {high:,.1f})"
    )
    out.print(f"first token    {statistics.median(speed.first):.4f} s, the prompt read")
    out.print(f"a token more   {speed.seconds_per_token * 1e3:.2f} ms, of each text")
    out.print(f"compiling      {speed.compiling:.1f} s")
    read = f"{speed.bytes_read / 1e6:,.1f} MB of weights and cache for a token"
    if speed.share is None:
        out.print(f"bandwidth      not known: other work kept the processor busy while it was measured; {read}")
    else:
        out.print(
            f"bandwidth      {speed.share:.0%} of the {speed.bandwidth / 1e9:.0f} GB/s of a sum over 1 GiB; {read}"
        )
