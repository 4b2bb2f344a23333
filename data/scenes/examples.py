"""Examples of scenes: augmented for training, resized for evaluation, and padded to a canvas."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from data.contract import Batch, Examples
from data.errors import DataError
from data.forms import SceneForm
from data.ragged import IGNORED, Buckets
from data.scenes.items import Items, read_scene
from data.scenes.processor import SceneProcessor
from data.scenes.scene import Scene, centred
from data.scenes.transforms import Alteration, Crop, Resize


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SceneExamples(Examples):
    """Examples of some scenes, each padded below and on the right to the size of a canvas:

        pixel_values [height, width, 3]: uint8, RGB, 0 in the padding.
        pixel_mask [height, width]: int32, 1 where the picture is.
        class_labels [objects]: int32, padded with `IGNORED`; if the form has objects.
        boxes [objects, 4]: float32, (centre x, centre y, width, height) in fractions of the canvas, as in `transformers` 5,
            padded with 0.
        mask_labels [objects, height, width]: uint8, if the objective reads it.
        labels [height, width]: depth in metres, float32, 0 where it was not measured; if the objective reads it.

    The random draws for an example are a function of the seed, the epoch and the scene. So sizes are known in advance, and
    each epoch batches similar sizes.

    Attributes:
        scenes: the parts of the source.
        places: indices of the scenes to take, counted through all parts.
        pixels: (height, width) of each of these, upright.
        processor: resizes pictures for evaluation.
        alteration: augments scenes for training.

    Raises:
        DataError: there is no scene, or a scene does not fit the form; later, a scene cannot be read.
    """

    scenes: Sequence[Items]
    places: Int64[np.ndarray, " scenes"]
    pixels: Int64[np.ndarray, "scenes 2"]
    processor: SceneProcessor
    alteration: Alteration = Alteration()

    def __post_init__(self) -> None:
        super().__post_init__()
        most, size = self.sizes.max(axis=0), self.form.size
        if (most > size).any() and not self.form.of_bucket:
            what = "are altered to" if self.shuffled else "are resized to"
            raise DataError(
                f"pictures {what} {most[0]} pixels in height and {most[1]} in width at most, and form.size is {size}: make it"
                " larger, or pictures smaller by --data.shortest and --data.longest"
            )
        if self.form.objects and not any(items.masked or not items.measured for items in self.scenes):
            raise DataError(
                f"objects={self.form.objects}: of these pictures the depth alone is known, set objects to 0"
            )
        if "mask_labels" in self.form.reads and not all(items.masked for items in self.scenes):
            raise DataError(
                "masks are asked for, and not all objects have one: give each annotation a segmentation and each picture of"
                " them its height and width, or leave those without out of the file"
            )
        if self.form.objects:
            ends = np.cumsum([len(items) for items in self.scenes])
            for place in self.places.tolist():
                part = int(np.searchsorted(ends, place, side="right"))
                count = self.scenes[part].count(place - int(ends[part]) + len(self.scenes[part]))
                if count > self.form.objects:
                    raise DataError(too_many(f"scene {place}", count, self.form.objects))

    def __len__(self) -> int:
        return len(self.places)

    @functools.cached_property
    def _largest(self) -> Int64[np.ndarray, "scenes 2"]:
        change = self.processor.resized
        if self.shuffled:
            change = functools.partial(self.alteration.largest, processor=self.processor)
        sizes, which = np.unique(self.pixels, axis=0, return_inverse=True)
        return np.array([change(tuple(size)) for size in sizes.tolist()], np.int64)[which.reshape(-1)]

    @property
    def sizes(self) -> Int64[np.ndarray, "scenes 2"]:
        """Sizes of the examples; for training the largest that can be drawn."""
        return self._multiples(self._largest)

    def _multiples(self, sizes: Int64[np.ndarray, "scenes 2"]) -> Int64[np.ndarray, "scenes 2"]:
        """Sizes rounded up to multiples of the processor's divisor, within the form."""
        divisor = self.processor.size_divisor
        padded = -(-sizes // divisor) * divisor
        return np.where(sizes <= self.form.size, np.minimum(padded, self.form.size), padded)

    @functools.cached_property
    def buckets(self) -> Buckets | None:
        """Canvas sizes, chosen by the sizes of the first epoch; the last one is that of the form."""
        if self.form.buckets == 1:
            return None
        if not self.shuffled:
            return super().buckets
        drawn = np.concatenate([self._drawn(0), self.sizes.max(axis=0, keepdims=True)])
        buckets = Buckets.of(drawn, self.form.buckets, self.form.together)
        return dataclasses.replace(buckets, members=buckets.members[:-1])

    def buckets_in(self, epoch: int) -> Buckets:
        return self._filled(epoch) if self.shuffled else self.buckets

    @functools.cached_property
    def _filled(self):
        return functools.lru_cache(maxsize=2)(lambda epoch: self.buckets.filled(self._drawn(epoch)))

    def _drawn(self, epoch: int) -> Int64[np.ndarray, "scenes 2"]:
        """The canvas size that each scene needs in an epoch."""
        plans = (
            self.alteration.plan(self._generator(epoch, item), tuple(size), self.processor).size
            for item, size in enumerate(self.pixels.tolist())
        )
        return self._multiples(np.array(list(plans), np.int64))

    def _generator(self, epoch: int, item: int) -> np.random.Generator:
        word = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]
        return np.random.Generator(np.random.Philox(key=np.array([word, epoch * len(self) + item], np.uint64)))

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: SceneForm) -> Batch:
        """Raises `DataError` where a scene is broken, or has more objects than the form."""
        epochs = indices // len(self)
        examples = [self._example(*visit, form) for visit in zip(items.tolist(), epochs.tolist(), strict=True)]
        names = set(self.form.reads) & {"mask_labels", "labels"} & set().union(*examples)
        for example, item in zip(examples, items.tolist(), strict=True):
            for name in names - set(example):
                what = {"mask_labels": "mask", "labels": "depth"}[name]
                raise DataError(f"scene {int(self.places[item])} has no {what}, and others have one")
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

    def _example(self, item: int, epoch: int, form: SceneForm) -> Batch:
        try:
            scene = self.scene(item, "mask_labels" in form.reads, "labels" in form.reads).countable()
        except DataError as error:
            raise DataError(
                f"{error}; `lacuna check` names all that are broken, and they are known from then on"
            ) from error
        if self.shuffled:
            scene = self._altered(scene, self._generator(epoch, item))
        else:
            scene = Resize(self.processor.resized(scene.size))(scene, self.processor.resample)
        if self.form.of_bucket:  # an example of what a bucket holds, the scene being of another
            height, width = np.minimum(scene.size, form.size).tolist()
            scene = Crop(0, 0, (height, width))(scene, self.processor.resample)
        return on_canvas(scene, form, f"scene {int(self.places[item])}")

    def scene(self, item: int, masks: bool = False, depth: bool = False) -> Scene:
        """A scene without augmentation and with its crowds, for metrics."""
        place = int(self.places[item])
        for items in self.scenes:
            if place < len(items):
                return read_scene(items, place, masks, depth)
            place -= len(items)
        raise IndexError(f"there is no scene {place}")

    def _altered(self, scene: Scene, generator: np.random.Generator) -> Scene:
        plan = self.alteration.plan(generator, scene.size, self.processor)
        scene = plan(self.alteration.cut(generator, scene), self.processor.resample)
        return self.alteration.colored(generator, scene)


