"""What speech costs beside a train step, and beside torch, on this CPU.

    python -m experiments.benchmarks.speech ctc          the loss and its gradient at 1,000 frames × 32 tokens × 8, and torch's
    python -m experiments.benchmarks.speech contrastive  masks, distractors and loss as a share of a step of Wav2Vec2-base
    python -m experiments.benchmarks.speech loading      seconds of audio that a source reads in a second, and a step does
    python -m experiments.benchmarks.speech all --write  all of it, into docs/speech.md

Times are medians of `--rounds`, those of two sides taken in turn, on as many threads as there are cores.
"""

import argparse
import functools
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.pages import DOCS, fill, markdown, summary
from experiments.benchmarks.steps_worker import assembled, numbered, ours
from experiments.benchmarks.timing import alternately
from experiments.benchmarks.works import AUDIO
from objectives import Ctc
from training.step import corrupted, forward

FRAMES, TOKENS, ROWS, SPELLED = 1_000, 32, 8, 150
"""Of `ctc`: the frames, the vocabulary, the batch, and the tokens of each transcript."""
RATE, RECORDING = 16_000, 15
"""Samples a second, and seconds of each recording that is read."""


def ctc(rounds: int) -> dict[str, float]:
    """Seconds of the loss of random scores with its gradient."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    random = np.random.default_rng(0)
    scores = random.normal(size=(ROWS, FRAMES, TOKENS)).astype(np.float32)
    labels = random.integers(1, TOKENS, (ROWS, SPELLED))
    batch = {"labels": jnp.asarray(labels, jnp.int32), "logit_lengths": jnp.full((ROWS,), FRAMES)}
    compiled = jax.jit(jax.value_and_grad(lambda logits: Ctc().loss({"logits": logits}, batch)["ctc_loss"][0]))
    given, theirs, right = jnp.asarray(scores), torch.from_numpy(scores), torch.from_numpy(labels)
    lengths = torch.full((ROWS,), FRAMES), torch.full((ROWS,), SPELLED)

    def by_torch() -> None:
        leaf = theirs.clone().requires_grad_()
        logs = leaf.log_softmax(-1).transpose(0, 1)
        torch.nn.functional.ctc_loss(logs, right, *lengths, reduction="sum").backward()

    return alternately({"here": lambda: jax.block_until_ready(compiled(given)), "torch": by_torch}, rounds)


def contrastive(rounds: int, name: str = "wav2vec2-base-pretraining") -> dict[str, float]:
    """Seconds of a step, and of what the objective does of it: the corruption, the losses, and their gradient."""
    work = AUDIO[name]
    step, wait = ours(work, "pmap", "float32")
    assembly, (batch,) = assembled(work)
    objective, rows = assembly.training_objective, numbered(work, batch, 0)
    seen, _ = jax.jit(lambda rows: corrupted(objective, 0, rows))(rows)
    variables = {"params": assembly.initial_state().params}
    outputs = jax.jit(functools.partial(forward, assembly.model))(variables, seen)
    kept = {name: x for name, x in outputs.items() if name in {one for names in objective.asks for one in names}}
    floats = {name: x for name, x in kept.items() if jnp.issubdtype(x.dtype, jnp.floating)}

    @jax.jit
    def asked(rows, floats):
        seen, _ = corrupted(objective, 0, rows)
        loss = lambda floats: sum(objective.losses(objective.sums({**kept, **floats}, seen)).values())  # noqa: E731
        return jax.value_and_grad(loss)(floats)

    def stepped() -> None:
        step()
        wait()

    return alternately({"step": stepped, "objective": lambda: jax.block_until_ready(asked(rows, floats))}, rounds)


def loading(rounds: int) -> dict[str, float]:
    """Seconds of audio that are read from FLAC files in a second, resampled, normalised and stacked; and those of a step."""
    import soundfile

    from data.audio.source import Audio
    from data.forms import AudioForm

    random, count = np.random.default_rng(0), 32
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            samples = 0.1 * random.normal(size=RECORDING * RATE).cumsum() / 100
            soundfile.write(Path(folder) / f"{number}.flac", np.clip(samples, -1, 1), RATE)
        prepared = Audio(source=folder, held_out=0.1, cache=f"{folder}/cache").prepare(0, Path(folder), lambda _: None)
        examples = prepared.training(AudioForm(RECORDING * RATE), 0)
        taken = alternately({"read": lambda: examples.batch(np.arange(count))}, rounds)["read"]
    step, wait = ours(AUDIO["wav2vec2-base"], "pmap", "float32")
    per_step = AUDIO["wav2vec2-base"].items[0]

    def stepped() -> None:
        step()
        wait()

    trained = alternately({"step": stepped}, rounds)["step"]
    return {"read": count * RECORDING / taken, "trained on": per_step / trained}


def table(parts: list[str], rounds: int) -> tuple[str, dict]:
    """A row of each part, and its figures."""
    rows, found = [], {}
    if "ctc" in parts:
        found["ctc"] = times = ctc(rounds)
        ratio = times["torch"] / times["here"]
        about = f"CTC with its gradient, {FRAMES:,} frames × {TOKENS} × {ROWS}"
        rows.append([about, f"{times['here']:.3f} s", f"torch {times['torch']:.3f} s", f"{ratio:.2f} times as fast"])
    if "contrastive" in parts:
        found["contrastive"] = times = contrastive(rounds)
        share = times["objective"] / times["step"]
        about = "the contrastive objective of a step of Wav2Vec2-base"
        rows.append([about, f"{times['objective']:.3f} s", f"step {times['step']:.3f} s", f"{share:.1%} of it"])
    if "loading" in parts:
        found["loading"] = speeds = loading(rounds)
        ratio = speeds["read"] / speeds["trained on"]
        about = "seconds of audio read in a second, one thread"
        rows.append([about, f"{speeds['read']:.0f}", f"trained on {speeds['trained on']:.1f}", f"{ratio:.0f} times"])
    return markdown(["", "here", "beside", ""], rows), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("ctc", "contrastive", "loading")
    parser.add_argument("parts", nargs="+", choices=[*parts, "all"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="into docs/speech.md")
    arguments = parser.parse_args()
    rows, found = table(list(parts) if "all" in arguments.parts else arguments.parts, arguments.rounds)
    print(rows)
    if arguments.write:
        fill(DOCS / "speech.md", costs=rows)
    summary("speech", **found)


if __name__ == "__main__":
    main()
