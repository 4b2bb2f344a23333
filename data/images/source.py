"""Labelled pictures as an experiment names them: a source, a held-out side, and how training pictures are altered."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data.class_folders import sides
from data.contents import Broken, Progress, spoken
from data.contract import Batch, Classes, Prepared, Source
from data.errors import DataError
from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.examples import INTERPOLATIONS, ImageExamples
from data.images.processor import ImageProcessor
from data.images.sides import Sides, look
from data.images.sources import Picture, open_pictures
from data.survey import Survey


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
        held_out: fraction of the training pictures held out where the source has no such split.
        crop: `random_resized` takes a random part and resizes it to a square; `padded` resizes as for evaluation, and takes
            a random part of that size from the picture with `padding` black pixels around it; `none` as for evaluation.
        scale: fraction of the picture's area that a random part has.
        ratio: its width over its height.
        padding: see `crop`.
        interpolation: of all resizing.
        rotation: degrees by which training pictures are rotated at most, one way or the other, after the crop.
        shear: degrees by which they are slanted at most.
        rand_augment: operations of RandAugment, none where 0; timm's `rand-m9-mstd0.5-inc1` has 2.
        magnitude: how much they do, from 0 to 10.
        magnitude_std: of the normal distribution around it.
        repeats: how often a picture comes among neighbouring examples, altered otherwise each time (Hoffer et al., "Augment your
            batch", 2019, arXiv 1901.09335). A run of as many examples then sees fewer pictures.
        crop_pct: fraction of the shorter edge that is kept for evaluation, below 384 pixels.
        augment: what is done to training pictures on the device after all this. Where it mixes two, an example has the picture
            of another beside its own.
    """

    documents: ClassVar[str] = "images"
    forms: ClassVar[type[ImageForm]] = ImageForm

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
            raise DataError(f"crop_pct={self.crop_pct}: expected a fraction above 0, at most 1")
        if not 0 <= self.magnitude <= 10:
            raise DataError(f"magnitude={self.magnitude}: expected a number from 0 to 10")
        for name, most in {"rotation": 180, "shear": 60}.items():
            if not 0 <= vars(self)[name] <= most:
                raise DataError(f"{name}={vars(self)[name]}: expected degrees from 0 to {most}")
        for name, least in {"padding": 0, "rand_augment": 0, "magnitude_std": 0, "repeats": 1}.items():
            if vars(self)[name] < least:
                raise DataError(f"{name}={vars(self)[name]}: expected at least {least}")

    @property
    def augmentation(self) -> Augmentation:
        return self.augment

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedImages":
        """The source opened, looked at and split."""
        say(f"opening {self.source}")
        looked = self._look(say, spoken(say, f"the pictures of {self.source}"), self.broken)
        return PreparedImages(
            Classes(looked.opened.classes),
            looked.fingerprint,
            *looked.items,
            images=self,
            pictures=looked.pictures,
            given=looked.held_out is not None,
            several=looked.opened.several,
        )

    def survey(self, progress: Progress) -> Survey:
        """Every picture of the splits in use is decoded."""
        return self._look(lambda _: None, progress, "skip", again=True).survey()

    def _look(self, say: Callable[[str], None], progress: Progress, broken: Broken, again: bool = False) -> Sides:
        pictures = open_pictures(self.source)
        return look(
            pictures,
            *sides(pictures.splits, self.held_out_split, self.source),
            settings=self,
            broken=broken,
            say=say,
            progress=progress,
            again=again,
        )

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

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Classes:
        return Classes(tuple(f"LABEL_{label}" for label in range(size)))

    def blank(self, form: ImageForm) -> Batch:
        pixels, label = np.zeros((form.size, form.size, 3), np.uint8), np.zeros((), np.int32)
        other = {"other_pixel_values": pixels, "other_labels": label} if self.augment.mixes else {}
        return {"pixel_values": pixels, "labels": label, **other}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedImages(Prepared):
    """Pictures made ready.

    Attributes:
        pictures: those to train on, and behind them those of a split that is held out.
        several: a picture has any number of classes, not one.
    """

    images: Images
    pictures: Sequence[Picture]
    several: bool

    def save(self, folder: Path, form: ImageForm) -> None:
        """Write how pictures are prepared for a model of that form."""
        self.images.processor(form.size).write(folder)

    def training(self, form: ImageForm, seed: int) -> ImageExamples:
        """Raises `DataError` where the source has nothing to train on."""
        if not len(self.training_items):
            raise DataError(f"{self.images.source} has no split `train`: it is there to evaluate on alone")
        return super().training(form, seed)

    def examples(self, items: np.ndarray, form: ImageForm, seed: int) -> ImageExamples:
        several = self.vocabulary.size if self.several else None
        return ImageExamples(self.images, self.pictures, items, several, form=form, seed=seed)
