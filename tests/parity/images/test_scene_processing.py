"""Processors of scenes give what `transformers` gives: sizes, padding, masks of pixels, pixels to within rounding."""

import numpy as np
import pytest
from PIL import Image

from data.scenes.processor import DETR, GLPN, MASK2FORMER, SceneProcessor, with_edges

pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import AutoImageProcessor
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.glpn.image_processing_pil_glpn import GLPNImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

SIZES = [
    (480, 640),
    (640, 480),
    (500, 333),
    (800, 1334),
    (601, 800),
    (100, 2000),
    (33, 65),
    (97, 64),
    (800, 800),
    (50, 799),
]


def picture(size: tuple[int, int]) -> np.ndarray:
    """Smooth, so that no rounding of coordinates shows."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / (9 + k)) * np.cos(columns / (13 - k)) for k in range(3)]
    return np.round(127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: tuple[int, int]) -> None:
    for ours, theirs in (
        (
            SceneProcessor(shortest=80, longest=133),
            DetrImageProcessorPil(size={"shortest_edge": 80, "longest_edge": 133}),
        ),
        (
            SceneProcessor(MASK2FORMER, shortest=80, longest=133, size_divisor=32),
            Mask2FormerImageProcessorPil(size={"shortest_edge": 80, "longest_edge": 133}),
        ),
        (SceneProcessor(GLPN, size_divisor=32, do_normalize=False), GLPNImageProcessorPil()),
    ):
        values = theirs([Image.fromarray(picture(size))], return_tensors="np")["pixel_values"]
        pixels = ours.pixels(picture(size))
        assert pixels.shape[:2] == ours.resized(size) == values.shape[2:], type(theirs).__name__
        np.testing.assert_allclose(ours.values(pixels), np.moveaxis(values[0], 0, -1), atol=1e-5)


def test_the_published_sizes_of_detr() -> None:
    right = {(800, 1334): (799, 1333), (601, 800): (800, 1064), (500, 333): (1201, 800), (100, 2000): (67, 1333)}
    assert {size: with_edges(size, 800, 1333) for size in right} == right


def test_a_batch_is_padded_below_and_on_the_right() -> None:
    pictures = [picture((60, 90)), picture((90, 60)), picture((64, 64))]
    theirs = DetrImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 80})
    given = theirs([Image.fromarray(one) for one in pictures], return_tensors="np")
    ours = SceneProcessor(shortest=48, longest=80)
    batch = ours.batch([ours.pixels(one) for one in pictures])
    assert (batch["pixel_mask"] == given["pixel_mask"]).all()
    np.testing.assert_allclose(batch["pixel_values"], np.moveaxis(given["pixel_values"], 1, -1), atol=1e-5)
    assert (batch["pixel_values"][batch["pixel_mask"] == 0] == 0).all()


@pytest.mark.parametrize("kind", [DETR, MASK2FORMER, GLPN])
def test_a_file_opens_in_transformers_and_back(kind: str, tmp_path) -> None:
    divisor = 1 if kind == DETR else 32
    ours = SceneProcessor(kind, shortest=96, longest=128, size_divisor=divisor, do_normalize=kind != GLPN)
    if kind == GLPN:
        ours = SceneProcessor(kind, size_divisor=32, do_normalize=False)
    ours.write(tmp_path)
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert type(theirs).__name__.removesuffix("Pil") == kind
    values = theirs([Image.fromarray(picture((70, 110)))], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ours(picture((70, 110))), np.moveaxis(values[0], 0, -1), atol=1e-5)
    theirs.save_pretrained(tmp_path / "again")
    again = SceneProcessor.read(tmp_path / "again")
    assert again.resized((70, 110)) == ours.resized((70, 110)) and SceneProcessor.read(tmp_path) == ours
