"""Pictures a second of the host, for each process that prepares them: JPEG to a random part of 224 × 224.

    python -m experiments.benchmarks.image_pipeline                     on photographs made of scikit-learn's two
    python -m experiments.benchmarks.image_pipeline --source FOLDER     on a folder of class folders

Each way is timed in turn, several times, and its best round counts: other work on the machine can only slow it down. The time is
that of the processor, which a process has to itself on a machine that is not shared; of the loader that of the clock.
`plain` is what torchvision's `RandomResizedCrop` does with Pillow: decode whole, cut, resize. (Flips happen on the device.)
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data.augmentation import Augmentation
from data.host_augmentation import random_box
from data.images import ImageExamples, Images, PreparedImages
from data.loader import load
from data.text import Form

SIZE, BATCH, ROUNDS = 224, 32, 3
FORM = Form((), SIZE, SIZE)


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


def plain(examples: ImageExamples, indices: np.ndarray) -> None:
    """The same work without ours: see above."""
    settings, generator = examples.images, np.random.default_rng(int(indices[0]))
    for place in examples.places[indices % len(examples)]:
        with Image.open(str(examples.pictures[int(place)].source)) as image:
            image = image.convert("RGB")
        box = random_box(generator, (image.height, image.width), settings.scale, settings.ratio)
        np.asarray(image.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


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
        return Images(source=source, **settings).prepare(0, Path(), lambda said: None)

    ours, held_out = prepared().training(FORM, 0), prepared(held_out=0.5).held_out(FORM)
    augmented = prepared(rand_augment=2).training(FORM, 0)
    mixed = prepared(augment=Augmentation(mixup=0.2)).training(FORM, 0)
    ways: dict[str, Callable[[], float]] = {
        "plain Pillow": lambda: rate(lambda indices: plain(ours, indices), seconds),
        "a random part": lambda: rate(ours.batch, seconds),
        "the same, and RandAugment": lambda: rate(augmented.batch, seconds),
        "the first, and another picture to mix": lambda: rate(mixed.batch, seconds),
        "held out: resized, the middle": lambda: rate(lambda indices: held_out.batch(indices % len(held_out)), seconds),
    }
    for count in workers:
        ways[f"the loader, {count} worker(s)"] = lambda count=count: loaded_rate(ours, count, seconds)
    best = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = max(best[name], way())
    return list(best.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a folder of class folders")
    parser.add_argument("--width", type=int, default=500, help="of the photographs made where there is no source")
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1], help="processes of the loader")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each of three rounds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or str(photographs(Path(folder) / "pictures", arguments.width, arguments.height))
        rows = measure(source, arguments.workers, arguments.seconds)
    print(f"{os.cpu_count()} CPUs, Pillow {Image.__version__}\n\n| | pictures/s | ms each |\n|---|---|---|")
    for name, found in rows:
        print(f"| {name} | {found:.0f} | {1000 / found:.2f} |")


if __name__ == "__main__":
    main()
