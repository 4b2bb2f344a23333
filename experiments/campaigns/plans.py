"""The plans of docs/plans.md: BERT, the text family and image models on TPU slices that are not there, from the compiled
train step.

    make plans                                         all of them, at about a minute of two cores a program
    make plans PLANS=--resume                          those that docs/plans.json does not hold yet
    make plans PLANS='--only images'                   the image models' again; the others stay
    make plans PLANS='--only speech'                   of models of recordings
    make plans PLANS='--only scenes'                   of detectors, segmenters and depth
    make plans PLANS='--resume --only family'          of the text family those that are not there
    make plans PLANS='--only kernels'                  those with and without kernels, side by side

Every configuration of BERT has 32 sequences a chip and the published number of examples, 256 million. Of the remat policies
the cheapest that fits is taken; one refused on a slice is not tried again on a larger slice of the same chips. The others
are recipes as they stand, with a layout that fits.
"""

import argparse
import dataclasses
import itertools
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import jax

from experiments.benchmarks.pages import DOCS, fill, markdown
from experiments.experiment import Experiment, load
from experiments.plan import POLICIES, PhasePlan, plan
from training.hardware import GIB, machine
from training.parallel import Parallel
from training.planning.isolation import CompilerCrash, isolated
from training.planning.topologies import parse_topology

RECORDS, PAGE = DOCS / "plans.json", DOCS / "plans.md"
RECIPES = "experiments/bert/pretrain.py"
TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v4:4x4x4", "v6e:4x4")
ROWS, EXAMPLES = 32, 256_000_000
LAYOUTS = {"pmap": Parallel(), "jit, data 256": Parallel("jit"), "jit, data 16 × fsdp 16": Parallel("jit", fsdp=16)}
FAMILY = {
    "GPT-2 xl": ("experiments/gpt2/pretrain.py:xl", {"fsdp": 16}, "dots"),
    "BART-large": ("experiments/bart/pretrain.py:large", {"fsdp": 16}, "full"),
    "T5-3B": ("experiments/t5/pretrain.py:t5_3b", {"fsdp": 64}, "full"),
    "Llama-3-8B": ("experiments/llama/pretrain.py:llama3_8b", {"fsdp": 64, "tensor": 4, "micro_batches": 8}, "full"),
}
"""Name: recipe, layout under `jit`, remat policy."""
IMAGES = {
    "ViT-L/16": ("experiments/vit/pretrain.py:large_16", {}, "none"),
    "ConvNeXt-XL": ("experiments/convnext/pretrain.py:xlarge", {}, "none"),
}
"""The same of image models, under `pmap`."""
SPEECH = {
    **{
        f"Wav2Vec2-large, {seconds} s": ("experiments/wav2vec2/pretrain.py:large", {}, "dots")
        for seconds in (20, 15, 10)
    },
    "Whisper-large, 30 s": ("experiments/whisper/pretrain.py:large", {"fsdp": 16}, "full"),
}
"""The same of models of recordings, by the length of a bucket: a program is compiled for each."""
SCENES = {
    "DETR-R50": ("experiments/detr/pretrain.py:resnet_50_500", 64, (800, 1_333)),
    "DETR-R50, lying and standing": ("experiments/detr/pretrain.py:resnet_50_500", 64, (1_333, 1_333)),
    "Mask2Former-Swin-L": ("experiments/mask2former/pretrain.py:panoptic_swin_large", 16, (1_024, 1_024)),
    "GLPN-b4": ("experiments/glpn/pretrain.py:nyu", 16, (448, 576)),
}
"""Name: recipe, pictures in a step, and (height, width) of all, under `pmap` with the cheapest remat policy that fits."""
SCENE_TOPOLOGIES = ("v5e:4x4", "v4:2x2x4")
SECONDS = re.compile(r", (\d+) s$")
OTHERS = {"family": FAMILY, "images": IMAGES, "speech": SPEECH}
KERNELS = {
    "BERT-large, 512": {"kernel": "dots", "reference": "full"},
    "BERT-large, 128": {"kernel": "none", "reference": "none"},
    "GPT-2 xl": {"kernel": "dots", "reference": "dots"},
    "T5-3B": {"kernel": "full", "reference": "full"},
    "Llama-3-8B": {"kernel": "full", "reference": "full"},
}
"""Name: for attention by the kernel and by the reference, the cheapest remat policy that fits."""
FAMILY_TOPOLOGY = "v5e:16x16"


