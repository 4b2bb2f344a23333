"""Every recipe of the repository can be made, and the small image models fit their data and objectives."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from experiments import experiment
from experiments.assembly.assemble import assemble
from experiments.commands import parse_experiment
from experiments.commands.train import Options
from experiments.experiment import ExperimentError, experiments_of, load

ROOT = Path(__file__).parents[3]
RECIPES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob("*/*.py"))
RECIPES = [path for path in RECIPES if "/campaigns/" not in path and "-> Experiment" in (ROOT / path).read_text()]


def test_the_recipes_are_found():
    assert len(RECIPES) > 14


@pytest.mark.parametrize("path", RECIPES)
def test_every_variant_can_be_made(path):
    first = load(path)
    module = next(m for name, m in sys.modules.items() if name.startswith("experiment_") and m.__file__.endswith(path))
    made = [variant() for variant in experiments_of(module, module.__name__).values()]
    assert made[0] == first and len({one.name for one in made}) == len(made)
    assert all(isinstance(one, experiment.Experiment) for one in made)


def students() -> dict[str, str]:
    """{reference of a recipe: that of the recipe whose run it names as its teacher}."""
    made = {reference: load(reference) for path in RECIPES for reference in variants(path)}
    by_run = {f"runs/{one.name}/model": reference for reference, one in made.items()}
    return {
        reference: by_run[one.teacher]
        for reference, one in made.items()
        if one.teacher is not None and one.teacher.startswith("runs/")
    }


def variants(path: str) -> list[str]:
    first = load(path)
    module = next(m for name, m in sys.modules.items() if name.startswith("experiment_") and m.__file__.endswith(path))
    assert first.name
    return [f"{path}:{name}" for name in experiments_of(module, module.__name__)]


@pytest.mark.parametrize(("student", "teacher"), students().items())
def test_a_student_fits_the_run_that_it_names_as_its_teacher(student, teacher, tmp_path):
    """Also where one of the two recipes was changed alone: `lacuna train TEACHER`, then `lacuna train STUDENT`."""
    taught, teaching = load(student), load(teacher)
    about = {"architectures": [teaching.architecture], **teaching.model.to_json()}
    (tmp_path / "config.json").write_text(json.dumps(about))
    taught = dataclasses.replace(taught, teacher=str(tmp_path))
    assembly = assemble(taught, data=taught.data.outline(taught.vocabulary_size))
    assert type(assembly.teacher.model).__name__ == teaching.architecture
    assert assembly.teacher.model.config.vocab_size == taught.model.vocab_size
    assert taught.data == teaching.data and max(p.form.length for p in taught.phases) <= max(
        p.form.length for p in teaching.phases
    )


@pytest.mark.parametrize(
    "name", ["vit", "vit:masked_digits", "convnext", "cvt", "levit", "resnet", "segformer", "glpn", "swin"]
)
def test_small_image_models_fit_their_data(name):
    folder, _, variant = name.partition(":")
    recipe = load(f"experiments/{folder}/pretrain.py:{variant}".rstrip(":"))
    parts = assemble(recipe, data=recipe.data.outline(recipe.vocabulary_size))
    assert len(parts.losses) == 1 and parts.work(0)[0] == recipe.batch_size


@pytest.mark.parametrize("path", ["bert/pretrain.py", "transformer/translate.py", "vit/pretrain.py"])
def test_a_description_from_before_forms_is_read(path):
    """A phase had `sequence_length` and `image_size`, and one length of batches; pairs had `target_length`."""
    one = load(f"experiments/{path}")
    forms = [dataclasses.replace(p.form, **{"buckets": 1} if "buckets" in vars(p.form) else {}) for p in one.phases]
    phases = tuple(dataclasses.replace(p, form=form) for p, form in zip(one.phases, forms, strict=True))
    one = dataclasses.replace(one, phases=phases)
    now = one.description()
    before = {**now, "data": dict(now["data"]), "phases": []}
    for phase in now["phases"]:
        form = phase["form"]
        length = form.get("length") or form.get("source") or 128
        before["phases"].append(
            {"share": phase["share"], "sequence_length": length, "image_size": form.get("size", 224)}
        )
        if "target" in form:
            before["data"]["target_length"] = form["target"]
    assert one.today(before) == one.today(now) == now


def test_help_begins_with_what_the_recipe_and_its_variant_say(capsys):
    with pytest.raises(SystemExit) as end:
        parse_experiment("train", ["experiments/bert/pretrain.py:small", "--help"], Options)
    shown = capsys.readouterr().out
    assert end.value.code == 0 and shown.startswith(
        "BERT pretraining: masked tokens and next sentences.\n\nDevlin, Chang"
    )
    assert "A small BERT with the budget of" in shown[: shown.index("usage:")]
    assert shown.index("--profile") < shown.index("--phases.0.trainable")


def test_names_of_flags_from_before_forms(capsys):
    """Both ways to write a value, every form, and what an experiment does not have."""
    gpt2, _ = parse_experiment("train", ["experiments/gpt2/pretrain.py:small", "--phases.0.sequence-length", "64"])
    assert gpt2.phases[0].form.length == 64
    assert "--phases.0.sequence-length is called --phases.0.form.length now" in capsys.readouterr().err
    pairs = ["experiments/transformer/translate.py", "--phases.0.sequence_length=16", "--data.target-length", "9"]
    form = parse_experiment("train", pairs)[0].phases[0].form
    assert (form.source, form.target) == (16, 9)
    vit, _ = parse_experiment("train", ["experiments/vit/pretrain.py", "--phases.0.image-size=96"])
    assert vit.phases[0].form.size == 96
    with pytest.raises(ExperimentError, match="image-size: gpt2-small has no such length"):
        parse_experiment("train", ["experiments/gpt2/pretrain.py:small", "--phases.0.image-size", "9"])
