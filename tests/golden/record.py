"""Writes down what every recipe is and does, as text that one can read in a diff.

    python -m tests.golden.record                 everything, some minutes on two cores
    python -m tests.golden.record recipes         all recipes: the resolved settings, the shapes of parameters (`recipes/`)
    python -m tests.golden.record steps           the small ones: loss, gradient norm and examples of five steps (`steps/`)
    python -m tests.golden.record programs        the digest of the program text of planned steps (`programs.txt`)

`--folder FOLDER` writes elsewhere than beside this file. `tests.golden.compare` runs this on two commits.
"""

import argparse
import dataclasses
import hashlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS = 5
INSTALLED = ("wikipedia_dump", "sklearn_digits", "spoken_words", "spoken_sentences")
"""Data sources that come with the packages of the `demo` extra."""
STAND_INS = ("bible.tsv", "stamps")
"""Data sources of small recipes that somebody else has to bring; the steps are recorded on others of their kind."""
PLANNED = ("bert/pretrain.py:base", "gpt2/pretrain.py:small", "convnext/pretrain.py:tiny")
"""Recipes whose train step is written down as a program, on eight devices: under `pmap`, and under `jit` with parameters cut in
four and two micro-batches."""


def recipes() -> dict[str, list[str]]:
    """{`bert/pretrain.py`: its variants}, of every recipe file of the repository."""
    from experiments.experiment import experiments_of, load

    found = {}
    for path in sorted((ROOT / "experiments").glob("*/*.py")):
        if "-> Experiment" in path.read_text() and path.parent.name != "campaigns":
            load(str(path))
            modules = [m for name, m in sys.modules.items() if name.startswith("experiment_")]
            module = next(m for m in modules if Path(m.__file__) == path)
            found[f"{path.parent.name}/{path.name}"] = list(experiments_of(module, module.__name__))
    return found


def small_recipes() -> list[str]:
    """`bert/pretrain.py:demo`, …: those that train on data that are installed with the package."""
    from experiments.experiment import load

    names = [f"{file}:{variant}" for file, variants in recipes().items() for variant in variants]
    return [name for name in names if load(f"experiments/{name}").data.source in INSTALLED + STAND_INS]


def settings(reference: str) -> Iterator[str]:
    """A line for each setting that decides a number, and for each of how the run is kept."""
    from experiments.experiment import load

    try:
        from training.identity import flatten
    except ImportError:  # where it lay in earlier commits
        from training.checkpoints import flatten

    experiment = load(f"experiments/{reference}")
    long: dict[str, list] = {}
    for name, value in flatten(experiment.description() | experiment.bookkeeping()):
        of, _, number = name.rpartition(".")
        if number.isdigit():
            long.setdefault(of, []).append(value)
        else:
            yield f"{name}: {value!r}"
    for name, values in long.items():
        digest = hashlib.sha256(repr(values).encode()).hexdigest()[:16]
        yield f"{name}: {values!r}" if len(values) < 16 else f"{name}: {len(values)} values, sha256 {digest}"


def grouped(lines: Iterable[str]) -> list[str]:
    """Lines that differ in numbers of their paths alone become one, with how many they are before it."""
    counted: dict[str, int] = {}
    for line in lines:
        path, _, rest = line.partition(": ")
        pattern = f"{re.sub(r'(?<=_)[0-9]+(?=/|$)', '*', path)}: {rest}"
        counted[pattern] = counted.get(pattern, 0) + 1
    return [f"{number} x {pattern}" for pattern, number in sorted(counted.items())]


def is_box(x: object) -> bool:
    """Whether a variable carries logical axes."""
    import flax.linen as nn

    return isinstance(x, nn.meta.AxisMetadata)


def shapes(reference: str) -> Iterator[str]:
    """`path: shape dtype axes` of each variable of the model, with its logical axes."""
    import jax

    from experiments.experiment import load
    from models import hub

    experiment = load(f"experiments/{reference}")
    model = hub.model_class(experiment.model.model_type, experiment.architecture)(experiment.model)
    boxed = model.boxed_shapes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=is_box):
        axes, value = (" ".join(map(str, leaf.names)), leaf.unbox()) if is_box(leaf) else ("", leaf)
        name = "/".join(str(getattr(key, "key", key)) for key in path)
        yield f"{name}: {value.shape} {value.dtype} {axes}".rstrip()


def recipe_text(file: str, variants: Iterable[str]) -> str:
    """All variants of a recipe file."""
    parts = []
    for variant in variants:
        reference = f"{file}:{variant}"
        parts += [f"== {reference}", *settings(reference), "", *grouped(shapes(reference)), ""]
    return "\n".join(parts)