def configuration(variant: str, topology: str, parallel: Parallel, remat: str) -> Experiment:
    """A recipe with 32 sequences a chip, as many examples as published, and other names left alone."""
    experiment = load(f"{RECIPES}:{variant}")
    batch = ROWS * parse_topology(topology).chips
    model = dataclasses.replace(experiment.model, remat=remat)
    return dataclasses.replace(experiment, model=model, parallel=parallel, batch_size=batch, steps=EXAMPLES // batch)


def record(plan: PhasePlan) -> dict[str, Any]:
    """A plan as JSON."""
    values = {
        field.name: vars(plan)[field.name]
        for field in dataclasses.fields(plan)
        if field.name not in ("topology", "program", "collectives", "memory", "kernels")
    }
    kinds = dict.fromkeys(collective.kind for collective in plan.collectives or ())
    largest = plan.program.largest("u32") if plan.program else None
    return {
        **values,
        "memory": dataclasses.asdict(plan.memory),
        "kernels": dataclasses.asdict(plan.kernels),
        "collectives": {k: sum(c.moved for c in plan.collectives if c.kind == k) for k in kinds},
        "largest_u32": largest and [*largest.shape],
        "seconds": [plan.compute_seconds, plan.memory_seconds, plan.network_seconds, plan.step_seconds],
        "items_per_second": plan.items_per_second,
        "mfu": plan.mfu,
        "hours": plan.hours,
        "chips": plan.topology.chips,
    }


def wanted() -> Iterator[tuple[str, str, int, str]]:
    """(variant, topology, phase, layout) of every plan."""
    for variant in ("large", "base"):
        for topology in TOPOLOGIES:
            for phase in (1, 0):
                yield variant, topology, phase, "pmap"
        for layout in LAYOUTS:
            if layout != "pmap" and variant == "large":
                yield variant, "v5e:16x16", 1, layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=("bert", "kernels", "scenes", *OTHERS), help="one of the groups; the others stay as they are"
    )
    parser.add_argument("--resume", action="store_true", help="keep what docs/plans.json holds")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    host = {**isolated(machine), "libtpu": version("libtpu")}
    groups = [arguments.only] if arguments.only else ["bert", "kernels", "scenes", *OTHERS]
    records = {"machine": host, "plans": {}}
    if (arguments.resume or arguments.only) and RECORDS.exists():
        records = json.loads(RECORDS.read_text())
    if not arguments.resume:
        records["plans"] = {key: plan for key, plan in records["plans"].items() if group_of(key) not in groups}
    for group, recipes in OTHERS.items():
        if group in groups:
            plan_recipes(records, recipes)
    if "scenes" in groups:
        plan_scenes(records)
    if "kernels" in groups:
        plan_with_and_without(records)
    for variant, topology, phase, layout in wanted() if "bert" in groups else ():
        key = f"{variant} {topology} {phase} {layout}"
        if key in records["plans"]:
            continue
        chip = topology.partition(":")[0]
        alike = [p for other, p in records["plans"].items() if other.startswith(f"{variant} {chip}:")]
        before = {remat for p in alike if p["phase"] == phase for remat in p["refused"]}
        refused: dict[str, str] = {}
        for remat in POLICIES:
            if remat in before:
                continue
            experiment = configuration(variant, topology, LAYOUTS[layout], remat)
            try:
                tried = isolated(plan, experiment, parse_topology(topology), phase, True)
            except CompilerCrash as crash:
                refused[remat] = str(crash)
                print(key, remat, crash, file=sys.stderr, flush=True)
                continue
            print(key, remat, tried.memory, f"{tried.compile_seconds:.1f} s", file=sys.stderr, flush=True)
            if tried.memory.fits:
                records["plans"][key] = {**record(tried), "phase": phase, "refused": refused}
                break
            refused[remat] = str(tried.memory)
        RECORDS.write_text(json.dumps(records, indent=1) + "\n")
    write_page(records)


