"""A small translator of numbers, English to Spanish; a program that scores a trained one, spread in some way.

python -m tests.experiments.fine_tuning.numbers FOLDER FILE LAYOUT                          in this process
python -m tests.experiments.fine_tuning.numbers FOLDER FILE LAYOUT ADDRESS COUNT NUMBER     as one process of several
"""

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import jax
from flax.core import FrozenDict

from data.forms import PairForm
from data.text.pairs import Pairs
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.translation import Bleu, ChrF
from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import evaluators
from experiments.experiment import Experiment, Phase, load
from inference.tasks.translation import Translation
from models.transformer import TransformerConfig
from training.parallel import Parallel

NUMBERS = {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco"}
LAYOUTS = {"alone": Parallel(devices=1), "pmap": Parallel(), "jit": Parallel("jit", fsdp=2)}
HELD_OUT = 21
"""How many are written: neither 2 nor 4 devices divide them."""


def experiment(folder: Path, **settings) -> Experiment:
    if not (folder / "numbers.tsv").exists():
        lines = [
            f"{' and '.join(words)}\t{' y '.join(map(NUMBERS.get, words))}\n"
            for words in itertools.product(NUMBERS, repeat=4)
        ]
        (folder / "numbers.tsv").write_text("en\tes\n" + "".join(lines))
    base = load("experiments/transformer/translate.py")
    task = Translation(generation=FrozenDict(num_beams=2, max_length=24))
    return dataclasses.replace(
        base,
        model=TransformerConfig(
            vocab_size=320,
            max_position_embeddings=32,
            d_model=32,
            encoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=64,
            dropout=0.0,
        ),
        data=Pairs(
            source=str(folder / "numbers.tsv"), features=("en", "es"), held_out=0.1, cache=str(folder / "cache")
        ),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=1e-2, warmup_steps=20, decay="linear"),
        phases=(Phase(1.0, PairForm(24, 24)),),
        steps=240,
        evaluate_every=80,
        checkpoint_every=80,
        evaluations=(Evaluation("written", (Bleu(), ChrF()), examples=HELD_OUT, task=task),),
        best=Best("written/bleu", more_is_better=True),
        folder=str(folder / "run"),
        **settings,
    )


def scored(folder: Path, layout: str) -> dict[str, float]:
    """The figures of the model that a run left in `folder`."""
    assembly = assemble(experiment(folder, parallel=LAYOUTS[layout], initial_model=str(folder / "run/model")))
    _, written = evaluators(assembly, lambda message: None)
    return written(assembly.initial_state())


def main(folder: str, file: str, layout: str, *place: str) -> None:
    if place:
        address, count, number = place
        jax.distributed.initialize(address, int(count), int(number))
    found = scored(Path(folder), layout)
    if jax.process_index() == 0:
        Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
