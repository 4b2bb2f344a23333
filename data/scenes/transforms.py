"""Augmentation of scenes: resizing, crops, flips and colours, applied to boxes, masks and depth, too.

A plan is drawn from the size of a picture alone, and applied to the scene later. So sizes are known before pictures are read.

Random short edges and crops: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv 2005.12872, section 4.
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
    """Augmentation of a scene.

    In this order: CutDepth, a random part, resizing, a crop, a flip, colours.

    Attributes:
        flip: probability of a horizontal flip.
        short_sides: candidates for the length of the shorter edge; empty resizes as in evaluation.
        longest: greatest length of the longer edge after that.
        part: probability of taking a random part before resizing.
        part_short_sides: candidates for the length of the shorter edge before the part is taken.
        part_sides: range of both edges of the part, ends included.
        scales: range of scale jitter: the picture is resized to fit `crop` times a factor. `None` for no jitter.
        crop: greatest (height, width) of a random crop after resizing; `None` for no crop.
        brightness, contrast, saturation: factors are drawn from 1 ± this.
        hue: greatest rotation of the hue, in degrees.
        gamma: exponents are drawn from 1 ± this.
        color_probability: probability of each of these five.
        cut_depth: probability of vertical CutDepth: a strip from top to bottom is replaced by its depth in grey, from black
            (not measured) to white (`cut_depth_white` metres and more).
        cut_depth_width: greatest width of the strip, as a fraction of the picture to the right of its left edge.
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
        """Draws the geometric changes for a picture of this size."""
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
        """The greatest height and width that a picture of this size can get."""
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
            DataError: the scene has no depth.
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
        """The scene with its colours changed at random."""
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
    """Resizes to (height, width); masks and depth by nearest neighbours."""

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
    """Crops. Objects outside are dropped; boxes are clipped at the edges, or recomputed from the cropped masks."""

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
    """Flips horizontally."""

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
    """Geometric changes in order, and the resulting size."""

    steps: tuple[Step, ...]
    size: Size

    def __call__(self, scene: Scene, resample: int) -> Scene:
        """Applies all changes to a scene."""
        for step in self.steps:
            scene = step(scene, resample)
        return scene


def _add(steps: list[Step], step: Resize | Crop) -> Size:
    steps.append(step)
    return step.size


def _one_of(generator: np.random.Generator, numbers: Sequence[int]) -> int:
    return int(numbers[generator.integers(len(numbers))])


def _placed(generator: np.random.Generator, size: Size, part: Size) -> Crop:
    """A crop at a random place."""
    top, left = (int(generator.integers(whole - edge + 1)) for whole, edge in zip(size, part, strict=True))
    return Crop(top, left, part)


def _largest_of_parts(edges: Size, processor: SceneProcessor) -> Size:
    """The greatest size of resized parts with these largest edges."""
    return edges if not processor.do_resize else (max(processor.longest, *edges),) * 2


def _nearest(size: int, new: int) -> np.ndarray:
    """The old index of each new place, as Pillow's nearest neighbour."""
    line = Image.fromarray(np.arange(size, dtype=np.int32)[:, None])
    return np.asarray(line.resize((1, new), Image.Resampling.NEAREST))[:, 0]
