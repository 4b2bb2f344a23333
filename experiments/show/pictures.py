"""Pictures for people: what an image model was shown and what it made of it, as PNG files and in reports."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from einops import repeat
from jaxtyping import Float, Num, UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "height width channels"]

LEAST = 112
"""Pixels on a side that a picture is shown with at least."""
GREY = 128


def displayable(
    pixels: Num[np.ndarray, "height width channels"], mean: Sequence[float], std: Sequence[float]
) -> Pixels:
    """Normalised pixels as they looked before."""
    return np.clip((pixels * np.asarray(std) + np.asarray(mean)) * 255 + 0.5, 0, 255).astype(np.uint8)


def hidden_pixels(mask: Num[np.ndarray, " patches"], height: int, width: int) -> np.ndarray:
    """`[height, width, 1]`, true where a patch is hidden: patches are squares, row by row."""
    side = round((height * width / len(mask)) ** 0.5)
    shape = dict(rows=height // side, columns=width // side, high=side, wide=side)
    return repeat(mask > 0, "(rows columns) -> (rows high) (columns wide) 1", **shape)


def png(pixels: Pixels) -> bytes:
    """A PNG file, small pictures enlarged by a whole factor, each pixel a square."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = max(1, -(-LEAST // max(image.size)))
    file = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def beside(pictures: Sequence[Pixels], gap: int = 4) -> Pixels:
    """Pictures of one height in a row."""
    white = np.full((pictures[0].shape[0], gap, pictures[0].shape[2]), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, white)][:-1], axis=1)


def stages(
    given: Pixels, seen: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], normalization: tuple
) -> list[Pixels]:
    """One example: as the data give it, as the model sees it, and, where it makes a picture, what it made of the gaps."""
    shown = displayable(seen["pixel_values"], *normalization)
    if "bool_masked_pos" not in seen:
        return [given, shown] if given.shape == shown.shape else [shown]
    hidden = hidden_pixels(seen["bool_masked_pos"], *shown.shape[:2])
    found = [given, np.where(hidden, np.uint8(GREY), shown)]
    if "reconstruction" in outputs:
        found.append(np.where(hidden, displayable(outputs["reconstruction"], *normalization), shown))
    return found


def figure(pixels: Pixels, caption: str) -> str:
    """A picture in HTML, the file within; `caption` is HTML."""
    data = base64.b64encode(png(pixels)).decode()
    return f"<figure><img src='data:image/png;base64,{data}' alt=''><figcaption>{caption}</figcaption></figure>"


def verdict(logits: Float[np.ndarray, " classes"], label: int | None, names: Sequence[str]) -> str:
    """The likeliest class with its probability, and the right one where that is another."""
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    guess = int(shares.argmax())
    right = label is None or guess == label
    truth = "" if right else f" <small>✗ {html.escape(names[label])}</small>"
    kind = "right" if right else "wrong"
    return f"<span class='gap {kind}'>{html.escape(names[guess])} <small>{shares[guess]:.0%}</small>{truth}</span>"
