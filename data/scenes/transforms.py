"""What is done to scenes that are trained on: resizing, crops, flips and colours, which boxes, masks and depth go through, too.

First a plan is drawn, from the size of the picture alone; then the scene goes through it. So sizes are known before pictures are.

Random short edges and parts: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872, section 4.
Scale jitter with crops of a fixed size: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation", 2020, arXiv 2012.07177, with the draws of detectron2. Strips of depth: Kim et al., "Global-Local Path Networks for
Monocular Depth Estimation with Vertical CutDepth", 2022, arXiv 2201.07436.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

from data.errors import DataError
from data.scenes.processor import SceneProcessor, resize, with_edges
from data.scenes.scene import Scene, boxes_of

Size = tuple[int, int]
"""(height, width)."""


@dataclasses.dataclass(frozen=True)
class Alteration:
    """What becomes of a scene each time that it is trained on.

    In this order: of some pictures a strip is replaced by its depth; of some a part is taken; the picture is resized; it is
    cropped; flipped; its colours are changed.

    Attributes:
        flip: fraction of the pictures seen in a mirror, left and right exchanged.
        short_sides: one is drawn, to which the shorter edge is resized; as for evaluation where there are none.
        longest: of the longer edge then, at most.
        part: fraction of the pictures of which a part is taken before.
        part_short_sides: one is drawn, to which the shorter edge is resized before that.
        part_sides: both edges of the part are drawn between these two, the larger one included.
        scales: of scale jitter; the picture is resized to fit into `crop`, times a number between the two. `None` for none.
        crop: (height, width) of the place that is cut out then, at most; pictures are not cropped where `None`.
        brightness, contrast, saturation: factors are drawn from 1 ± so much.
        hue: degrees by which colours are turned at most.
        gamma: exponents are drawn from 1 ± so much.
        color_probability: of each of these five.
        cut_depth: fraction of the pictures of which a strip, from top to bottom, shows its depth in grey, white being
            `cut_depth_white` metres and more, and black what is not known.
        cut_depth_width: of the strip, at most, as a fraction of what lies to the right of its left edge, which is drawn.
    """

    flip: float = 0.5
    short_sides: tuple[int, ...] = ()
    longest: int = 1333
    part: float = 0.0
    part_short_sides: tuple[int, ...] = (400, 500, 600)
    part_sides: tuple[int, int] = (384, 600)
    scales: tuple[float, float] | None = None
    crop: tuple[int, int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    color_probability: float = 0.5
    cut_depth: float = 0.0
    cut_depth_width: float = 0.75
    cut_depth_white: float = 10.0

    def __post_init__(self) -> None:
        for name in ("flip", "part", "color_probability", "cut_depth", "cut_depth_width"):
            if not 0 <= vars(self)[name] <= 1:
                raise DataError(f"{name}={vars(self)[name]}: a fraction must lie in [0, 1]")
        for name in ("brightness", "contrast", "saturation", "gamma"):
            if not 0 <= vars(self)[name] < 1:
                raise DataError(f"{name}={vars(self)[name]}: expected a number from 0 to below 1")
        if not self.cut_depth_white > 0:
            raise DataError(f"cut_depth_white={self.cut_depth_white}: expected metres, more than 0")
        if self.scales is not None and (self.crop is None or not 0 < self.scales[0] <= self.scales[1]):
            raise DataError(
                f"scales={self.scales}, crop={self.crop}: expected two factors above 0, the smaller first, and the crop that"
                " pictures are scaled to"
            )
        if self.scales is not None and self.short_sides:
            raise DataError(
                "there are scales and short_sides: a picture is resized by one of them, leave the other out"
            )
        if not 0 < self.part_sides[0] <= self.part_sides[1] or (self.part and not self.part_short_sides):
            raise DataError(f"part_sides={self.part_sides}: expected two edges above 0, the smaller first")
        edges = (*self.short_sides, *self.part_short_sides, *(self.crop or ()))
        if any(edge < 1 for edge in edges) or max(self.short_sides, default=1) > self.longest:
            raise DataError(f"{self!r}: edges must be 1 at least, and the shorter ones at most `longest`")

    def plan(self, generator: np.random.Generator, size: Size, processor: SceneProcessor) -> "Plan":
        """The changes of places, drawn for a picture of this size."""
        steps: list[Step] = []
        if self.part and generator.random() < self.part:
            edge = _one_of(generator, self.part_short_sides)
            size = _add(steps, Resize(with_edges(size, edge, max(edge, 10 * max(size)))))
            least, most = self.part_sides
            part = tuple(int(generator.integers(min(least, edge), min(most, edge) + 1)) for edge in size)
            size = _add(steps, _placed(generator, size, part))
        if self.short_sides:
            size = _add(steps, Resize(with_edges(size, _one_of(generator, self.short_sides), self.longest)))
        elif self.scales is not None:
            factor = generator.uniform(*self.scales)
            factor = min(factor * self.crop[0] / size[0], factor * self.crop[1] / size[1])
            size = _add(steps, Resize((max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))))
        else:
            size = _add(steps, Resize(processor.resized(size)))
        if self.crop is not None:
            size = _add(steps, _placed(generator, size, (min(size[0], self.crop[0]), min(size[1], self.crop[1]))))
        if self.flip and generator.random() < self.flip:
            steps.append(Flip())
        return Plan(tuple(steps), size)

    def largest(self, size: Size, processor: SceneProcessor) -> Size:
        """What a picture of this size becomes at most, on either side."""
        if self.scales is not None:
            return self.crop
        if self.part and self.short_sides:
            size = (self.longest, self.longest)
        elif self.short_sides:
            size = with_edges(size, max(self.short_sides), self.longest)
        elif self.part:
            edges = (self.part_sides[1], self.part_sides[1])
            size = np.maximum(processor.resized(size), _largest_of_parts(edges, processor)).tolist()
        else:
            size = processor.resized(size)
        return tuple(np.minimum(size, self.crop or size).tolist())

    def cut(self, generator: np.random.Generator, scene: Scene) -> Scene:
        """The scene with a strip of its depth in the picture (vertical CutDepth).

        Raises:
            DataError: nobody knows its depth.
        """
        if not self.cut_depth:
            return scene
        if scene.depth is None:
            raise DataError(f"cut_depth={self.cut_depth}: of these scenes no depth is known, set it to 0")
        done, start, share = generator.random(3)
        if done >= self.cut_depth:
            return scene
        width = scene.size[1]
        left = int(start * width)
        strip = slice(left, left + int(max((width - start * width) * share * self.cut_depth_width, 1)))
        depth = np.nan_to_num(scene.depth[:, strip], nan=0.0, posinf=0.0, neginf=0.0) / self.cut_depth_white
        picture = scene.picture.copy()
        picture[:, strip] = np.round(255 * np.clip(depth, 0, 1)).astype(np.uint8)[..., None]
        return dataclasses.replace(scene, picture=picture)

    def colored(self, generator: np.random.Generator, scene: Scene) -> Scene:
        """The scene in other colours."""
        if not (self.brightness or self.contrast or self.saturation or self.hue or self.gamma):
            return scene
        image = Image.fromarray(np.ascontiguousarray(scene.picture))
        return dataclasses.replace(scene, picture=np.asarray(self._recolored(generator, image)))

    def _recolored(self, generator: np.random.Generator, image: Image.Image) -> Image.Image:
        """Brightness, contrast, saturation, hue and gamma, one after the other."""
        for name, enhancer in ENHANCERS.items():
            done, amount = generator.random() < self.color_probability, generator.uniform(-1, 1)
            if vars(self)[name] and done:
                image = enhancer(image).enhance(1 + vars(self)[name] * amount)
        done, amount = generator.random() < self.color_probability, generator.uniform(-1, 1)
        if self.hue and done:
            hue, *others = image.convert("HSV").split()
            turn = round(self.hue * amount * 256 / 360)
            image = Image.merge("HSV", (hue.point([(value + turn) % 256 for value in range(256)]), *others))
            image = image.convert("RGB")
        done, amount = generator.random() < self.color_probability, generator.uniform(-1, 1)
        if self.gamma and done:
            curve = np.round(255 * (np.arange(256) / 255) ** (1 + self.gamma * amount)).astype(int).tolist()
            image = image.point(curve * 3)
        return image


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@dataclasses.dataclass(frozen=True)
class Resize:
    """To (height, width); masks and depth take the value of the nearest place."""

    size: Size

    def __call__(self, scene: Scene, resample: int) -> Scene:
        if scene.size == self.size:
            return scene
        (height, width), (new_height, new_width) = scene.size, self.size
        rows, columns = _nearest(height, new_height), _nearest(width, new_width)
        image = resize(Image.fromarray(scene.picture), self.size, resample)
        return dataclasses.replace(
            scene,
            picture=np.asarray(image),
            boxes=scene.boxes * np.tile([new_width / width, new_height / height], 2),
            masks=None if scene.masks is None else scene.masks[:, rows][:, :, columns],
            depth=None if scene.depth is None else scene.depth[rows][:, columns],
        )


@dataclasses.dataclass(frozen=True)
class Crop:
    """A part; objects that have none in it are dropped, and boxes are cut off at its edges, or drawn around what is left of
    masks."""

    top: int
    left: int
    size: Size

    def __call__(self, scene: Scene, resample: int) -> Scene:
        if scene.size == self.size:
            return scene
        height, width = self.size
        rows, columns = slice(self.top, self.top + height), slice(self.left, self.left + width)
        masks = None if scene.masks is None else scene.masks[:, rows, columns]
        if masks is None:
            shift, most = np.tile([self.left, self.top], 2), np.tile([width, height], 2)
            boxes = np.clip(scene.boxes - shift, 0, most)
            kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        else:
            boxes, kept = boxes_of(masks), masks.any(axis=(1, 2))
        depth = None if scene.depth is None else scene.depth[rows, columns]
        picture = scene.picture[rows, columns]
        return dataclasses.replace(scene, picture=picture, boxes=boxes, masks=masks, depth=depth).chosen(kept)


@dataclasses.dataclass(frozen=True)
class Flip:
    """Left and right exchanged."""

    def __call__(self, scene: Scene, resample: int) -> Scene:
        left, top, right, bottom = scene.boxes.T
        width = scene.size[1]
        return dataclasses.replace(
            scene,
            picture=scene.picture[:, ::-1],
            boxes=np.stack([width - right, top, width - left, bottom], axis=1),
            masks=None if scene.masks is None else scene.masks[..., ::-1],
            depth=None if scene.depth is None else scene.depth[:, ::-1],
        )


Step = Resize | Crop | Flip


@dataclasses.dataclass(frozen=True)
class Plan:
    """Changes of places, one after the other, and the size that comes out."""

    steps: tuple[Step, ...]
    size: Size

    def __call__(self, scene: Scene, resample: int) -> Scene:
        """The scene gone through all of them."""
        for step in self.steps:
            scene = step(scene, resample)
        return scene


def _add(steps: list[Step], step: Resize | Crop) -> Size:
    steps.append(step)
    return step.size


def _one_of(generator: np.random.Generator, numbers: Sequence[int]) -> int:
    return int(numbers[generator.integers(len(numbers))])


def _placed(generator: np.random.Generator, size: Size, part: Size) -> Crop:
    """A part of a picture, in a random place."""
    top, left = (int(generator.integers(whole - edge + 1)) for whole, edge in zip(size, part, strict=True))
    return Crop(top, left, part)


def _largest_of_parts(edges: Size, processor: SceneProcessor) -> Size:
    """What parts become at most where these are their largest edges."""
    return edges if not processor.do_resize else (max(processor.longest, *edges),) * 2


def _nearest(size: int, new: int) -> np.ndarray:
    """Of so many new places the old ones that Pillow takes as nearest."""
    line = Image.fromarray(np.arange(size, dtype=np.int32)[:, None])
    return np.asarray(line.resize((1, new), Image.Resampling.NEAREST))[:, 0]
