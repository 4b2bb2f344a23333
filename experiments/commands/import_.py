"""`lacuna import`: look at a published checkpoint, and make it the start of an experiment."""

import json
from pathlib import Path

import jax

from data.image_processor import FILE, ImageProcessor
from models import hub
from models.config import ModelError


def main(arguments: list[str]) -> None:
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print(
            "usage: lacuna import FOLDER|NAME [TARGET]\n\nReads a published checkpoint (a folder, or a name such as"
            " google-bert/bert-base-uncased), says what is in it,\nand with TARGET writes it anew, names and layout as"
            " transformers has them today.\nTo start a run from it: lacuna train FILE --initial-model FOLDER|NAME"
        )
        raise SystemExit(0 if {"-h", "--help"} & set(arguments) else 2)
    folder = hub.checkpoint_folder(arguments[0])
    model, variables = hub.load(folder)
    leaves = jax.tree.leaves(variables["params"])
    print(f"{type(model).__name__}: {sum(x.size for x in leaves):,} parameters in {len(leaves)} arrays")
    print(json.dumps(model.config.to_json(), indent=2))
    if len(arguments) == 2:
        target = Path(arguments[1])
        if target.resolve() == folder.resolve():
            raise ModelError(f"{target} is the checkpoint itself: name another folder to write to")
        hub.save(target, model, variables)
        if (folder / FILE).exists():
            ImageProcessor.read(folder, model.config.model_type).write(target)
        print(f"written to {target}")
