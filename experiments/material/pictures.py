"""Real pictures as folders of classes, for `--data.source FOLDER`: handwritten digits, and stamps of animals, plants, things.

    apt-get download opencv-doc && dpkg -x opencv-doc_*.deb opencv-doc
    python -m experiments.material.pictures digits opencv-doc FOLDER
    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb tuxpaint-stamps
    python -m experiments.material.pictures stamps tuxpaint-stamps FOLDER

OpenCV's digits are 5,000 of 20 × 20 pixels, 500 a class (Apache-2.0). Tux Paint's stamps are some 800 pictures, most of them
photographs that were cut out, which are put on white here (GPL-2). A stamp's class is its category.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

DIGITS = Path("usr/share/doc/opencv-doc/examples/data/digits.png")
STAMPS = Path("usr/share/tuxpaint/stamps")

FEWEST = 8
"""Stamps of a category, below which it is left out."""

Picture = tuple[str, str, Image.Image]
"""A class, the name of a picture in it, and the picture."""


def digits(package: Path) -> Iterator[Picture]:
    """The digits of the Debian package opencv-doc unpacked at `package`: 50 rows of 100 in one picture, class by class."""
    with Image.open(package / DIGITS) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    pixels = pixels.reshape(50, 20, 100, 20).transpose(0, 2, 1, 3).reshape(10, 500, 20, 20)
    for digit, written in enumerate(pixels):
        for number, image in enumerate(written):
            yield str(digit), f"{number:03d}", Image.fromarray(image)


def stamps(package: Path, depth: int) -> Iterator[Picture]:
    """The stamps of the Debian package tuxpaint-stamps-default unpacked at `package`, on white.

    Args:
        depth: how many of the folders that a stamp lies in name its class: `animals` with 1, `animals-birds` with 2.
    """
    root = package / STAMPS
    by_category: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.png")):
        *folders, _ = path.relative_to(root).parts
        if not path.stem.endswith("_mirror"):  # of a stamp that is there unmirrored, too
            by_category.setdefault("-".join(folders[:depth]), []).append(path)
    for category, paths in by_category.items():
        for path in paths if len(paths) >= FEWEST else ():
            with Image.open(path) as stamp:
                stamp = stamp.convert("RGBA")
            white = Image.new("RGBA", stamp.size, "white")
            name = "-".join(path.relative_to(root).with_suffix("").parts)
            yield category, name, Image.alpha_composite(white, stamp).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("digits", "stamps"))
    parser.add_argument("package", type=Path, help="the unpacked Debian package")
    parser.add_argument("folder", type=Path, help="where the class folders go")
    parser.add_argument("--depth", type=int, default=2, help="folders that name the class of a stamp")
    arguments = parser.parse_args()
    pictures = digits(arguments.package) if arguments.what == "digits" else stamps(arguments.package, arguments.depth)
    for category, name, image in pictures:
        (arguments.folder / category).mkdir(parents=True, exist_ok=True)
        image.save(arguments.folder / category / f"{name}.png")


if __name__ == "__main__":
    main()
