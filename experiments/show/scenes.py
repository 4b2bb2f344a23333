"""Drawing of scenes: boxes with labels and scores, masks over pictures, depth in colours."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image, ImageDraw, ImageFont

from experiments.assembly.assembly import Assembly
from inference.scores import softmax
from objectives.losses import IGNORED
from objectives.objective import Example

Pixels = UInt8[np.ndarray, "height width 3"]

HUES = 0.618034
"""Step of the hue from one colour to the next, in turns: neighbours differ, and no hue repeats."""

OPACITY = 0.55
"""Opacity of a mask over the picture."""

SURE = 0.5
"""Least probability of a prediction in a report."""

UNKNOWN = 128
"""The grey of pixels without depth."""

LEAST = 336
"""Least length of the longer edge of a drawn scene, so that labels can be read."""


def color(number: int) -> tuple[int, int, int]:
    """The colour of a class or segment, always the same."""
    image = Image.new("HSV", (1, 1), (int(256 * (number * HUES % 1)), 200, 235))
    return image.convert("RGB").getpixel((0, 0))


def draw_boxes(
    picture: Pixels,
    boxes: Num[np.ndarray, "objects 4"],
    labels: Sequence[str],
    scores: Sequence[float] | None = None,
) -> Pixels:
    """The picture with boxes (left, top, right, bottom, in pixels), each with its label and its score in percent."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    canvas, names = ImageDraw.Draw(image), sorted(set(labels))
    width, font = max(1, round(max(image.size) / 300)), ImageFont.load_default(max(9, round(max(image.size) / 45)))
    for number, (box, label) in enumerate(zip(np.asarray(boxes, float).tolist(), labels, strict=True)):
        left, top, right, bottom = box
        if not (left < right and top < bottom):
            continue
        hue = color(names.index(label))
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=hue, width=width)
        text = label if scores is None else f"{label}: {scores[number]:.0%}"
        _, _, wide, high = canvas.textbbox((0, 0), text, font=font)
        x = min(max(left, 0), max(image.width - wide - 3, 0))
        y = top - high - 2 if top - high - 2 >= 0 else min(top + 1, image.height - high - 2)
        canvas.rectangle((x, y, x + wide + 2, y + high + 1), fill=hue)
        canvas.text((x + 1, y), text, fill=(0, 0, 0), font=font)
    return np.asarray(image)


