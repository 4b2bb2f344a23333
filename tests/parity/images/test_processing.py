"""Our image processor against those of `transformers` (their Pillow backend), on photographs of many kinds."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images.processor import ImageProcessor
from data.preprocessor import FILE

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers.image_utils import load_image  # noqa: E402
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil  # noqa: E402
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil  # noqa: E402
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil  # noqa: E402
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil  # noqa: E402
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil  # noqa: E402

PROCESSORS = {
    "vit": (ViTImageProcessorPil, {}),
    "vit of another size": (ViTImageProcessorPil, {"size": {"height": 97, "width": 61}, "resample": 3}),
    "vit, shorter edge": (ViTImageProcessorPil, {"size": {"shortest_edge": 50}, "resample": 1}),
    "vit, untouched but cropped": (
        ViTImageProcessorPil,
        {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 300, "width": 501}},
    ),
    "deit": (DeiTImageProcessorPil, {}),
    "convnext, cropped": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 224}}),
    "convnext of another share": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 100}, "crop_pct": 0.93}),
    "convnext, warped": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 384}}),
    "resnet": (
        ConvNextImageProcessorPil,
        {
            "size": {"shortest_edge": 224},
            "crop_pct": 0.875,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "levit": (LevitImageProcessorPil, {}),
    "segformer": (SegformerImageProcessorPil, {}),
    "not normalised": (ViTImageProcessorPil, {"do_normalize": False}),
    "not rescaled": (
        ViTImageProcessorPil,
        {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": [3, 4, 5]},
    ),
}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real photographs of odd sizes, and what else a file may hold."""
    datasets = pytest.importorskip("sklearn.datasets")
    folder = tmp_path_factory.mktemp("photographs")
    china, flower = (Image.fromarray(image) for image in datasets.load_sample_images().images)
    turned = Image.Exif()
    turned[0x0112] = 6
    mirrored = Image.Exif()
    mirrored[0x0112] = 5
    alpha = flower.crop((0, 0, 333, 419)).copy()
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    pictures: dict[str, tuple[Image.Image, dict]] = {
        "wide.jpg": (china, {}),
        "tall.png": (flower.crop((100, 0, 301, 427)), {}),
        "odd.jpg": (china.crop((3, 4, 3 + 613, 4 + 277)), {"quality": 70}),
        "tiny.png": (china.resize((13, 9)), {}),
        "grey.jpg": (flower.convert("L"), {}),
        "palette.png": (china.quantize(64), {}),
        "alpha.png": (alpha, {}),
        "cmyk.jpg": (china.convert("CMYK"), {}),
        "turned.jpg": (flower, {"exif": turned}),
        "mirrored.jpg": (china.crop((0, 0, 301, 201)), {"exif": mirrored}),
        "one.png": (china.crop((9, 9, 10, 10)), {}),
    }
    for name, (picture, settings) in pictures.items():
        picture.save(folder / name, **settings)
    return {name: folder / name for name in pictures}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_same_values(name: str, photographs: dict[str, Path], tmp_path: Path) -> None:
    """To the last bit, and so by far within the step of 1/255 between two grey values."""
    kind, settings = PROCESSORS[name]
    theirs = kind(**settings)
    theirs.save_pretrained(tmp_path)
    ours = ImageProcessor.read(tmp_path)
    for photograph, path in photographs.items():
        expected = theirs(load_image(str(path)), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        found = ours(path)
        assert found.dtype == np.float32 and found.shape == expected.shape, photograph
        np.testing.assert_array_equal(found, expected, err_msg=photograph)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_file_that_we_write_is_theirs(name: str, photographs: dict[str, Path], tmp_path: Path) -> None:
    kind, settings = PROCESSORS[name]
    kind(**settings).save_pretrained(tmp_path / "theirs")
    ours = ImageProcessor.read(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    ours.write(tmp_path / "ours")
    assert ImageProcessor.read(tmp_path / "ours") == ours
    again = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours", use_fast=False)
    assert type(again).__name__ == kind.__name__
    picture = photographs["odd.jpg"]
    expected = again(load_image(str(picture)), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(ours(picture), expected)


@pytest.mark.parametrize(
    "kind", [ViTImageProcessorPil, DeiTImageProcessorPil, ConvNextImageProcessorPil, LevitImageProcessorPil]
)
def test_what_a_file_does_not_say_is_theirs(kind: type, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    assert ImageProcessor.from_json({"image_processor_type": kind.__name__}) == ImageProcessor.read(tmp_path)


OLD_FILES = {
    "google/vit-base-patch16-224": (
        "vit",
        {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224},
        ViTImageProcessorPil,
    ),
    "microsoft/cvt-13": (
        "cvt",
        {
            "crop_pct": 0.875,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "ConvNextFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "size": 224,
        },
        ConvNextImageProcessorPil,
    ),
    "facebook/levit-128S": (
        "levit",
        {
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "LevitFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "size": 224,
        },
        LevitImageProcessorPil,
    ),
    "facebook/deit-base-patch16-224": (
        "vit",
        {
            "crop_size": 224,
            "do_center_crop": True,
            "feature_extractor_type": "DeiTFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "size": 256,
        },
        DeiTImageProcessorPil,
    ),
}


@pytest.mark.parametrize("name", OLD_FILES)
def test_old_files_mean_what_they_meant(name: str, photographs: dict[str, Path], tmp_path: Path) -> None:
    model_type, published, kind = OLD_FILES[name]
    (tmp_path / FILE).write_text(json.dumps(published))
    ours, theirs = ImageProcessor.read(tmp_path, model_type), kind.from_pretrained(tmp_path)
    for path in (photographs["wide.jpg"], photographs["turned.jpg"]):
        expected = theirs(load_image(str(path)), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(ours(path), expected)
