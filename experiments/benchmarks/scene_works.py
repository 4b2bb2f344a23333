"""Benchmarks of steps on scenes: boxes, masks and depth. See `experiments.benchmarks.works`."""

import dataclasses

from experiments.benchmarks.work import Work

HEIGHT, WIDTH = 192, 256
"""Pixels of a scene."""
OBJECTS, KINDS = 20, 80
"""Things in a scene, and their classes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthWork(Work):
    """Pictures of `HEIGHT` × `WIDTH` pixels, each of a known depth."""

    objective: str = "Depth"

    def data(self):
        from data.forms import SceneForm
        from data.scenes.source import Scenes

        return Scenes("rendered_depth"), SceneForm((HEIGHT, WIDTH), objects=0)

    def drawn(self, name, shape, random):
        import numpy as np

        if name == "pixel_values":
            return random.integers(0, 256, shape, dtype=np.uint8)
        return np.ones(shape, np.int32) if name == "pixel_mask" else random.uniform(0.5, 9.5, shape).astype(np.float32)

    def batch_of_theirs(self, numpy):
        random, shape = numpy.random.default_rng(0), (self.batch, HEIGHT, WIDTH)
        pixel_values = random.random((self.batch, 3, HEIGHT, WIDTH)).astype(numpy.float32)
        return {"pixel_values": pixel_values, "labels": random.uniform(0.5, 9.5, shape).astype(numpy.float32)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionWork(Work):
    """Pictures of `HEIGHT` × `WIDTH` pixels with up to `OBJECTS` things of `KINDS` classes in them, as COCO has them."""

    objective: str = "SetPrediction"

    @property
    def published(self):
        names = {str(number): f"LABEL_{number}" for number in range(KINDS)}
        return {**self.config, "id2label": names, "label2id": {name: int(number) for number, name in names.items()}}

    def data(self):
        from data.forms import SceneForm
        from data.scenes.source import Scenes

        return Scenes("digit_scenes"), SceneForm((HEIGHT, WIDTH), objects=OBJECTS)

    def drawn(self, name, shape, random):
        import numpy as np

        if name == "pixel_values":
            return random.integers(0, 256, shape, dtype=np.uint8)
        if name == "boxes":
            return random.uniform(0.2, 0.6, shape).astype(np.float32)
        if name == "mask_labels":
            return rectangles(shape, random)
        return random.integers(0, KINDS, shape, dtype=np.int32) if name == "class_labels" else np.ones(shape, np.int32)

    def batch_of_theirs(self, numpy):
        random = numpy.random.default_rng(0)
        shape = (self.batch, 3, HEIGHT, WIDTH)
        things = [
            {
                "class_labels": random.integers(0, KINDS, OBJECTS),
                "boxes": random.uniform(0.2, 0.6, (OBJECTS, 4)).astype(numpy.float32),
            }
            for _ in range(self.batch)
        ]
        mask = numpy.ones((self.batch, HEIGHT, WIDTH), numpy.int64)
        values = random.normal(size=shape).astype(numpy.float32)
        return {"pixel_values": values, "pixel_mask": mask, "labels": things}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskWork(DetectionWork):
    """The same with the masks of the things."""

    objective: str = "MaskPrediction"

    def batch_of_theirs(self, numpy):
        batch = super().batch_of_theirs(numpy)
        random, shape = numpy.random.default_rng(0), (OBJECTS, HEIGHT, WIDTH)
        batch["class_labels"] = [thing["class_labels"] for thing in batch.pop("labels")]
        batch["mask_labels"] = [rectangles(shape, random).astype(numpy.float32) for _ in range(self.batch)]
        return batch

    def made_ready(self, model):
        """With the batch norms of a ResNet as they were trained before, as in the published runs and in ours."""
        import torch

        model = super().made_ready(model)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        return model


def rectangles(shape: tuple[int, ...], random):
    """A mask of one upright rectangle for each of `shape[:-2]`."""
    import numpy as np

    middle, half = random.uniform(0.2, 0.8, (2, *shape[:-2])), random.uniform(0.1, 0.3, (2, *shape[:-2]))
    inside = [
        np.abs((np.arange(size) + 0.5) / size - middle[axis][..., None]) < half[axis][..., None]
        for axis, size in enumerate(shape[-2:])
    ]
    return (inside[0][..., :, None] & inside[1][..., None, :]).astype(np.uint8)


MIT = dict(hidden_sizes=(64, 128, 320, 512))
DETR = dict(
    **dict(use_timm_backbone=False, backbone_config={"model_type": "resnet", "out_features": ["stage4"]}),
    auxiliary_loss=True,
)
"""R50, with the losses of all layers of the decoder."""
STAGES = ["stage1", "stage2", "stage3", "stage4"]
BACKBONES = {
    "resnet50": {"model_type": "resnet", "out_features": STAGES},
    "swin-tiny": {"model_type": "swin", "depths": (2, 2, 6, 2), "drop_path_rate": 0.3, "out_features": STAGES},
}
SCENES = (
    {"detr-resnet50": DetectionWork(architecture="DetrForObjectDetection", model_type="detr", batch=2, config=DETR)}
    | {
        f"mask2former-{name}": MaskWork(
            architecture="Mask2FormerForUniversalSegmentation",
            model_type="mask2former",
            batch=2,
            config={"backbone_config": config},
        )
        for name, config in BACKBONES.items()
    }
    | {
        f"glpn-{name}": DepthWork(architecture="GLPNForDepthEstimation", model_type="glpn", batch=2, config=config)
        for name, config in (
            ("b0", {}),
            ("b1", MIT),
            ("b2", dict(MIT, depths=(3, 4, 6, 3))),
            ("b3", dict(MIT, depths=(3, 4, 18, 3))),
            ("b4", dict(MIT, depths=(3, 8, 27, 3))),
        )
    }
)
