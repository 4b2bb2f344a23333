"""Folders of image models that go out, opened with `transformers`: every architecture, trained here or loaded.

`AutoImageProcessor` makes the pixels that the model is trained on, and the model of `transformers` gives our outputs for them.
"""

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.forms import ImageForm
from data.images.processor import ImageProcessor
from data.images.source import Images
from data.preprocessor import FILE
from experiments.commands import import_
from experiments.experiment import Phase
from models import hub
from objectives import Classification, MaskedAutoencoder, Objective
from tests.parity.folders.folders_out import apply, show, trained_and_exported
from tests.parity.images.comparisons import perturbed_statistics
from tests.parity.reference import difference, tensors, torch, transformers
from training.optimizers import AdamW

load_image = pytest.importorskip("transformers.image_utils").load_image

SIZE, LABELS = 64, 5
VIT = dict(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=SIZE, patch_size=16
)
SQUARE, EDGE = {"size": {"height": SIZE, "width": SIZE}}, {"size": {"shortest_edge": SIZE}}


@dataclasses.dataclass(frozen=True)
class Vision:
    """One row of the table: a model of pictures and the processor that it is published with.

    Attributes:
        shape: fields of the config.
        processor: module and class of the one that needs no torchvision, and its settings.
        objective: what it is trained for here.
    """

    head: str
    shape: dict[str, Any]
    processor: tuple[str, str, dict[str, Any]]
    objective: Objective = Classification()


VISION = {
    "ViT": Vision("ViTForImageClassification", VIT, ("vit", "ViTImageProcessorPil", SQUARE)),
    "DeiT's processor": Vision(
        "ViTForImageClassification",
        VIT,
        ("deit", "DeiTImageProcessorPil", {**SQUARE, "crop_size": {"height": SIZE, "width": SIZE}}),
    ),
    "ViT-MAE": Vision(
        "ViTMAEForPreTraining",
        {
            **VIT,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 24,
        },
        ("vit", "ViTImageProcessorPil", SQUARE),
        MaskedAutoencoder(normalized=False),
    ),
    "ConvNeXt": Vision(
        "ConvNextForImageClassification",
        dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
        ("convnext", "ConvNextImageProcessorPil", {**EDGE, "crop_pct": 0.9}),
    ),
    "CvT": Vision(
        "CvtForImageClassification",
        dict(embed_dim=[8, 16, 32], num_heads=[1, 2, 4], depth=[1, 2, 3], drop_path_rate=[0.0, 0.0, 0.0]),
        ("convnext", "ConvNextImageProcessorPil", EDGE),
    ),
    "Swin": Vision(
        "SwinForImageClassification",
        dict(image_size=SIZE, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4, drop_path_rate=0.0),
        ("vit", "ViTImageProcessorPil", SQUARE),
    ),
    "LeViT": Vision(
        "LevitForImageClassificationWithTeacher",
        dict(
            image_size=SIZE,
            hidden_sizes=[32, 48, 64],
            num_attention_heads=[2, 3, 4],
            depths=[1, 1, 1],
            key_dim=[8, 8, 8],
        ),
        ("levit", "LevitImageProcessorPil", {**EDGE, "crop_size": {"height": SIZE, "width": SIZE}}),
    ),
    "ResNet": Vision(
        "ResNetForImageClassification",
        dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
        ("convnext", "ConvNextImageProcessorPil", EDGE),
    ),
}


def their_vision(vision: Vision):
    """A model of `transformers` for pictures with random parameters and statistics, and its processor."""
    model = perturbed_statistics(
        vision.head, getattr(transformers, vision.head).config_class(**vision.shape, num_labels=LABELS)
    )
    module, name, settings = vision.processor
    place = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return model, getattr(place, name)(**settings)


