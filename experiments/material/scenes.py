"""Scenes of real things as folders in COCO's format, for `--data.source FOLDER`: stamps on photographs, and nuclei of cells.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb tuxpaint-stamps
    python -m experiments.material.scenes stamps tuxpaint-stamps FOLDER
    pip download --no-deps stardist==0.9.2 && unzip stardist-*.whl 'stardist/data/images/*'
    python -m experiments.material.scenes nuclei stardist/data/images FOLDER

Tux Paint's stamps (GPL-2) are cut out, most of them photographs; each is pasted in several sizes on parts of the two photographs
of scikit-learn, later ones over earlier ones, and its mask is what is seen of it. Its class is its first category. One stamp of
five, and the right quarter of the photographs, are on the side that is held out. The microscopy of stardist (BSD-3) is one
picture of 512 × 512 pixels with 125 nuclei: windows of 128 pixels of its left three quarters are trained on, the right quarter
is held out.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.digit_scenes.composing import Material, background, material
from experiments.material.pictures import FEWEST, STAMPS

SEED, SIDES = 0, ("train", "validation")
COUNTS = {"train": 1_500, "validation": 200}
SIZE = (128, 160)
SMALLEST, LARGEST = 32, 96
"""The longer edge of a pasted stamp."""
SEEN = 0.3
"""Of a stamp: what is covered by more than the rest is no object."""
WINDOW, STEP, FEWEST_PIXELS = 128, 32, 20
MIRRORED = "_mirror"


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A picture and its objects: a class and a mask each."""

    picture: np.ndarray
    objects: list[tuple[int, np.ndarray]]


def cut_outs(package: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[int, Image.Image]]]]:
    """The categories, and by side the stamps that have something cut out of them, each with its class."""
    root, by_category = package / STAMPS, {}
    for path in sorted(root.rglob("*.png")):
        if not path.stem.endswith(MIRRORED):
            by_category.setdefault(path.relative_to(root).parts[0], []).append(path)
    names = tuple(name for name, paths in by_category.items() if len(paths) >= FEWEST)
    sides: dict[str, list] = {side: [] for side in SIDES}
    for label, name in enumerate(names):
        for number, path in enumerate(by_category[name]):
            with Image.open(path) as stamp:
                image = stamp.convert("RGBA")
            opaque = np.asarray(image)[..., 3] > 127
            if 0.02 < opaque.mean() < 0.98:
                sides[SIDES[number % 5 == 4]].append((label, image.crop(Image.fromarray(opaque).getbbox())))
    return names, sides


def pasted(generator: np.random.Generator, stamps: list[tuple[int, Image.Image]], photographs: Material) -> Drawn:
    """One to five stamps on a part of a photograph."""
    picture = Image.fromarray(background(generator, photographs, *SIZE).round().astype(np.uint8))
    objects: list[tuple[int, np.ndarray, int]] = []
    for _ in range(int(generator.integers(1, 6))):
        label, stamp = stamps[generator.integers(len(stamps))]
        edge = float(generator.uniform(SMALLEST, LARGEST)) / max(stamp.size)
        size = (max(1, round(stamp.width * edge)), max(1, round(stamp.height * edge)))
        stamp = stamp.resize(size, Image.Resampling.BILINEAR)
        place = tuple(int(generator.integers(whole - part + 1)) for whole, part in zip(SIZE[::-1], size, strict=True))
        picture.paste(stamp, place, stamp)
        mask = np.zeros(SIZE, bool)
        opaque = np.asarray(stamp)[..., 3] > 127
        mask[place[1] : place[1] + size[1], place[0] : place[0] + size[0]] = opaque
        objects = [(one, seen & ~mask, whole) for one, seen, whole in objects]
        objects.append((label, mask, int(mask.sum())))
    return Drawn(np.asarray(picture), [(one, seen) for one, seen, whole in objects if seen.sum() > SEEN * whole])


def composites(package: Path, side: str) -> tuple[tuple[str, ...], Iterator[Drawn]]:
    """The classes, and the scenes of a side."""
    names, sides = cut_outs(package)
    photographs = material(held_out=side != "train")
    draws = (np.random.default_rng([SEED, SIDES.index(side), number]) for number in range(COUNTS[side]))
    return names, (pasted(draw, sides[side], photographs) for draw in draws)


def nuclei(folder: Path, side: str) -> tuple[tuple[str, ...], Iterator[Drawn]]:
    """The class, and the windows of a side."""
    with Image.open(folder / "img2d.tif") as image, Image.open(folder / "mask2d.tif") as numbers:
        values, segments = np.asarray(image).astype(np.float64), np.asarray(numbers).astype(np.int64)
    grey = np.clip(255 * values / np.quantile(values, 0.998), 0, 255).astype(np.uint8)
    cut = values.shape[1] - WINDOW
    columns = range(0, cut - WINDOW + 1, STEP) if side == "train" else (cut,)
    rows = range(0, values.shape[0] - WINDOW + 1, STEP if side == "train" else WINDOW)

    def windows() -> Iterator[Drawn]:
        for top in rows:
            for left in columns:
                here = np.s_[top : top + WINDOW, left : left + WINDOW]
                masks = [segments[here] == one for one in np.unique(segments[here]) if one]
                kept = [(0, mask) for mask in masks if mask.sum() >= FEWEST_PIXELS]
                yield Drawn(np.repeat(grey[here][..., None], 3, axis=2), kept)

    return ("nucleus",), windows()


def write(folder: Path, side: str, names: tuple[str, ...], scenes: Iterator[Drawn]) -> int:
    """Write a side in COCO's format; the number of its pictures."""
    from pycocotools import mask as library

    (folder / side).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes):
        name = f"{number:05d}.png"
        Image.fromarray(scene.picture).save(folder / side / name)
        height, width = scene.picture.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for label, seen in scene.objects:
            runs = library.encode(np.asfortranarray(seen.astype(np.uint8)))
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0}
            one |= {"bbox": library.toBbox(runs).tolist(), "area": float(library.area(runs))}
            annotations.append(one | {"segmentation": {"size": [height, width], "counts": runs["counts"].decode()}})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(names)]
    told = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{side}.json").write_text(json.dumps(told), encoding="utf-8")
    return len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stamps", "nuclei"))
    parser.add_argument("package", type=Path, help="the unpacked Debian package, or stardist's folder of pictures")
    parser.add_argument("folder", type=Path, help="where pictures and annotations go")
    arguments = parser.parse_args()
    for side in SIDES:
        names, scenes = (composites if arguments.what == "stamps" else nuclei)(arguments.package, side)
        print(f"{side}: {write(arguments.folder, side, names, scenes):,} pictures, of {', '.join(names)}")


if __name__ == "__main__":
    main()