def group_of(key: str) -> str:
    """What group the plan of this key belongs to."""
    if key.endswith(tuple(KERNELS["GPT-2 xl"])):
        return "kernels"
    if key.rpartition(" ")[0] in SCENES:
        return "scenes"
    name = key.removesuffix(f" {FAMILY_TOPOLOGY}")
    return next((group for group, recipes in OTHERS.items() if name in recipes), "bert")


def recipe_of(name: str, remat: str) -> tuple[Experiment, int]:
    """A recipe of `KERNELS`, and its phase."""
    if name.startswith("BERT-large"):
        return configuration("large", FAMILY_TOPOLOGY, Parallel(), remat), int(name.endswith("512"))
    reference, layout, _ = FAMILY[name]
    experiment = load(reference)
    model = dataclasses.replace(experiment.model, remat=remat)
    return dataclasses.replace(experiment, model=model, parallel=Parallel("jit", **layout)), 0


def plan_with_and_without(records: dict[str, Any]) -> None:
    """Add the plans of `KERNELS`, with kernels and without, to `records`."""
    for name, policies in KERNELS.items():
        for attention, remat in policies.items():
            key = f"{name} {attention}"
            if key in records["plans"]:
                continue
            experiment, phase = recipe_of(name, remat)
            model = dataclasses.replace(experiment.model, attention=attention)
            experiment = dataclasses.replace(experiment, model=model)
            tried = isolated(plan, experiment, parse_topology(FAMILY_TOPOLOGY), phase, True)
            print(key, tried.memory, f"{tried.compile_seconds:.1f} s", file=sys.stderr, flush=True)
            records["plans"][key] = {**record(tried), "phase": phase, "refused": {}}
            RECORDS.write_text(json.dumps(records, indent=1) + "\n")


def plan_scenes(records: dict[str, Any]) -> None:
    """Add the plans of `SCENES` to `records`."""
    for (name, (reference, batch, size)), topology in itertools.product(SCENES.items(), SCENE_TOPOLOGIES):
        key, refused = f"{name} {topology}", {}
        for remat in () if key in records["plans"] else POLICIES:
            experiment = load(reference)
            (phase,) = experiment.phases
            form = dataclasses.replace(phase.form, size=size, buckets=1)
            model = dataclasses.replace(experiment.model, remat=remat)
            changes = dict(model=model, batch_size=batch, phases=(dataclasses.replace(phase, form=form),))
            tried = isolated(plan, dataclasses.replace(experiment, **changes), parse_topology(topology), 0, True)
            print(key, remat, tried.memory, f"{tried.compile_seconds:.1f} s", file=sys.stderr, flush=True)
            if tried.memory.fits:
                records["plans"][key] = {**record(tried), "phase": 0, "refused": refused}
                RECORDS.write_text(json.dumps(records, indent=1) + "\n")
                break
            refused[remat] = str(tried.memory)


def plan_recipes(records: dict[str, Any], recipes: dict[str, tuple[str, dict[str, int], str]]) -> None:
    """Add the plans of these to `records`."""
    for name, (reference, layout, remat) in recipes.items():
        key = f"{name} {FAMILY_TOPOLOGY}"
        if key in records["plans"]:
            continue
        experiment = load(reference)
        model = dataclasses.replace(experiment.model, remat=remat)
        parallel = Parallel("jit", **layout) if layout else Parallel()
        experiment = dataclasses.replace(experiment, model=model, parallel=parallel)
        if seconds := SECONDS.search(name):
            experiment = of_seconds(experiment, int(seconds[1]))
        tried = isolated(plan, experiment, parse_topology(FAMILY_TOPOLOGY), 0, True)
        print(key, tried.memory, f"{tried.compile_seconds:.1f} s", file=sys.stderr, flush=True)
        records["plans"][key] = {**record(tried), "phase": 0, "refused": {}}
        RECORDS.write_text(json.dumps(records, indent=1) + "\n")