def draw_masks(picture: Pixels, masks: Num[np.ndarray, "objects height width"], labels: Sequence[str]) -> Pixels:
    """The picture with the masks of objects in colours, each with its label in the middle."""
    shown = np.asarray(picture, np.float32).copy()
    for number, mask in enumerate(np.asarray(masks) > 0):
        shown[mask] += OPACITY * (np.array(color(number), np.float32) - shown[mask])
        edge = mask & ~_inner(mask)
        shown[edge] = color(number)
    image = Image.fromarray(shown.round().astype(np.uint8))
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(max(9, round(max(image.size) / 45)))
    for mask, label in zip(np.asarray(masks) > 0, labels, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            middle = np.argmin(abs(rows - np.median(rows)) + abs(columns - np.median(columns)))
            place = int(columns[middle]), int(rows[middle])
            canvas.text(
                place, label, fill=(255, 255, 255), font=font, anchor="mm", stroke_width=1, stroke_fill=(0, 0, 0)
            )
    return np.asarray(image)


def colour_depth(depth: Float[np.ndarray, "height width"], nearest: float | None = None, farthest: float | None = None):
    """Depth in colours, near ones bright, grey where it is 0 or not finite.

    Args:
        nearest, farthest: range of the colours in metres; `None` for that of the depth.

    Returns:
        uint8 [height, width, 3].
    """
    from matplotlib import colormaps

    depth = np.asarray(depth, np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.full((*depth.shape, 3), UNKNOWN, np.uint8)
    low = depth[known].min() if nearest is None else nearest
    high = depth[known].max() if farthest is None else farthest
    parts = np.clip((depth - low) / max(high - low, 1e-9), 0, 1, where=known, out=np.zeros_like(depth))
    colors = (255 * colormaps["magma_r"](parts)[..., :3]).round().astype(np.uint8)
    return np.where(known[..., None], colors, UNKNOWN).astype(np.uint8)


def _inner(mask: np.ndarray) -> np.ndarray:
    """The interior of a mask: pixels whose four neighbours belong to it."""
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def is_scene(example: Mapping[str, np.ndarray]) -> bool:
    """Whether an example or a batch has targets of objects or depth."""
    return "pixel_mask" in example and ("class_labels" in example or "labels" in example)


def corners(boxes: Num[np.ndarray, "objects 4"], size: tuple[int, int]) -> Float[np.ndarray, "objects 4"]:
    """Boxes (centre x, centre y, width, height) in fractions of a canvas as (left, top, right, bottom) in its pixels."""
    x, y, width, height = np.asarray(boxes, np.float64).T
    edges = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return edges * np.tile(size[::-1], 2)


def within(example: Mapping[str, np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns of the canvas that the picture covers."""
    mask = example["pixel_mask"] > 0
    return slice(0, int(mask.any(axis=1).sum())), slice(0, int(mask.any(axis=0).sum()))


def asked(example: Mapping[str, np.ndarray], picture: Pixels, names: Sequence[str]) -> Pixels:
    """The picture of an example with its targets."""
    here, size = within(example), example["pixel_mask"].shape
    if "class_labels" not in example:
        return larger(colour_depth(example["labels"][here]))
    there = example["class_labels"] != IGNORED
    labels = [names[label] for label in example["class_labels"][there].tolist()]
    if "mask_labels" in example:
        return draw_masks(larger(picture[here]), larger(example["mask_labels"][there][:, *here]), labels)
    factor = scale(picture[here])
    return draw_boxes(larger(picture[here]), factor * corners(example["boxes"][there], size), labels)


def guessed(
    example: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], picture: Pixels, names: Sequence[str]
) -> Pixels | None:
    """The picture of an example with the model's predictions; `None` if it makes none."""
    here, size = within(example), example["pixel_mask"].shape
    if "predicted_depth" in outputs:
        known = example["labels"][example["labels"] > 0] if "labels" in example else np.zeros(0)
        ends = (known.min(), known.max()) if len(known) else (None, None)
        return larger(colour_depth(resized(outputs["predicted_depth"], size)[here], *ends))
    if "masks_queries_logits" in outputs:
        scores = softmax(outputs["class_queries_logits"])
        kept = (scores[:, :-1].max(axis=1) > SURE) & (scores.argmax(axis=1) < len(names))
        masks = resized(outputs["masks_queries_logits"][kept], size)[:, *here] > 0
        labels = [names[label] for label in scores[kept].argmax(axis=1).tolist()]
        return draw_masks(larger(picture[here]), larger(masks), labels)
    if "pred_boxes" in outputs and "guess" in outputs:
        kept = (outputs["guess"] < len(names)) & (outputs["probability"] > SURE)
        labels = [names[label] for label in outputs["guess"][kept].tolist()]
        boxes = scale(picture[here]) * corners(outputs["pred_boxes"][kept], size)
        return draw_boxes(larger(picture[here]), boxes, labels, outputs["probability"][kept].tolist())
    return None


def scale(picture: np.ndarray) -> int:
    """The whole factor by which small pictures are enlarged."""
    return max(1, -(-LEAST // max(picture.shape[:2])))


def larger(arrays: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) or masks (objects, height, width), enlarged without interpolation."""
    rows, columns = (0, 1) if arrays.shape[-1] == 3 and arrays.dtype == np.uint8 else (1, 2)
    factor = max(1, -(-LEAST // max(arrays.shape[rows], arrays.shape[columns])))
    return arrays.repeat(factor, axis=rows).repeat(factor, axis=columns)


def resized(
    maps: Float[np.ndarray, "*maps high wide"], size: tuple[int, int]
) -> Float[np.ndarray, "*maps height width"]:
    """Maps resized to a canvas, bilinear."""
    flat = np.asarray(maps, np.float32).reshape(-1, *maps.shape[-2:])
    images = [Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR) for one in flat]
    return np.array([np.asarray(image) for image in images], np.float32).reshape(*maps.shape[:-2], *size)


def explained(example: Example, names: Sequence[str]) -> Iterator[str]:
    """Describes the targets of a scene, line by line."""
    here = within(example)
    yield f"pixel_mask {example['pixel_mask'].shape}: the picture takes {here[0].stop} × {here[1].stop} of it"
    if "class_labels" in example:
        there = np.flatnonzero(example["class_labels"] != IGNORED)
        yield f"class_labels {example['class_labels'].shape}, {len(there)} of them of objects"
        for place in there.tolist():
            label, box = int(example["class_labels"][place]), [f"{x:.3f}" for x in example["boxes"][place]]
            area = f", {int(example['mask_labels'][place].sum()):,} pixels" if "mask_labels" in example else ""
            yield f"  {label} {names[label]}: centre, width and height {' '.join(box)}{area}"
    elif "labels" in example:
        depth = example["labels"][example["labels"] > 0]
        ends = f"from {depth.min():.2f} to {depth.max():.2f} metres" if len(depth) else "nowhere"
        yield f"labels {example['labels'].shape}: the depth of {len(depth):,} pixels is known, {ends}"


def shown(
    assembly: Assembly, seen: Mapping[str, np.ndarray], given: Pixels, outputs: Mapping[str, np.ndarray]
) -> list[Pixels]:
    """An example as pictures: from the data, with its targets, and with the model's predictions."""
    names = assembly.data.vocabulary.labels
    pictures = [larger(given[within(seen)]), asked(seen, given, names), guessed(seen, outputs, given, names)]
    return [picture for picture in pictures if picture is not None]
