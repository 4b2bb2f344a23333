"""From a picture to `pixel_values`, as a published `preprocessor_config.json` says: what `transformers`' processors do."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from PIL import Image

from data.errors import DataError
from data.images.pictures import Pixels, Source, decoded, opened
from data.preprocessor import Preprocessor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

Size = tuple[int, int] | int
"""(height, width), or the length of the shorter edge."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": (224, 224), "resample": 2, "image_mean": HALF, "image_std": HALF},
    "DeiTImageProcessor": {
        "size": (256, 256),
        "do_center_crop": True,
        "crop_size": (224, 224),
        "image_mean": HALF,
        "image_std": HALF,
    },
    "ConvNextImageProcessor": {"size": 384, "image_mean": HALF, "image_std": HALF},
    "SegformerImageProcessor": {"size": (512, 512), "resample": 2},
    "LevitImageProcessor": {"size": 224, "do_center_crop": True, "crop_size": (224, 224)},
}
"""What a processor does where its file does not say, by its published name."""

PROCESSORS = {
    "convnext": "ConvNextImageProcessor",
    "cvt": "ConvNextImageProcessor",
    "levit": "LevitImageProcessor",
    "resnet": "ConvNextImageProcessor",
    "segformer": "SegformerImageProcessor",
    "swin": "ViTImageProcessor",
    "vit": "ViTImageProcessor",
}
"""The processor of a `model_type`, for old files that do not name theirs."""

WARPED_FROM = 384
"""From this size on a `ConvNextImageProcessor` fits the whole picture into the square; below, it crops."""


@dataclasses.dataclass(frozen=True)
class PictureProcessor(Preprocessor):
    """What processors of pictures have in common, with the names of a published `preprocessor_config.json`.

    Attributes:
        image_processor_type: the published class, which decides how pictures are resized.
        do_resize: whether their size changes at all.
        resample: Pillow's number of the interpolation: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        do_rescale, rescale_factor: what the values from 0 to 255 are multiplied with.
        do_normalize, image_mean, image_std: of each channel, after rescaling.
        defaults: what each class does where its file does not say.
        by_model_type: the class for each `model_type`, for old files that name none.
    """

    inputs: ClassVar[str] = "pictures are"
    part: ClassVar[str] = "image_processor"
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    by_model_type: ClassVar[Mapping[str, str]]

    image_processor_type: str
    do_resize: bool = True
    resample: int = 2
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        self.check_type(self.image_processor_type)
        if self.resample not in range(6):
            raise DataError(f"resample={self.resample!r}: expected 0 to 5, Pillow's number of an interpolation")
        for name in ("image_mean", "image_std"):
            if len(vars(self)[name]) != 3:
                raise DataError(f"{name}={vars(self)[name]!r}: expected a number for each of red, green and blue")
        if not all(self.image_std):
            raise DataError(f"image_std={self.image_std!r}: it divides, and must not be 0")

    @classmethod
    def check_type(cls, name: str) -> None:
        """Raise `DataError` where no class here has the name."""
        if name not in cls.defaults:
            raise DataError(f"image_processor_type={name!r}: known are {', '.join(cls.defaults)}")

    @classmethod
    def settings(cls, published: Mapping[str, Any], model_type: str) -> dict[str, Any]:
        """The fields that a published file has, old ones included; defaults of its class for the others."""
        named = published.get("image_processor_type") or published.get("feature_extractor_type")
        name = str(named or cls.by_model_type.get(model_type, cls.image_processor_type))
        name = name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
        cls.check_type(name)
        names = {field.name for field in dataclasses.fields(cls)}
        known = {key: value for key, value in published.items() if key in names and value is not None}
        for key in ("image_mean", "image_std"):
            if key in known:
                known[key] = tuple(known[key]) if isinstance(known[key], list | tuple) else (known[key],) * 3
        return {**cls.defaults[name], **known, "image_processor_type": name}


