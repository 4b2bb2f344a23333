"""Examples of pictures: which one a place in the run shows, and what is drawn and done to it on the host."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from PIL import Image

from data.contract import Batch, Examples, Source
from data.errors import DataError
from data.forms import ImageForm
from data.images.host_augmentation import padded_crop, rand_augment, random_box, turned
from data.images.pictures import Pixels, decoded, opened, upright_size
from data.images.processor import ImageProcessor
from data.images.sources import Picture

INTERPOLATIONS = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's number of each interpolation."""

GAP = 2
"""A JPEG is decoded at a half, a quarter or an eighth where the part wanted still has so many times the pixels along an edge."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageExamples(Examples):
    """Examples from some pictures.

    With `repeats`, each visit of a picture is so many examples. What is drawn for an example is a function of the seed and its
    place alone. An example:

        pixel_values [size, size, 3]: uint8, RGB.
        labels: int32, the class; [classes], 1 for each of the picture's and 0 for the others, where it may have `several`.
        other_pixel_values, other_labels: where pictures are mixed, those of the example at `index ^ 1`. That shows another
            picture, but where an epoch of an odd number of pictures ends between the two: there it may be the same.

    Attributes:
        images: the settings.
        places: the numbers of the pictures to take.
        several: the number of classes, where a picture may have any number of them.

    Raises:
        DataError: there is no picture, or no pixel; later, a picture is broken.
    """

    images: Source
    pictures: Sequence[Picture]
    places: Int64[np.ndarray, " pictures"]
    several: int | None = None

    def __post_init__(self) -> None:
        if self.form.size < 1:
            raise DataError(f"size={self.form.size}: a picture has at least a pixel along an edge")
        super().__post_init__()

    def __len__(self) -> int:
        return len(self.places)

    def at(self, items: Int64[np.ndarray, " batch"], indices: Int64[np.ndarray, " batch"], form: ImageForm) -> Batch:
        """Raises `DataError` where a picture is broken."""
        mixes = self.images.augment.mixes and self.shuffled
        wanted = np.unique(np.concatenate([indices, indices ^ 1]) if mixes else indices)
        pixels = np.empty((len(wanted), form.size, form.size, 3), np.uint8)
        labels = np.zeros((len(wanted), *filter(None, [self.several])), np.int32)
        for row, (index, place) in enumerate(
            zip(wanted.tolist(), self.places[self.items(wanted)].tolist(), strict=True)
        ):
            try:
                picture = self.pictures[place]
                pixels[row] = (
                    self._altered(picture, index) if self.shuffled else self._processor.pixels(*_named(picture))
                )
            except DataError as error:  # of a large source, whose pictures are not all decoded beforehand
                raise DataError(
                    f"{error}; `lacuna check` names all that are broken, and they are known from then on"
                ) from error
            if self.several is None:
                labels[row] = picture.label
            else:
                labels[row, list(picture.label)] = 1
        own, other = np.searchsorted(wanted, indices), np.searchsorted(wanted, indices ^ 1)
        as_wanted = np.array_equal(wanted, indices)  # most often, and then there is nothing to copy
        return {
            "pixel_values": pixels if as_wanted else pixels[own],
            "labels": labels if as_wanted else labels[own],
            **({"other_pixel_values": pixels[other], "other_labels": labels[other]} if mixes else {}),
        }

    def items(self, indices: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        # Two pictures take turns, so that within an epoch an example and the one it is mixed with never show the same.
        visits = indices // (2 * self.images.repeats) * 2 + indices % 2
        return super().items(visits if self.shuffled else indices)

    @property
    def _processor(self) -> ImageProcessor:
        return self.images.processor(self.form.size)

    def _altered(self, picture: Picture, index: int) -> Pixels:
        """A training picture as example `index` shows it."""
        images, resample = self.images, INTERPOLATIONS[self.images.interpolation]
        word = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]
        generator = np.random.Generator(np.random.Philox(key=np.array([word, index], np.uint64)))
        with opened(*_named(picture)) as image:
            if images.crop == "random_resized":
                image = self._part(generator, image, resample)
            else:
                image = self._processor.framed(decoded(image))
        if images.crop == "padded":
            image = padded_crop(generator, image, images.padding)
        if images.rotation or images.shear:
            image = turned(generator, image, images.rotation, images.shear, resample)
        if images.rand_augment:
            image = rand_augment(
                generator,
                image,
                operations=images.rand_augment,
                magnitude=images.magnitude,
                magnitude_std=images.magnitude_std,
                resample=resample,
            )
        return np.asarray(image)

    def _part(self, generator: np.random.Generator, image: Image.Image, resample: int) -> Image.Image:
        """A random part of a picture, resized."""
        height, width = upright_size(image)
        left, top, right, bottom = random_box(generator, (height, width), self.images.scale, self.images.ratio)
        least = GAP * self.form.size / min(right - left, bottom - top)
        if least < 1:  # of JPEGs; other kinds of pictures do not listen
            image.draft(None, (round(image.width * least), round(image.height * least)))
        image = decoded(image)
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, right * across, bottom * down)
        return image.resize((self.form.size, self.form.size), resample=resample, box=box)


def _named(picture: Picture) -> tuple:
    return picture.source, picture.name
