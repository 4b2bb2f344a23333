"""`depth-estimation`: how far away what each pixel of a picture shows is."""

import json
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from inference.readers.scene import SceneReader, Shown
from inference.task import Output, Task
from models.layers.positions import resize_matrix


class DepthEstimation(Task):
    """For each picture `predicted_depth`, an array (height, width) of the picture's size in metres, and `depth`, a grey
    picture of it from black, the nearest, to white, the farthest.

    What the model says is resized to the picture's size with the bicubic kernel of torch, as `transformers` does it; so some
    values may lie a little beyond the model's greatest or below 0.
    """

    name = "depth-estimation"
    reader = SceneReader
    fields = ()
    takes = ("pixel_values",)
    asks = (Output("predicted_depth", "height width"),)
    example = "lacuna predict depth-estimation PICTURE --model {model}"

    def answer(self, reader: SceneReader, given: Any, read: Shown, outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        depth = resized(outputs["predicted_depth"], read.size)
        return {"predicted_depth": depth, "depth": Image.fromarray(grey(depth))}

    def printed(self, answer: dict[str, Any]) -> str:
        """The size of the picture, and the nearest, the mean and the farthest of its depths in metres."""
        depth = answer["predicted_depth"]
        metres = {"nearest": depth.min(), "mean": depth.mean(), "farthest": depth.max()}
        size = dict(zip(("height", "width"), depth.shape, strict=True))
        return json.dumps(size | {name: round(float(value), 4) for name, value in metres.items()})


def resized(
    depth: Float32[np.ndarray, "height width"], size: tuple[int, int]
) -> Float32[np.ndarray, "new_height new_width"]:
    """Depth at another (height, width), bicubic."""
    if depth.shape == size:
        return depth
    rows, columns = (resize_matrix(before, after) for before, after in zip(depth.shape, size, strict=True))
    return rows @ depth @ columns.T


def grey(depth: Float32[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """From 0, the nearest, to 255, the farthest, rounded down; 0 where all are equally far."""
    least, most = depth.min(), depth.max()
    return ((depth - least) / (most - least if most > least else 1) * 255).astype(np.uint8)
