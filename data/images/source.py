"""Labelled pictures as an experiment names them: a source, a held-out share, and how training pictures are altered."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int64
from PIL import Image

from data.contents import Broken, Progress, spoken
from data.contract import Config, Source
from data.errors import DataError
from data.images.augmentation import Augmentation
from data.images.host_augmentation import padded_crop, rand_augment, random_box, turned
from data.images.pictures import Pixels, decoded, opened, upright_size
from data.images.processor import ImageProcessor
from data.images.sides import Sides, look
from data.images.sources import HELD_OUT, TRAINING, Opened, Picture, Pictures, open_pictures
from data.loader import Batch
from data.order import shuffled_places
from data.survey import Survey
from data.text.source import Form

INTERPOLATIONS = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's number of each interpolation."""

GAP = 2
"""A JPEG is decoded at a half, a quarter or an eighth where the part wanted still has so many times the pixels along an edge."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """What pictures are told apart by, in the place of a vocabulary.

    Attributes:
        names: of the classes, by label.
    """

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> int:
        return len(self.names)


@dataclasses.dataclass(frozen=True)
class Images(Source):
    """Where pictures come from, and what becomes of those that are trained on.

    What is called colour jitter in recipes with RandAugment is not here: timm leaves it out where RandAugment is on.

    Attributes:
        source: `sklearn_digits` (1,797 digits of 8 × 8 pixels that the `demo` extra installs); a folder with a folder of
            pictures for each class, or with folders `train` and `validation` (`val`) of those; or a TFDS name such as
            `imagenet2012`, `cifar10`, `oxford_flowers102`, `oxford_iiit_pet`, `imagenette/320px-v2`, `imagenet_v2`. A folder
            `train` is a class where pictures lie in it, or beside it a folder of pictures that no split is called by.
        held_out_split: the split that is held out; where empty, `validation` if the source has one.
        held_out: share of the training pictures held out where the source has no such split.
        crop: `random_resized` takes a random part and resizes it to a square; `padded` resizes as for evaluation, and takes
            a random part of that size from the picture with `padding` black pixels around it; `none` as for evaluation.
        scale: share of the picture's area that a random part has.
        ratio: its width over its height.
        padding: see `crop`.
        interpolation: of all resizing.
        rotation: degrees by which training pictures are rotated at most, one way or the other, after the crop.
        shear: degrees by which they are slanted at most.
        rand_augment: operations of RandAugment, none where 0; timm's `rand-m9-mstd0.5-inc1` has 2.
        magnitude: how much they do, from 0 to 10.
        magnitude_std: of the normal distribution around it.
        repeats: how often a picture comes among neighbouring examples, altered anew each time (Hoffer et al., "Augment your
            batch", 2019, arXiv 1901.09335). A run of as many examples then sees fewer pictures.
        crop_pct: share of the shorter edge that is kept for evaluation, below 384 pixels.
        augment: what is done to training pictures on the device after all this. Where it mixes two, an example has the picture
            of another beside its own.
    """

    documents: ClassVar[str] = "images"
    items: ClassVar[str] = "images"

    source: str = "sklearn_digits"
    held_out_split: str = ""
    crop: Literal["random_resized", "padded", "none"] = "random_resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    padding: int = 4
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    rotation: float = 0.0
    shear: float = 0.0
    rand_augment: int = 0
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    repeats: int = 1
    crop_pct: float = 0.875
    augment: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        if self.crop not in ("random_resized", "padded", "none"):
            raise DataError(f"crop={self.crop!r}: expected random_resized, padded or none")
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(f"interpolation={self.interpolation!r}: expected {', '.join(INTERPOLATIONS)}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise DataError(
                f"scale={self.scale}: expected two shares of the area, above 0 and at most 1, the smaller first"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(f"ratio={self.ratio}: expected two numbers above 0, the smaller first")
        if not 0 < self.crop_pct <= 1:
            raise DataError(f"crop_pct={self.crop_pct}: expected a share above 0, at most 1")
        if not 0 <= self.magnitude <= 10:
            raise DataError(f"magnitude={self.magnitude}: expected a number from 0 to 10")
        for name, most in {"rotation": 180, "shear": 60}.items():
            if not 0 <= getattr(self, name) <= most:
                raise DataError(f"{name}={getattr(self, name)}: expected degrees from 0 to {most}")
        for name, least in {"padding": 0, "rand_augment": 0, "magnitude_std": 0, "repeats": 1}.items():
            if getattr(self, name) < least:
                raise DataError(f"{name}={getattr(self, name)}: expected at least {least}")

    @property
    def augmentation(self) -> Augmentation:
        return self.augment

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedImages":
        """The source opened, looked at and split."""
        say(f"opening {self.source}")
        sides = self._look(say, spoken(say, f"the pictures of {self.source}"), self.broken)
        return PreparedImages(
            self,
            sides.opened.classes,
            sides.fingerprint,
            None if sides.training is None else sides.training.pictures,
            sides.parts[-1].pictures,
            sides.training_places,
            sides.held_out_places,
            sides.opened.several,
        )

    def survey(self, progress: Progress) -> Survey:
        """Every picture of the splits in use is decoded."""
        return self._look(lambda _: None, progress, "skip", again=True).survey()

    def _look(self, say: Callable[[str], None], progress: Progress, broken: Broken, again: bool = False) -> Sides:
        found = open_pictures(self.source)
        return look(
            found,
            next((found.splits[name] for name in TRAINING if name in found.splits), None),
            self._held_out(found),
            settings=self,
            broken=broken,
            say=say,
            progress=progress,
            again=again,
        )

    def _held_out(self, found: Opened) -> Pictures | None:
        """The split that is held out, `None` where it is to be made."""
        if self.held_out_split:
            if self.held_out_split not in found.splits:
                raise DataError(f"{self.source} has no split {self.held_out_split!r}, but {', '.join(found.splits)}")
            return found.splits[self.held_out_split]
        own = next((name for name in HELD_OUT if name in found.splits), None)
        if own is None and not set(TRAINING) & set(found.splits):
            own, *others = found.splits
            if others:
                raise DataError(
                    f"{self.source} has neither a split to train on nor one called validation, but"
                    f" {', '.join(found.splits)}: set --data.held-out-split to one of them"
                )
        return None if own is None else found.splits[own]

    def processor(self, size: int) -> ImageProcessor:
        """How pictures are prepared for evaluation, as a file to be written beside the model."""
        return ImageProcessor(
            "ConvNextImageProcessor",
            size=size,
            resample=INTERPOLATIONS[self.interpolation],
            crop_pct=self.crop_pct,
            rescale_factor=self.augment.rescale_factor,
            image_mean=self.augment.image_mean,
            image_std=self.augment.image_std,
        )

    def outline(self, size: int, needs: Sequence[str] = ()) -> "OutlinedImages":
        return OutlinedImages(self, tuple(f"LABEL_{label}" for label in range(size)))


def blank_image(size: int, mixes: bool) -> Batch:
    """An example with the names, shapes and dtypes of those of `ImageExamples`, all zeros."""
    pixels, label = np.zeros((size, size, 3), np.uint8), np.zeros((), np.int32)
    other = {"other_pixel_values": pixels, "other_labels": label} if mixes else {}
    return {"index": np.zeros((), np.uint32), "pixel_values": pixels, "labels": label, **other}


@dataclasses.dataclass(frozen=True)
class OutlinedImages:
    """Pictures that are not there."""

    images: Images
    classes: tuple[str, ...]

    @property
    def vocabulary(self) -> Classes:
        return Classes(self.classes)

    def training(self, form: Form, seed: int) -> list[Batch]:
        """A single example, in place of the stream of `PreparedImages.training`."""
        return [blank_image(form.length, self.images.augment.mixes)]


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """Pictures made ready: the names of their classes by label, and the two sets of them.

    Attributes:
        fingerprint: of the pictures; two with the same give the same examples.
        several: a picture has any number of classes, not one.
    """

    images: Images
    classes: tuple[str, ...]
    fingerprint: str
    training_pictures: Pictures | None
    held_out_pictures: Pictures
    training_places: Int64[np.ndarray, " training"]
    held_out_places: Int64[np.ndarray, " held_out"]
    several: bool = False

    @property
    def vocabulary(self) -> Classes:
        return Classes(self.classes)

    @property
    def amounts(self) -> dict[str, int]:
        """How much there is of what a model reads, beside the pictures; nothing."""
        return {}

    @property
    def counts(self) -> tuple[int, int]:
        """Pictures to train on, which are the examples of an epoch, and held out."""
        return len(self.training_places), len(self.held_out_places)

    def all_held_out(self) -> "PreparedImages":
        """The same with every picture held out, unless the source says by itself which ones are."""
        if self.training_pictures is not self.held_out_pictures:
            return self
        places = np.union1d(self.training_places, self.held_out_places)
        return dataclasses.replace(self, training_places=places[:0], held_out_places=places)

    def adapt(self, config: Config, start: int | None = None) -> Config:
        """The model's config with the names of the classes, where it has a head that tells classes apart."""
        return dataclasses.replace(config, labels=self.vocabulary.names) if hasattr(config, "labels") else config

    def save(self, folder: Path, length: int) -> None:
        """Write how pictures are prepared for a model that sees `length` pixels along an edge."""
        self.images.processor(length).write(folder)

    def training(self, form: Form, seed: int) -> "ImageExamples":
        """The endless stream of training examples, a function of the seed and an example's place in it.

        Raises:
            DataError: the source has nothing to train on.
        """
        if self.training_pictures is None:
            raise DataError(f"{self.images.source} has no split `train`: it is there to evaluate on alone")
        pictures, places = self.training_pictures, self.training_places
        return ImageExamples(self.images, pictures, places, form.length, seed, several=self._several)

    def held_out(self, form: Form) -> "ImageExamples":
        """The held-out pictures, each once, in order, resized and cropped as published."""
        pictures, places = self.held_out_pictures, self.held_out_places
        return ImageExamples(self.images, pictures, places, form.length, 0, shuffled=False, several=self._several)

    @property
    def _several(self) -> int | None:
        return len(self.classes) if self.several else None


@dataclasses.dataclass(frozen=True)
class ImageExamples:
    """Examples from some pictures, as a map from places in the run.

    Each epoch visits every picture once (with `repeats`, each visit is so many examples), in a pseudo-random order of its own.
    What is drawn for an example is a function of the seed and its place alone. An example:

        index: uint32, its place in the run, from which the objective's randomness is made.
        pixel_values [size, size, 3]: uint8, RGB.
        labels: int32, the class; [classes], 1 for each of the picture's and 0 for the others, where it may have `several`.
        other_pixel_values, other_labels: where pictures are mixed, those of the example at `index ^ 1`. That shows another
            picture, but where an epoch of an odd number of pictures ends between the two: there it may be the same.

    Attributes:
        places: the numbers of the pictures to take.
        shuffled: an endless stream to train on; else each picture once, as for evaluation, of `len()` examples.
        several: the number of classes, where a picture may have any number of them.

    Raises:
        DataError: there is no picture, or no pixel, or a negative seed; later, a picture is broken.
    """

    images: Images
    pictures: Pictures
    places: Int64[np.ndarray, " pictures"]
    size: int
    seed: int
    shuffled: bool = True
    several: int | None = None

    def __post_init__(self) -> None:
        if not len(self.places):
            raise DataError("no picture was chosen")
        if self.size < 1:
            raise DataError(f"size={self.size}: a picture has at least a pixel along an edge")
        if self.seed < 0:
            raise DataError(f"seed={self.seed}: give a seed of 0 or more")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Batch:
        """Example `index` of the run, any number from 0 on."""
        return {name: np.asarray(array[0]) for name, array in self.batch(np.array([index])).items()}

    def batch(self, indices: Int64[np.ndarray, " batch"]) -> Batch:
        """The examples at `indices` of the run, stacked.

        Raises:
            IndexError: an index is negative, or beyond the held-out pictures.
            DataError: a picture is broken.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or (not self.shuffled and indices.max() >= len(self))):
            raise IndexError(
                f"examples are numbered from 0{'' if self.shuffled else f' to {len(self) - 1}'}: {indices}"
            )
        mixes = self.images.augment.mixes and self.shuffled
        wanted = np.unique(np.concatenate([indices, indices ^ 1]) if mixes else indices)
        pixels = np.empty((len(wanted), self.size, self.size, 3), np.uint8)
        labels = np.zeros((len(wanted), *filter(None, [self.several])), np.int32)
        for row, (index, place) in enumerate(zip(wanted.tolist(), self._chosen(wanted).tolist(), strict=True)):
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
            "index": indices.astype(np.uint32),
            "pixel_values": pixels if as_wanted else pixels[own],
            "labels": labels if as_wanted else labels[own],
            **({"other_pixel_values": pixels[other], "other_labels": labels[other]} if mixes else {}),
        }

    def _chosen(self, indices: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        """The pictures at these places of the run."""
        if not self.shuffled:
            return self.places[indices]
        # Two pictures take turns, so that within an epoch an example and the one it is mixed with never show the same.
        visits = indices // (2 * self.images.repeats) * 2 + indices % 2
        epochs, places = np.divmod(visits, len(self))
        return self.places[shuffled_places(self.seed, epochs, places, len(self))]

    @property
    def _processor(self) -> ImageProcessor:
        return self.images.processor(self.size)

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
        least = GAP * self.size / min(right - left, bottom - top)
        if least < 1:  # of JPEGs; other kinds of pictures do not listen
            image.draft(None, (round(image.width * least), round(image.height * least)))
        image = decoded(image)
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, right * across, bottom * down)
        return image.resize((self.size, self.size), resample=resample, box=box)


def _named(picture: Picture) -> tuple:
    return picture.source, picture.name