def too_many(name: str, count: int, objects: int) -> str:
    return f"{name} holds {count} objects, and form.objects is {objects}: make it larger"


def on_canvas(scene: Scene, form: SceneForm, name: str) -> Batch:
    """Makes an example of a scene.

    Raises:
        DataError: it has more objects than the form.
    """
    (height, width), count = scene.size, len(scene.labels)
    pixels, mask = np.zeros((*form.size, 3), np.uint8), np.zeros(form.size, np.int32)
    pixels[:height, :width], mask[:height, :width] = scene.picture, 1
    example = {"pixel_values": pixels, "pixel_mask": mask}
    if form.objects:
        if count > form.objects:
            raise DataError(too_many(name, count, form.objects))
        example["class_labels"] = np.full(form.objects, IGNORED, np.int32)
        example["class_labels"][:count] = scene.labels
        example["boxes"] = np.zeros((form.objects, 4), np.float32)
        example["boxes"][:count] = centred(scene.boxes, form.size)
    if "mask_labels" in form.reads and scene.masks is not None:
        example["mask_labels"] = np.zeros((form.objects, *form.size), np.uint8)
        example["mask_labels"][:count, :height, :width] = scene.masks
    if "labels" in form.reads and scene.depth is not None:
        example["labels"] = np.zeros(form.size, np.float32)
        example["labels"][:height, :width] = scene.depth
    return example
