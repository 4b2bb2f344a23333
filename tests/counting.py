"""A small language model trained here on documents that count to twelve, each from another number on."""

import dataclasses
import random
from pathlib import Path

from data.forms import TextForm
from data.text.source import Text
from experiments.assembly.assemble import assemble
from experiments.experiment import Phase, load
from models import hub
from training.parallel import Parallel

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
STEPS, LENGTH = 400, 64
SMALL = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": LENGTH},
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": LENGTH,
    },
}
"""Changes of the small recipes' models."""

PROMPTS = {f"Mikoluba counts {' '.join(WORDS[i : i + 3])}": f" {' '.join(WORDS[i + 3 :])}" for i in range(2, 8)}
"""How a document that none is trained on begins, and how it goes on to its end."""


def counting_model(name: str, folder: Path) -> Path:
    """The exported folder of the small recipe `name`, still smaller, after `STEPS` steps."""
    draw = random.Random(0)
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number in range(400):
        who = "".join(draw.choice(["ba", "ko", "mi", "lu", "te", "sa"]) for _ in range(4)).capitalize()
        (texts / f"{number:03}.txt").write_text(f"{who} counts {' '.join(WORDS[draw.randrange(6) :])}")
    recipe = load(f"experiments/{name}/pretrain.py")
    experiment = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, vocab_size=340, **SMALL[name]),
        data=Text(source=str(texts), kind=recipe.data.kind, cache=str(folder / "cache")),
        optimizer=dataclasses.replace(recipe.optimizer, warmup_steps=20),
        steps=STEPS,
        phases=(Phase(1.0, TextForm(LENGTH)),),
        parallel=Parallel(devices=1),
        folder=str(folder / "run"),
    )
    assembly = assemble(experiment)
    state, step = assembly.initial_state(), assembly.compile_train_step()
    for batch in assembly.batches(0, 0):
        state, _ = step(state, assembly.spread.put_batch(batch))
    assembly.data.save(folder, LENGTH)
    variables = assembly.spread.gather(state.variables)
    hub.save(folder / "model", assembly.student, variables, tokenizer=folder / "tokenizer.json")
    return folder / "model"
