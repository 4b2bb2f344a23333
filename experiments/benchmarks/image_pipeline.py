"""Pictures a second of the host, for each process that prepares them: JPEG to a random part of 224 × 224; torchvision beside.

    python -m experiments.benchmarks.image_pipeline --write             on photographs made of scikit-learn's two; docs/speed.md
    python -m experiments.benchmarks.image_pipeline --source FOLDER     on a folder of class folders

Each way is timed in turn, several times, and its best round counts: other work on the machine can only slow it down. The time is
that of the processor, which a process has to itself on a machine that is not shared; of the loader that of the clock.
torchvision's rows, where it is installed, are its `RandomResizedCrop` on what Pillow decodes, and its `RandAugment` with one
operation: as many as ours does on average, which does each of two with probability 1/2. (Flips and normalisation happen on the
device and are left out on both sides.)
"""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.examples import ImageExamples
from data.images.host_augmentation import random_box
from data.images.source import Images, PreparedImages
from data.loader import load
from experiments.benchmarks.pages import fill, markdown, summary
from experiments.benchmarks.steps import DEFAULT, PAGE, ROOT, processor
from experiments.benchmarks.works import IMAGES

SIZE, BATCH, ROUNDS = 224, 32, 3
FORM = ImageForm(SIZE)
RANDOM_PART = "a random part"
TORCHVISION = importlib.util.find_spec("torchvision") is not None


def photographs(folder: Path, width: int, height: int) -> Path:
    """Class folders of parts of scikit-learn's two photographs, as JPEGs of the size of ImageNet's (500 × 375 on average)."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(64):
            box = random_box(generator, pixels.shape[:2], (0.5, 1.0), (1.0, 1.5))
            part = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box)
            part.save(folder / name / f"{number:02d}.jpg", quality=90)
    return folder


def torchvision_transforms():
    """torchvision's transforms. Its compiled operators, which none of these needs, load beside a torch of the same build
    alone; without them it still wants two declared.
    """
    from torch import library

    try:
        import torchvision.transforms as transforms
    except RuntimeError:
        for name in ("nms", "qnms"):
            library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.transforms as transforms
    return transforms


def torchvision_ways(examples: ImageExamples) -> dict[str, Callable[[np.ndarray], None]]:
    """The same work by torchvision: name → what prepares the pictures of some indices."""
    transforms = torchvision_transforms()
    bicubic, settings = transforms.InterpolationMode.BICUBIC, examples.images
    crop = transforms.RandomResizedCrop(SIZE, settings.scale, settings.ratio, bicubic)
    augment = transforms.RandAugment(num_ops=1, interpolation=bicubic)

    def prepare(alter: Callable[[Image.Image], Image.Image], indices: np.ndarray) -> None:
        for place in examples.places[indices % len(examples)]:
            with Image.open(str(examples.pictures[int(place)].source)) as image:
                np.asarray(alter(image.convert("RGB")))

    return {
        "torchvision: a random part": lambda indices: prepare(crop, indices),
        "torchvision: the same, and RandAugment": lambda indices: prepare(lambda image: augment(crop(image)), indices),
    }


def rate(run: Callable[[np.ndarray], object], seconds: float) -> float:
    """Pictures for a second of the processor, a batch at a time."""
    begin, first = time.process_time(), 0
    while time.process_time() - begin < seconds:
        run(np.arange(first, first + BATCH))
        first += BATCH
    return first / (time.process_time() - begin)


def loaded_rate(examples: ImageExamples, workers: int, seconds: float) -> float:
    """Pictures a second of the loader, once its workers have begun."""
    batches = load(examples, batch_size=BATCH, first_step=0, last_step=1 << 30, workers=workers)
    for _ in range(2 * workers + 2):
        next(batches)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - begin)


def measure(source: str, workers: list[int], seconds: float) -> list[tuple[str, float]]:
    def prepared(**settings) -> PreparedImages:
        return Images(source=source, **settings).prepare(0, Path(), lambda text: None)

    ours, held_out = prepared().training(FORM, 0), prepared(held_out=0.5).held_out(FORM)
    augmented = prepared(rand_augment=2).training(FORM, 0)
    mixed = prepared(augment=Augmentation(mixup=0.2)).training(FORM, 0)
    ways: dict[str, Callable[[], float]] = {
        RANDOM_PART: lambda: rate(ours.batch, seconds),
        "the same, and RandAugment": lambda: rate(augmented.batch, seconds),
        "the first, and another picture to mix": lambda: rate(mixed.batch, seconds),
        "held out: resized, the middle": lambda: rate(lambda indices: held_out.batch(indices % len(held_out)), seconds),
    }
    if TORCHVISION:
        ways |= {name: lambda way=way: rate(way, seconds) for name, way in torchvision_ways(ours).items()}
    for count in workers:
        ways[f"the loader, {count} worker(s)"] = lambda count=count: loaded_rate(ours, count, seconds)
    best = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = max(best[name], way())
    return list(best.items())


def beside_steps(pictures: float) -> str:
    """How a number of pictures a second compares with what the steps of `make bench MODELS=images` take, where it ran."""
    file = ROOT / "build" / "steps.json"
    if not file.exists():
        return ""
    measured = json.loads(file.read_text())
    if measured["processor"] != processor():
        return ""
    taken = {
        model: IMAGES[model].batch / contestant["seconds"]
        for model, contestants in measured["results"].items()
        for contestant in contestants
        if model in IMAGES and contestant["name"] == DEFAULT
    }
    if not taken:
        return ""
    model = max(taken, key=taken.__getitem__)
    return (
        f" Of the steps above {model}'s takes most pictures, {taken[model]:.1f} a second: one process that cuts random parts"
        f" prepares {pictures / taken[model]:.0f} times as many."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a folder of class folders")
    parser.add_argument("--width", type=int, default=500, help="of the photographs made where there is no source")
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1], help="processes of the loader")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each of three rounds")
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or str(photographs(Path(folder) / "pictures", arguments.width, arguments.height))
        rows = measure(source, arguments.workers, arguments.seconds)
    table = markdown(["", "pictures/s", "ms each"], [[name, f"{n:.0f}", f"{1000 / n:.2f}"] for name, n in rows])
    packages = ["pillow", *(["torchvision"] if TORCHVISION else [])]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    caption = f"{processor()}; the best of {ROUNDS} rounds; {versions}.{beside_steps(dict(rows)[RANDOM_PART])}\n"
    print(table, caption, sep="\n")
    if arguments.write:
        fill(PAGE, **{"image pipeline": table, "image pipeline machine": caption})
    summary("image_pipeline", processor=processor(), pictures_per_second=dict(rows))


if __name__ == "__main__":
    main()
