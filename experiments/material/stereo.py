"""A real picture with measured depth, in crops, for `experiments/glpn/pretrain.py:stereo`: those of its left two thirds are to
train on, those of the right third held out.

    apt-get download python3-skimage && dpkg -x python3-skimage_*.deb skimage
    python -m experiments.material.stereo skimage stereo

The picture is the left one of the pair Motorcycle (Scharstein et al., "High-Resolution Stereo Datasets with Subpixel-Accurate
Ground Truth", 2014), as scikit-image has it: 741 × 500 pixels with the disparity that was measured with structured light; for
research. Depth is f · b / (disparity + d) by the calibration of the pair. Picture and depth are halved, so that a crop shows
something, and no pixel of a crop that is held out is in one to train on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086
"""Pixels, metres, pixels: the calibration at this size."""
HEIGHT, WIDTH = 96, 128
"""Of a crop."""
STEP = 14
"""Pixels from a crop to train on to the next."""
SCALE = 1_000
"""Numbers of a depth PNG to a metre."""

Crop = tuple[str, str, UInt8[np.ndarray, "height width 3"], Float32[np.ndarray, "height width"]]
"""A split, the name of a crop, its pixels and its depth in metres, 0 where none was measured."""


def halved(package: Path) -> tuple[UInt8[np.ndarray, "height width 3"], Float32[np.ndarray, "height width"]]:
    """The picture and its depth in metres at half the size, of each four measurements the one above and left."""
    (place,) = package.rglob("motorcycle_left.png")
    with Image.open(place) as image:
        picture = image.convert("RGB")
    with np.load(place.with_name("motorcycle_disp.npz")) as file:
        disparity = file[file.files[0]]
    if disparity.shape != (picture.height, picture.width):
        raise ValueError(f"disparity {disparity.shape} of a picture of {picture.height} × {picture.width} pixels")
    known = np.isfinite(disparity) & (disparity > 0)
    depth = np.where(known, FOCAL * BASELINE / (np.where(known, disparity, 0) + OFFSET), 0).astype(np.float32)
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    return np.asarray(half), depth[: 2 * half.height : 2, : 2 * half.width : 2]


def crops(package: Path) -> Iterator[Crop]:
    """Overlapping ones of what lies left of the last column of crops, and that column."""
    picture, depth = halved(package)
    height, width = depth.shape
    held_out = width - WIDTH
    lefts = {"train": range(0, held_out - WIDTH + 1, STEP), "validation": [held_out]}
    for split, columns in lefts.items():
        for top in np.linspace(0, height - HEIGHT, 12 if split == "train" else 4).astype(int).tolist():
            for left in columns:
                part = slice(top, top + HEIGHT), slice(left, left + WIDTH)
                yield split, f"{top:03d}-{left:03d}", picture[part], depth[part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked Debian package")
    parser.add_argument("folder", type=Path, help="where `images` and `depth` go")
    arguments = parser.parse_args()
    for split, name, picture, depth in crops(arguments.package):
        encoded = {"images": picture, "depth": np.round(depth * SCALE).astype(np.uint16)}
        for folder, pixels in encoded.items():
            place = arguments.folder / folder / split
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{name}.png")


if __name__ == "__main__":
    main()
