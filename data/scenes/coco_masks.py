"""Masks in COCO's formats: polygons, runs, and runs packed in a text (Lin et al., 2014, arXiv 1405.0312; pycocotools)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data.errors import DataError
from data.scenes.items import Size


def mask_error(segmentation: Any, size: Size | None) -> str:
    """The error in a segmentation; empty if there is no error, or no segmentation."""
    if isinstance(segmentation, Mapping):
        return _runs_error(segmentation, size)
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
                return "has a polygon of less than three points"
            if not _finite(polygon):
                return "has a polygon with a point that is no pair of numbers"
        return ""
    return "" if segmentation is None else f"has a segmentation of {type(segmentation).__name__}"


def _finite(numbers: list[Any]) -> bool:
    """Whether all are finite numbers: then their sum is one, which is faster to check."""
    try:
        return math.isfinite(sum(numbers))
    except TypeError:
        return False


def _runs_error(segmentation: Mapping[str, Any], size: Size | None) -> str:
    """The error in a run-length encoding, whose runs fill the picture exactly."""
    if "counts" not in segmentation:
        return "has a segmentation without counts"
    shape, counts = segmentation.get("size"), segmentation["counts"]
    if size is not None and (not isinstance(shape, list | tuple) or tuple(shape) != tuple(size)):
        return f"has a mask of size {shape}, and its picture has {size[0]} × {size[1]} pixels"
    runs = unpacked_runs(counts) if isinstance(counts, str | bytes) else counts
    if not isinstance(runs, list) or not all(isinstance(x, int) and x >= 0 for x in runs):
        return "has a mask whose counts are no lengths of runs"
    if size is not None and sum(runs) != size[0] * size[1]:
        return f"has a mask of {sum(runs):,} pixels, and its picture has {size[0]} × {size[1]}"
    return ""


def unpacked_runs(text: str | bytes) -> list[int] | None:
    """The lengths of the runs in COCO's compressed text; `None` if it is no such text.

    Each length is written with one letter for every 5 bits, the lowest bits first; from the fourth length on it is the difference
    from the length before the previous one.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode() if isinstance(text, str) else text:
        bits = letter - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs if shift == 0 else None


def encoded_mask(segmentation: Any, size: Size) -> dict[str, Any]:
    """The compressed run-length encoding of a mask given as polygons, as runs, or as compressed runs."""
    mask = _mask_library()
    height, width = size
    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask.frPyObjects(segmentation, height, width)
    counts = segmentation["counts"]
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}


def decoded_mask(segmentation: Any, size: Size) -> UInt8[np.ndarray, "height width"]:
    """The pixels of a mask, decoded by COCO's API."""
    return _mask_library().decode(encoded_mask(segmentation, size))


def _mask_library():
    try:
        from pycocotools import mask
    except ModuleNotFoundError:
        raise DataError("masks in COCO's format are read by pycocotools: pip install 'lacuna-jax[scenes]'") from None
    return mask