def of_seconds(experiment: Experiment, seconds: int) -> Experiment:
    """A recipe of recordings of one length."""
    (phase,) = experiment.phases
    form = dataclasses.replace(phase.form, length=seconds * experiment.data.sampling_rate, buckets=1)
    return dataclasses.replace(experiment, phases=(dataclasses.replace(phase, form=form),))


def write_page(records: dict[str, Any]) -> None:
    tables = dict(plans=plans_table(records), layouts=layouts_table(records))
    tables |= dict(family=family_table(records, FAMILY, "tokens"), images=family_table(records, IMAGES, "images"))
    tables |= dict(speech=family_table(records, SPEECH, "samples"), scenes=scenes_table(records))
    fill(PAGE, **tables, kernels=kernels_table(records), machine=about(records))


def about(records: dict[str, Any]) -> str:
    host = records["machine"]
    return (
        f"Compiled on {host['cores']} cores of {host['processor']}, JAX {host['jax']}, libtpu {host['libtpu']};"
        f" {min(p['compile_seconds'] for p in records['plans'].values()):.0f} to"
        f" {max(p['compile_seconds'] for p in records['plans'].values()):.0f} s a program, on a machine shared with"
        " other work.\n"
    )


def plans_table(records: dict[str, Any]) -> str:
    head = ["BERT-", "slice", "batch × length", "remat", "memory, GiB", "of which temporaries", "sent, MB (bound)"]
    head += ["arithmetic, ms", "HBM, ms", "network, ms", "step, ms", "tokens/s", "MFU", "hours", "chip-hours"]
    rows = []
    for variant, topology, phase, layout in sorted(wanted(), key=lambda key: (key[0] != "base", key[1], key[2])):
        p = records["plans"].get(f"{variant} {topology} {phase} {layout}")
        if p is None or layout != "pmap":
            continue
        memory = p["memory"]
        rows.append(
            [variant, topology, f"{p['batch_size']:,} × {p['length']}", p["remat"]]
            + [f"{memory['total'] / GIB:.2f} of {memory['limit'] / GIB:.2f}", f"{memory['temporaries'] / GIB:.2f}"]
            + [f"{sum(p['collectives'].values()) / 1e6:,.0f} ({p['bound'] / 1e6:,.0f})"]
            + [f"{seconds * 1e3:.1f}" for seconds in p["seconds"]]
            + [f"{p['items_per_second'] / 1e6:.2f} M", f"{p['mfu']:.0%}"]
            + [f"{p['hours']:.2f}", f"{p['hours'] * p['chips']:,.0f}"]
        )
    return markdown(head, rows)


def family_table(records: dict[str, Any], recipes: dict[str, tuple[str, dict[str, int], str]], unit: str) -> str:
    size = {"tokens": "length", "images": "pixels on a side", "samples": "samples"}[unit]
    head = ["", "recipe and layout", f"steps × batch × {size}", "remat", "memory, GiB", "sent, MB (bound)"]
    head += ["arithmetic, ms", "HBM, ms", "network, ms", "step, ms", f"{unit}/s", "MFU", "hours"]
    rows = []
    for name, (reference, layout, _) in recipes.items():
        p = records["plans"].get(f"{name} {FAMILY_TOPOLOGY}")
        if p is None:
            continue
        memory = p["memory"]
        flags = "--parallel.kind jit " if layout else ""
        flags += "".join(f"--parallel.{field.replace('_', '-')} {size} " for field, size in layout.items())
        rows.append(
            [name, f"`{reference} {flags}--model.remat {p['remat']}`"]
            + [f"{p['steps']:,} × {p['batch_size']:,} × {p['length']:,}", p["remat"]]
            + [f"{memory['total'] / GIB:.2f} of {memory['limit'] / GIB:.2f}"]
            + [f"{sum(p['collectives'].values()) / 1e6:,.0f} ({p['bound'] / 1e6:,.0f})"]
            + [f"{seconds * 1e3:,.0f}" for seconds in p["seconds"]]
            + [f"{p['items_per_second'] / 1e6:.2f} M", f"{p['mfu']:.0%}", f"{p['hours']:,.0f}"]
        )
    return markdown(head, rows)


