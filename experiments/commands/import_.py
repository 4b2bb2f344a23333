"""`lacuna import`: look at a published checkpoint, and make it the start of an experiment."""

import json
from pathlib import Path

import jax

from experiments.folders import refuse_what_is_there, replaced
from models import hub
from models.config import ModelError
from models.hub.beside import Beside
from training.progress import working

USAGE = """usage: lacuna import FOLDER|NAME [TARGET [--force]]

Reads a published checkpoint (a folder, or a name such as google-bert/bert-base-uncased), says what is in it,
and with TARGET writes it again, names and layout as transformers has them today; what lies beside the parameters goes
along (tokenizer, processor, generation settings, texts), and the log names what does not. --force writes over what is there.
To start a run from it: lacuna train FILE --initial-model FOLDER|NAME"""


def main(arguments: list[str]) -> None:
    force = "--force" in arguments
    named = [argument for argument in arguments if argument != "--force"]
    if not 1 <= len(named) <= 2 or any(argument.startswith("-") for argument in named):
        print(USAGE)
        raise SystemExit(0 if {"-h", "--help"} & set(arguments) else 2)
    folder = hub.checkpoint_folder(named[0])
    target = Path(named[1]).expanduser() if len(named) == 2 else None
    if target is not None:
        if target.resolve() == folder.resolve():
            raise ModelError(f"{target} is the checkpoint itself: name another folder to write to")
        refuse_what_is_there(target, force)
    with working(f"reading {folder}"):
        model, variables = hub.load(folder)
    leaves = jax.tree.leaves(variables["params"])
    print(f"{type(model).__name__}: {sum(x.size for x in leaves):,} parameters in {len(leaves)} arrays")
    print(json.dumps(model.config.to_json(), indent=2))
    if target is None:
        return
    beside = Beside.read(folder)
    with working(f"writing {target}"), replaced(target, force) as place:
        hub.save(place, model, variables, beside=beside)
    if beside.files:
        print(f"as it was: {', '.join(map(str, beside.files))}")
    for name, why in beside.left.items():
        print(f"left: {name}, for {why}")
    print(f"written to {target}")
