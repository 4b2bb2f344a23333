"""The data of an experiment on scenes: a source, the resizing of pictures, and the augmentation."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from jaxtyping import Int64

from data.class_folders import sides
from data.contents import Broken, Progress, spoken
from data.contract import Batch, Classes, Prepared, Source
from data.errors import DataError
from data.file_contents import Reading
from data.forms import SceneForm
from data.images.processor import IMAGENET_MEAN, IMAGENET_STD
from data.ragged import IGNORED
from data.scenes.examples import SceneExamples
from data.scenes.items import Items, packed_size
from data.scenes.look import Looked, looked_at
from data.scenes.normalization import Normalization
from data.scenes.opening import ReadingSettings, open_scenes
from data.scenes.processor import DEFAULTS, DETR, PROCESSORS, SceneProcessor
from data.scenes.transforms import Alteration
from data.survey import Survey


@dataclasses.dataclass(frozen=True)
class Scenes(Source):
    """Pictures with boxes, masks or depth.

    Attributes:
        source: the demo `digit_scenes` or `rendered_depth` (extra `demo`); a folder in the format of COCO
            (`annotations/*.json` beside folders of pictures), of ADE20K (`images/` and `annotations/` with a PNG of classes for
            each) or of depth maps (`images/` and `depth/`); a list `*.txt` of pictures and depth maps; or a TFDS name such as
            `coco/2017`, `coco/2017_panoptic`, `scene_parse150`, `nyu_depth_v2`. (`docs/scenes.md` has the formats.)
        annotations: `instances`, `panoptic`, `semantic` or `depth`, if a source has several.
        reduce_labels: in a PNG of classes 0 is no class and 1 the first one, as in ADE20K.
        raw_ids: labels are COCO's category ids, as in DETR's published models, and unused ids are `N/A`; else labels number
            the categories.
        depth_scale: units of a depth PNG per metre: 1000 for NYU, 256 for KITTI.
        held_out_split: the split to evaluate on; if empty, `validation` if the source has one.
        shortest, longest: edges of pictures in evaluation, as DETR resizes them.
        image_processor_type: `DetrImageProcessor`, `Mask2FormerImageProcessor`, `GLPNImageProcessor`; the model's where empty.
        image_mean, image_std: mean and standard deviation of each channel, in [0, 1].
        alteration: augmentation of training scenes.
    """

    documents: ClassVar[str] = "scenes"
    forms: ClassVar[type[SceneForm]] = SceneForm

    source: str = "digit_scenes"
    annotations: Literal["", "instances", "panoptic", "semantic", "depth"] = ""
    reduce_labels: bool = False
    raw_ids: bool = False
    depth_scale: float = 1000.0
    held_out_split: str = ""
    shortest: int = 800
    longest: int = 1333
    image_processor_type: str = ""
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    alteration: Alteration = Alteration()

    def __post_init__(self) -> None:
        if not 0 < self.depth_scale < math.inf:
            raise DataError(f"depth_scale={self.depth_scale}: expected a number above 0, not infinite")
        self.processor  # noqa: B018 (it checks the settings)

    @property
    def augmentation(self) -> Normalization:
        return Normalization(1 / 255, self.image_mean, self.image_std)

    def suited_to(self, model_type: str) -> Self:
        return dataclasses.replace(
            self, image_processor_type=self.image_processor_type or PROCESSORS.get(model_type, DETR)
        )

    @property
    def processor(self) -> SceneProcessor:
        """The processor for evaluation, which is written beside the model."""
        kind = self.image_processor_type or DETR
        plain = self.image_mean == (0.0,) * 3 and self.image_std == (1.0,) * 3
        return SceneProcessor(
            kind,
            shortest=self.shortest,
            longest=self.longest,
            size_divisor=DEFAULTS.get(kind, {}).get("size_divisor", 1),
            do_normalize=not plain,
            image_mean=self.image_mean,
            image_std=self.image_std,
        )

    def prepare(
        self, size: int, folder: Path, say: Callable[[str], None], needs: Sequence[str] = ()
    ) -> "PreparedScenes":
        """Opens the source, looks at its scenes and splits them."""
        say(f"opening {self.source}")
        looked = self._look(say, spoken(say, f"the scenes of {self.source}"), self.broken)
        settings = (self.shortest, self.longest, self.image_processor_type, self.reduce_labels, self.depth_scale)
        return PreparedScenes(
            Classes(looked.opened.classes),
            f"{looked.fingerprint} {settings}",
            looked.training,
            looked.held_out,
            given=looked.given,
            settings=self,
            scenes=looked.parts,
            pixels=looked.pixels,
            category_ids=looked.opened.category_ids or tuple(range(len(looked.opened.classes))),
            stuff=looked.opened.stuff,
        )

    def survey(self, progress: Progress) -> Survey:
        """Every picture and annotation of the splits in use is decoded."""
        return self._look(lambda _: None, progress, "skip", again=True).survey()

    def _look(self, say: Callable[[str], None], progress: Progress, broken: Broken, again: bool = False) -> Looked:
        settings = ReadingSettings(
            annotations=self.annotations,
            reduce_labels=self.reduce_labels,
            raw_ids=self.raw_ids,
            depth_scale=self.depth_scale,
            skip=broken == "skip",
            cache=self.cache_folder,
        )
        opened = open_scenes(self.source, settings)
        reading = Reading(
            "picture",
            packed_size,
            self.cache_folder / "scenes",
            decode=broken == "skip",
            again=again,
            progress=progress,
        )
        chosen = sides(opened.splits, self.held_out_split, self.source)
        return looked_at(opened, *chosen, self, reading, broken, say)

    def blank_vocabulary(self, size: int, needs: Sequence[str] = ()) -> Classes:
        return Classes(tuple(f"LABEL_{label}" for label in range(size)))

    def blank(self, form: SceneForm) -> Batch:
        example: Batch = {
            "pixel_values": np.zeros((*form.size, 3), np.uint8),
            "pixel_mask": np.ones(form.size, np.int32),
        }
        if form.objects:
            example["class_labels"] = np.full(form.objects, IGNORED, np.int32)
            example["boxes"] = np.zeros((form.objects, 4), np.float32)
        if "mask_labels" in form.reads:
            example["mask_labels"] = np.zeros((form.objects, *form.size), np.uint8)
        if "labels" in form.reads:
            example["labels"] = np.zeros(form.size, np.float32)
        return example


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedScenes(Prepared):
    """Prepared scenes.

    Attributes:
        scenes: the parts of the source; `training_items` and `held_out_items` are indices counted through all parts.
        pixels: (height, width) of all scenes.
        category_ids: the source's number of each class, by label.
        stuff: labels of classes without instances.
    """

    settings: Scenes
    scenes: tuple[Items, ...]
    pixels: Int64[np.ndarray, "scenes 2"]
    category_ids: tuple[int, ...]
    stuff: tuple[int, ...]

    def save(self, folder: Path, form: SceneForm) -> None:
        """Writes the processor beside the model."""
        self.settings.processor.write(folder)

    def examples(self, items: np.ndarray, form: SceneForm, seed: int) -> SceneExamples:
        """Raises `DataError` where there is nothing on that side."""
        return self._examples(items, form, seed, True)

    def held_out(self, form: SceneForm) -> SceneExamples:
        return self._examples(self.held_out_items, form, 0, False)

    def _examples(self, items: np.ndarray, form: SceneForm, seed: int, shuffled: bool) -> SceneExamples:
        if not len(items):
            raise DataError(f"{self.settings.source} has no such scenes: it may be there to evaluate on alone")
        return SceneExamples(
            scenes=self.scenes,
            places=items,
            pixels=self.pixels[items],
            processor=self.settings.processor,
            alteration=self.settings.alteration,
            form=form,
            seed=seed,
            shuffled=shuffled,
        )