def scenes_table(records: dict[str, Any]) -> str:
    head = ["", "recipe", "slice", "batch × canvas", "remat", "memory, GiB", "of which temporaries", "sent, MB (bound)"]
    head += ["arithmetic, ms", "HBM, ms", "network, ms", "step, ms", "images/s", "MFU"]
    rows = []
    for (name, (reference, batch, size)), topology in itertools.product(SCENES.items(), SCENE_TOPOLOGIES):
        p = records["plans"].get(f"{name} {topology}")
        if p is None:
            continue
        memory, canvas = p["memory"], f"{batch} × {size[0]:,} × {size[1]:,}"
        rows.append(
            [name, f"`{reference}`", topology, canvas, p["remat"]]
            + [f"{memory['total'] / GIB:.2f} of {memory['limit'] / GIB:.2f}", f"{memory['temporaries'] / GIB:.2f}"]
            + [f"{sum(p['collectives'].values()) / 1e6:,.0f} ({p['bound'] / 1e6:,.0f})"]
            + [f"{seconds * 1e3:,.1f}" for seconds in p["seconds"]]
            + [f"{p['items_per_second']:,.0f}", f"{p['mfu']:.0%}"]
        )
    return markdown(head, rows)


def kernels_table(records: dict[str, Any]) -> str:
    head = ["", "batch × length", "attention, remat", "memory, GiB", "of which temporaries", "arithmetic, ms"]
    head += ["of which kernels, by formula", "HBM, ms", "network, ms", "step, ms", "step ×", "temporaries ×"]
    rows = []
    for name, policies in KERNELS.items():
        plans = [records["plans"].get(f"{name} {attention}") for attention in policies]
        if None in plans:
            continue
        for attention, p in zip(policies, plans, strict=True):
            memory, before = p["memory"], plans[-1]
            share = p["kernels"]["flops"] / p["executed_flops"] if p["kernels"]["calls"] else 0
            rows.append(
                [name, f"{p['batch_size']:,} × {p['length']:,}", f"{attention}, {p['remat']}"]
                + [f"{memory['total'] / GIB:.2f} of {memory['limit'] / GIB:.2f}", f"{memory['temporaries'] / GIB:.2f}"]
                + [f"{p['seconds'][0] * 1e3:,.1f}", f"{share * p['seconds'][0] * 1e3:,.1f}"]
                + [f"{seconds * 1e3:,.1f}" for seconds in p["seconds"][1:]]
                + [f"{p['seconds'][-1] / before['seconds'][-1]:.2f}"]
                + [f"{memory['temporaries'] / before['memory']['temporaries']:.2f}"]
            )
    return markdown(head, rows)


def layouts_table(records: dict[str, Any]) -> str:
    head = [
        "layout",
        "remat",
        "memory, GiB",
        "temporaries, GiB",
        "parameters and moments, GiB",
        "sent, MB",
        "bound, MB",
    ]
    rows = []
    for layout in LAYOUTS:
        p = records["plans"].get(f"large v5e:16x16 1 {layout}")
        if p is None:
            continue
        memory = p["memory"]
        kinds = ", ".join(f"{kind} {moved / 1e6:,.0f}" for kind, moved in p["collectives"].items())
        state = memory["parameters"] + memory["optimizer"]
        sizes = [f"{size / GIB:.2f}" for size in (memory["total"], memory["temporaries"], state)]
        words = " × ".join(map(str, p["largest_u32"] or []))
        rows.append([layout, p["remat"], *sizes, kinds, f"{p['bound'] / 1e6:,.0f}", words])
    return markdown([*head, "largest array of 32-bit words"], rows)


if __name__ == "__main__":
    main()
