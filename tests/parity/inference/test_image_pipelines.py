"""Our image classification against that of `transformers`, from the file of a photograph to the probabilities."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images.processor import ImageProcessor
from inference.explanations import explain
from inference.pipeline import pipeline

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from models import hub  # noqa: E402
from tests.parity.reference import perturbed  # noqa: E402

LABELS = {number: f"label {number}" for number in range(10)}
EDGE = {"size": {"shortest_edge": 64}}
MODELS = {
    "vit": (
        "ViTForImageClassification",
        dict(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=64,
            patch_size=8,
        ),
        ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"size": {"height": 64, "width": 64}}),
        (8, 8),
    ),
    "convnext": (
        "ConvNextForImageClassification",
        dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], image_size=64),
        ("convnext.image_processing_pil_convnext", "ConvNextImageProcessorPil", EDGE),
        (2, 2),
    ),
    "resnet": (
        "ResNetForImageClassification",
        dict(embedding_size=8, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 2]),
        ("convnext.image_processing_pil_convnext", "ConvNextImageProcessorPil", EDGE),
        (2, 2),
    ),
    "swin": (
        "SwinForImageClassification",
        dict(image_size=64, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4),
        ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"size": {"height": 64, "width": 64}}),
        (8, 8),
    ),
    "levit": (
        "LevitForImageClassificationWithTeacher",
        dict(
            image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]
        ),
        (
            "levit.image_processing_pil_levit",
            "LevitImageProcessorPil",
            EDGE | {"crop_size": {"height": 64, "width": 64}},
        ),
        (2, 2),  # of the last tokens that are more than one
    ),
    "cvt": (
        "CvtForImageClassification",
        dict(embed_dim=[8, 16, 32], num_heads=[1, 2, 4], depth=[1, 2, 3]),
        ("convnext.image_processing_pil_convnext", "ConvNextImageProcessorPil", EDGE),
        (8, 8),
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_answers(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(f"models.{kind}")
    datasets = pytest.importorskip("sklearn.datasets")
    architecture, shape, (module, name, settings), places = MODELS[kind]
    names = dict(id2label=LABELS, label2id={label: number for number, label in LABELS.items()})
    model = perturbed(architecture, transformers.CONFIG_MAPPING[kind](**shape, **names))
    processor = getattr(importlib.import_module(f"transformers.models.{module}"), name)(**settings)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    files = [str(tmp_path / f"{number}.jpg") for number in range(3)]
    china, flower = (Image.fromarray(pixels) for pixels in datasets.load_sample_images().images)
    exif = Image.Exif()
    exif[0x0112] = 6
    china.save(files[0])
    flower.crop((50, 0, 351, 427)).convert("CMYK").save(files[1])
    flower.save(files[2], exif=exif)
    ours = pipeline("image-classification", tmp_path)
    theirs = transformers.pipeline("image-classification", model=model, image_processor=processor)
    for found, expected in zip(ours(files), theirs(files), strict=True):
        assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
        np.testing.assert_allclose([a["score"] for a in found], [a["score"] for a in expected], atol=1e-5)
    assert len(ours(files[0])) == 5 and len(ours(files[0], top_k=99)) == 10
    values = ImageProcessor.read(tmp_path)(files[0])
    counts = explain(*hub.load(tmp_path), values, 3)
    assert counts.shape == places and counts.min() >= 0 and counts.max() in (0, 1)