@dataclasses.dataclass(frozen=True)
class ImageProcessor(PictureProcessor):
    """How pictures become `pixel_values` of one size.

    Attributes:
        image_processor_type: whose way of resizing: `ViTImageProcessor`, `DeiTImageProcessor` and
            `SegformerImageProcessor` resize to `size`;
            `ConvNextImageProcessor` (ConvNeXt, CvT, ResNet) resizes the shorter edge to `size / crop_pct` and crops the
            middle, or warps to the square from 384 on; `LevitImageProcessor` resizes the shorter edge to 256 / 224 of `size`.
        size: (height, width), or the length of the shorter edge.
        crop_pct: fraction of the shorter edge that a `ConvNextImageProcessor` keeps.
        do_center_crop, crop_size: (height, width) cut from the middle, with black around it where there is less.
    """

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = DEFAULTS
    by_model_type: ClassVar[Mapping[str, str]] = PROCESSORS

    image_processor_type: str = "ViTImageProcessor"
    resample: int = 3
    size: Size = (224, 224)
    crop_pct: float = 224 / 256
    do_center_crop: bool = False
    crop_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, size in (("size", self.size), ("crop_size", self.crop_size)):
            edges = size if isinstance(size, tuple) else () if size is None else (size,)
            if any(not _whole(edge) for edge in edges):
                raise DataError(f"{name}={size!r}: expected whole numbers above 0")
        if self.image_processor_type == "ConvNextImageProcessor" and isinstance(self.size, tuple):
            raise DataError(f"size={self.size!r}: a ConvNextImageProcessor takes the length of the shorter edge")
        if self.do_center_crop and self.crop_size is None:
            raise DataError("do_center_crop without a crop_size: say what to cut out")
        if not 0 < self.crop_pct <= 1:
            raise DataError(f"crop_pct={self.crop_pct!r}: expected a fraction above 0, at most 1")

    @classmethod
    def from_json(cls, published: Mapping[str, Any], model_type: str = "") -> "ImageProcessor":
        """From the contents of a published file, old ones included; keys that mean nothing here are ignored."""
        settings = cls.settings(published, model_type)
        square = isinstance(DEFAULTS[settings["image_processor_type"]]["size"], tuple)
        for name, whole in (("size", square), ("crop_size", True)):
            if name in settings:
                settings[name] = _size(name, settings[name], whole)
        return cls(**settings)

    def to_json(self) -> dict[str, Any]:
        """The contents of a published file."""
        fields = dataclasses.asdict(self)
        if self.image_processor_type != "ConvNextImageProcessor":
            del fields["crop_pct"]
        for name in ("size", "crop_size"):
            size = fields[name]
            if isinstance(size, tuple):
                fields[name] = {"height": size[0], "width": size[1]}
            elif size is not None:
                fields[name] = {"shortest_edge": size}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def framed(self, image: Image.Image) -> Image.Image:
        """An RGB picture resized and cropped."""
        if self.do_resize:
            image = self._resized(image)
        return center_crop(image, self.crop_size) if self.do_center_crop else image

    def _resized(self, image: Image.Image) -> Image.Image:
        if isinstance(self.size, tuple):
            return resize(image, self.size, self.resample)
        if self.image_processor_type == "ConvNextImageProcessor":
            square = (self.size, self.size)
            if self.size >= WARPED_FROM:
                return resize(image, square, self.resample)
            edge = int(self.size / self.crop_pct)
            return center_crop(resize(image, scaled(image, edge), self.resample), square)
        edge = int(256 / 224 * self.size) if self.image_processor_type == "LevitImageProcessor" else self.size
        return resize(image, scaled(image, edge), self.resample)

    def values(self, pixels: np.ndarray) -> Float32[np.ndarray, "*batch height width 3"]:
        """Pixels (…, height, width, 3), uint8, rescaled and normalised."""
        values = pixels
        if self.do_rescale:
            values = (values.astype(np.float64) * self.rescale_factor).astype(np.float32)
        values = values.astype(np.float32)
        if self.do_normalize:
            values = (values - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return values

    def pixels(self, source: Source, name: str = "") -> Pixels:
        """A picture decoded, resized and cropped, before it is rescaled.

        Raises:
            DataError: it is no picture, or a broken one.
        """
        with opened(source, name) as image:
            return np.asarray(self.framed(decoded(image)))

    def __call__(self, source: Source, name: str = "") -> Float32[np.ndarray, "height width 3"]:
        """`pixel_values` of a picture.

        Raises:
            DataError: it is no picture, or a broken one.
        """
        return self.values(self.pixels(source, name))


def _whole(edge: Any) -> bool:
    return isinstance(edge, int) and not isinstance(edge, bool) and edge > 0


def _size(name: str, published: Any, square: bool) -> Size:
    """A size as files have it: a number, two of them, or an object."""
    if isinstance(published, Mapping):
        if {"height", "width"} <= set(published):
            return (published["height"], published["width"])
        if set(published) == {"shortest_edge"}:
            return published["shortest_edge"]
        raise DataError(f"{name}={dict(published)!r}: expected height and width, or shortest_edge")
    if isinstance(published, list | tuple):
        return tuple(published)
    return (published, published) if square else published


def scaled(image: Image.Image, edge: int) -> tuple[int, int]:
    """(height, width) of a picture whose shorter edge becomes `edge`, the longer one rounded down as published."""
    width, height = image.size
    return (int(edge * height / width), edge) if width <= height else (edge, int(edge * width / height))


def resize(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    height, width = size
    return image.resize((width, height), resample=resample)


def center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, with black around it where there is less; an odd pixel goes where the published crop has it."""
    (width, height), (crop_height, crop_width) = image.size, size
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return image.crop((left, top, left + crop_width, top + crop_height))