def trained_vision(vision: Vision, folder: Path) -> Path:
    """The exported folder of a model after some steps on pictures whose colour says their class."""
    draw = np.random.default_rng(0)
    for label, colour in enumerate(draw.integers(0, 256, (LABELS, 1, 1, 3))):
        place = folder / "classes" / str(label)
        place.mkdir(parents=True)
        for number in range(8):
            pixels = np.clip(colour + draw.integers(-30, 30, (70, 80, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    published = getattr(transformers, vision.head).config_class(**vision.shape, num_labels=LABELS).to_dict()
    model, _ = trained_and_exported(
        folder,
        architecture=vision.head,
        model=hub.config_class(published["model_type"]).from_json(published),
        objective=vision.objective,
        data=Images(source=str(folder / "classes"), crop_pct=0.9, scale=(0.5, 1.0), held_out=0.2),
        optimizer=AdamW(learning_rate=5e-3, warmup_steps=2),
        phases=(Phase(1.0, ImageForm(SIZE)),),
    )
    return model


def pictures(folder: Path) -> list[Path]:
    """Three of other shapes."""
    draw = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(3)]
    for path, size in zip(paths, [(80, 64), (70, 150), (64, 64)], strict=True):
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return paths


def same_pixels_and_outputs(folder: Path, paths: list[Path]) -> tuple[float, float]:
    """Largest differences of what the folder's processors make of pictures, and of what its models say of that."""
    theirs = transformers.AutoImageProcessor.from_pretrained(folder)
    expected = theirs([load_image(str(path)) for path in paths], return_tensors="np")["pixel_values"]
    expected = expected.transpose(0, 2, 3, 1)
    model, variables = hub.load(folder)
    processor = ImageProcessor.read(folder, model.config.model_type)
    pixels = np.stack([processor(path) for path in paths])
    inputs = {"pixel_values": expected}
    if "noise" in inspect.signature(type(model).__call__).parameters:
        inputs["noise"] = np.random.default_rng(1).random((len(paths), 16)).astype(np.float32)
    with torch.no_grad():
        outputs = getattr(transformers, type(model).__name__).from_pretrained(folder).eval()(**tensors(inputs))
    found = apply(model, variables, {name: jnp.asarray(value) for name, value in inputs.items()})
    return difference(pixels, expected), difference(found["logits"], outputs["logits"])


CELLS: dict[tuple[str, str], dict[str, str]] = {}
HEADS = ("architecture", "folder", "pixels differ by", "outputs differ by")


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    show("\n## Pictures", HEADS, CELLS, "a")


def check(cell: tuple[str, str], folder: Path, paths: list[Path]) -> None:
    pixels, outputs = same_pixels_and_outputs(folder, paths)
    CELLS[cell] = {"pixels differ by": f"{pixels:.0e}", "outputs differ by": f"{outputs:.0e}"}
    assert max(pixels, outputs) < 1e-5


@pytest.mark.parametrize("name", VISION)
def test_a_model_trained_here(name, tmp_path):
    """What the export of a run writes: the model, its labels, and the processor of its data."""
    folder = trained_vision(VISION[name], tmp_path)
    if isinstance(VISION[name].objective, Classification):
        assert list(transformers.AutoConfig.from_pretrained(folder).id2label.values()) == list("01234")
    check((name, "trained here"), folder, pictures(tmp_path))


@pytest.mark.parametrize("name", VISION)
def test_a_model_loaded_from_transformers(name, tmp_path):
    model, processor = their_vision(VISION[name])
    model.save_pretrained(tmp_path / "source")
    processor.save_pretrained(tmp_path / "source")
    import_.main([str(tmp_path / "source"), str(tmp_path / "out")])
    assert (tmp_path / "out" / FILE).read_bytes() == (tmp_path / "source" / FILE).read_bytes()
    check((name, "imported"), tmp_path / "out", pictures(tmp_path))
    before, after = (transformers.AutoConfig.from_pretrained(tmp_path / place).to_dict() for place in ("source", "out"))
    changed = {setting for setting in before if before[setting] != after.get(setting)}
    # a model of theirs adds to `down_ops`, and writes what it added
    assert changed <= {"transformers_version", "_name_or_path", "down_ops"}, json.dumps(
        {x: (before[x], after.get(x)) for x in changed}
    )
