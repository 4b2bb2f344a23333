"""Inputs and predictions of image models, as PNG files and in reports."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from einops import repeat
from jaxtyping import Num, UInt8
from PIL import Image

from experiments.assembly.assembly import Assembly
from experiments.show import scenes
from experiments.show.html import class_guess, classes_asked
from objectives.objective import Example

CAPTION = (
    "Held-out pictures, with the likeliest class, its probability, and the right one where that is another; or as they are,"
    " with the gaps that the model is shown, and with what it puts there; or with what is to be found in them, and what it finds."
)

Pixels = UInt8[np.ndarray, "height width channels"]

LEAST = 112
"""Least height and width of a shown picture."""
GREY = 128


def displayable(
    pixels: Num[np.ndarray, "height width channels"], mean: Sequence[float], std: Sequence[float]
) -> Pixels:
    """Inverts the normalisation of pixels."""
    return np.clip((pixels * np.asarray(std) + np.asarray(mean)) * 255 + 0.5, 0, 255).astype(np.uint8)


def hidden_pixels(mask: Num[np.ndarray, " patches"], height: int, width: int) -> np.ndarray:
    """`[height, width, 1]`, true in masked patches; patches are squares, row by row."""
    side = round((height * width / len(mask)) ** 0.5)
    shape = dict(rows=height // side, columns=width // side, high=side, wide=side)
    return repeat(mask > 0, "(rows columns) -> (rows high) (columns wide) 1", **shape)


def png(pixels: Pixels) -> bytes:
    """A PNG file; small pictures are enlarged by a whole factor without interpolation."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = max(1, -(-LEAST // max(image.size)))
    file = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def beside(pictures: Sequence[Pixels], gap: int = 4) -> Pixels:
    """Pictures of one height side by side."""
    white = np.full((pictures[0].shape[0], gap, pictures[0].shape[2]), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, white)][:-1], axis=1)


def stages(
    given: Pixels, seen: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], normalization: tuple
) -> list[Pixels]:
    """An example as pictures: from the data, as the model's input, and with the model's reconstruction, if it makes one."""
    shown = displayable(seen["pixel_values"], *normalization)
    if "bool_masked_pos" not in seen:
        return [given, shown] if given.shape == shown.shape else [shown]
    hidden = hidden_pixels(seen["bool_masked_pos"], *shown.shape[:2])
    images = [given, np.where(hidden, np.uint8(GREY), shown)]
    if "reconstruction" in outputs:
        images.append(np.where(hidden, displayable(outputs["reconstruction"], *normalization), shown))
    return images


def figure(pixels: Pixels, caption: str) -> str:
    """A picture embedded in HTML; `caption` is HTML."""
    data = base64.b64encode(png(pixels)).decode()
    return f"<figure><img src='data:image/png;base64,{data}' alt=''><figcaption>{caption}</figcaption></figure>"


def guesses(
    assembly: Assembly,
    batch: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> list[str]:
    """Held-out pictures with the predicted class, or with masked patches reconstructed."""
    names = assembly.data.vocabulary.labels
    blocks = []
    for row, given in enumerate(batch["pixel_values"]):
        one = [{name: x[row] for name, x in arrays.items()} for arrays in (seen, outputs)]
        if scenes.is_scene(one[0]):
            blocks.append(figure(beside(scenes.shown(assembly, one[0], given, one[1])), "as it is, asked, found"))
        elif "reconstruction" in outputs:
            blocks.append(figure(beside(stages(given, *one, assembly.normalization)), ""))
        elif "logits" in outputs and outputs["logits"].ndim == 2:
            label = int(seen["labels"][row]) if seen.get("labels", np.zeros(0)).ndim == 1 else None
            blocks.append(figure(given, class_guess(outputs["logits"][row], label, names)))
    return blocks


def explained(assembly: Assembly, before: Example, seen: Example, number: int) -> Iterator[str]:
    """Describes an example, and writes a PNG of it from the data and as the model's input."""
    path = assembly.experiment.run_folder / f"example-{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = [before[name] for name in ("pixel_values", "other_pixel_values") if name in before]
    if scenes.is_scene(seen):
        path.write_bytes(png(beside(scenes.shown(assembly, seen, given[0], {}))))
        yield f"{path}: as the data give it, and what is asked of it"
        yield from scenes.explained(seen, assembly.data.vocabulary.labels)
        return
    path.write_bytes(png(beside([*given, *stages(given[0], seen, {}, assembly.normalization)[1:]])))
    mixed = " (and what is mixed in)" * (len(given) > 1)
    yield f"{path}: as the data give it{mixed}, and as the model sees it"
    values = seen["pixel_values"]
    yield f"pixel_values {values.shape} {values.dtype}, from {values.min():.3f} to {values.max():.3f}"
    yield from classes_asked(seen, assembly.data.vocabulary.labels)
    if "mix" in seen:
        yield f"mix {float(seen['mix']):.3f}: the fraction of the first picture, the rest is the second's"
    if "bool_masked_pos" in seen:
        hidden = seen["bool_masked_pos"]
        yield f"{int(hidden.sum())} of {hidden.size} patches are hidden; their pixels are asked"