def with_teacher(experiment, where: Path):
    """The experiment, its teacher an untrained model of the recipe that it names, where it names one."""
    import jax

    from experiments.assembly.assemble import assemble
    from experiments.experiment import load
    from experiments.finish import export
    from experiments.folders import keep_settings

    if experiment.teacher is None:
        return experiment
    made = {load(f"experiments/{name}").name: name for name in small_recipes()}
    name = made[experiment.teacher.split("/")[1]]
    teacher = dataclasses.replace(load(f"experiments/{name}"), folder=str(where / "teacher"))
    assembly = assemble(teacher)
    (where / "teacher").mkdir()
    assembly.data.save(where / "teacher", teacher.form(-1))
    keep_settings(where / "teacher", assembly.published_tokenizer, None)
    variables = jax.device_get(assembly.spread.gather(assembly.initial_state().variables))
    export(assembly, variables, where / "model")
    return dataclasses.replace(experiment, teacher=str(where / "model"))


def with_data(experiment, where: Path):
    """The experiment, on other data of their kind where its own are `STAND_INS`."""
    if experiment.data.source not in STAND_INS:
        return experiment
    import numpy as np
    from PIL import Image

    rng, source = np.random.default_rng(0), where / experiment.data.source
    if source.suffix == ".tsv":
        numbers = {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco", "six": "seis"}
        sums = itertools.product(numbers, repeat=4)
        rows = [(" and ".join(words), " y ".join(numbers[word] for word in words)) for words in sums]
        source.write_text("en\tes\n" + "".join(f"{one}\t{other}\n" for one, other in rows))
    else:
        for number in range(400):
            folder = source / f"class-{number % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, source=str(source)))


def text_file(reference: str) -> str:
    """Where a recipe is recorded: `bert/pretrain.txt` of `bert/pretrain.py`, `bert/pretrain-demo.txt` of its variant `demo`."""
    return f"{reference.replace('.py', '').replace(':', '-')}.txt"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def steps_text(reference: str) -> str:
    """What the first steps of a recipe measure, a line a step."""
    from experiments.assembly.assemble import assemble
    from experiments.experiment import load

    with tempfile.TemporaryDirectory() as folder:
        experiment = dataclasses.replace(load(f"experiments/{reference}"), folder=f"{folder}/run")
        assembly = assemble(with_data(with_teacher(experiment, Path(folder)), Path(folder)))
        state, step = assembly.initial_state(), assembly.compile_train_step()
        lines = [f"== {reference}"]
        for number, batch in enumerate(itertools.islice(assembly.batches(0, 0), STEPS), start=1):
            state, metrics = step(state, assembly.spread.put_batch(batch))
            metrics = assembly.spread.host(metrics)
            examples = int(metrics.pop("digest"))
            ratios = {name: float(total) / (float(weight) or 1.0) for name, (total, weight) in metrics.items()}
            said = ", ".join(f"{name} {value:.9g}" for name, value in sorted(ratios.items()))
            lines.append(f"step {number}: digest {examples}, {said}")
    return "\n".join([*lines, ""])


def renamed(program: str) -> str:
    """A program's text with its functions numbered in the order of their first mention, whatever they are called."""
    names: dict[str, str] = {}
    return re.sub(r"@[\w.$-]+", lambda match: names.setdefault(match.group(), f"@{len(names)}"), program)


def program_lines() -> list[str]:
    """`recipe, layout, platform: digest`, for TPUs that are not there, too, where libtpu is installed."""
    import importlib.util

    import jax

    from experiments.assembly.assemble import assemble
    from experiments.experiment import load
    from training.parallel import Parallel
    from training.planning.topologies import absent_devices, parse_topology

    platforms = {"cpu": jax.devices("cpu")[:8]}
    if importlib.util.find_spec("libtpu") is not None:
        platforms["tpu"] = absent_devices(parse_topology("v5e:2x4"))
    layouts = {"pmap": Parallel(), "jit": Parallel("jit", fsdp=4, micro_batches=2)}
    lines = []
    for reference, (layout, parallel), (platform, devices) in itertools.product(
        PLANNED, layouts.items(), platforms.items()
    ):
        experiment = dataclasses.replace(load(f"experiments/{reference}"), parallel=parallel)
        source = experiment.data.suited_to(experiment.model.model_type)
        outline = source.outline(experiment.vocabulary_size, experiment.objective.needs)
        assembly = assemble(experiment, data=outline, devices=devices)
        text = renamed(assembly.lower_train_step(0).as_text())
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        lines.append(f"{reference}, {layout}, {platform}: {digest}, {len(text.splitlines())} lines")
    return lines


def record(parts: Iterable[str], folder: Path) -> None:
    """Write the named parts below `folder`."""
    if "recipes" in parts:
        for file, variants in recipes().items():
            write(folder / "recipes" / text_file(file), recipe_text(file, variants))
    if "steps" in parts:
        for reference in small_recipes():  # one device each, as a user has it
            print(reference, file=sys.stderr, flush=True)
            write(folder / "steps" / text_file(reference), steps_text(reference))
    if "programs" in parts:
        code = "import tests.golden.record as r; print('\\n'.join(r.program_lines()))"
        environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE)
        (folder / "programs.txt").write_bytes(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["recipes", "steps", "programs"])
    parser.add_argument("--folder", type=Path, default=HERE)
    arguments = parser.parse_args()
    record(arguments.parts, arguments.folder)


if __name__ == "__main__":
    main()
