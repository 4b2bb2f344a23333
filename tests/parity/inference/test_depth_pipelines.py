"""Our depth estimation against that of `transformers`, from the file of a photograph to metres and a grey picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.pipeline import pipeline
from tests.parity.images.comparisons import perturbed_statistics
from tests.parity.reference import transformers

glpn = pytest.importorskip("transformers.models.glpn.image_processing_pil_glpn")

SHAPE = dict(
    hidden_sizes=[8, 16, 20, 32], num_attention_heads=[1, 2, 4, 4], depths=[1, 1, 1, 1], decoder_hidden_size=16
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, dict, Image.Image]]:
    """Ours and theirs of three photographs: of multiples of 32, of others, and turned by its EXIF."""
    datasets = pytest.importorskip("sklearn.datasets")
    folder = tmp_path_factory.mktemp("glpn")
    model = perturbed_statistics("GLPNForDepthEstimation", transformers.GLPNConfig(**SHAPE))
    processor = glpn.GLPNImageProcessorPil()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    china, flower = (Image.fromarray(pixels) for pixels in datasets.load_sample_images().images)
    exif = Image.Exif()
    exif[0x0112] = 6
    china.crop((0, 0, 256, 128)).save(folder / "0.png")
    flower.crop((50, 0, 251, 177)).save(folder / "1.png")
    flower.crop((0, 0, 240, 161)).save(folder / "2.jpg", exif=exif)
    files = sorted(map(str, folder.glob("[012].*")))
    theirs = transformers.pipeline("depth-estimation", model=model, image_processor=processor)
    ours = pipeline("depth-estimation", folder)
    return list(zip(ours(files), theirs(files), map(Image.open, files), strict=True))


@pytest.mark.parametrize("number", range(3))
def test_the_same_depth(answers, number):
    found, expected, _ = answers[number]
    metres = expected["predicted_depth"].numpy()
    assert (
        set(found) == set(expected) == {"predicted_depth", "depth"} and found["predicted_depth"].shape == metres.shape
    )
    np.testing.assert_allclose(found["predicted_depth"], metres, atol=1e-5 * np.abs(metres).max(), rtol=0)


@pytest.mark.parametrize("number", range(3))
def test_the_same_grey_picture(answers, number):
    """Values that lie on the edge between two levels may be rounded either way."""
    found, expected, _ = answers[number]
    assert found["depth"].mode == expected["depth"].mode == "L" and found["depth"].size == expected["depth"].size
    levels, theirs = (np.asarray(x["depth"]).astype(int) for x in (found, expected))
    assert np.abs(levels - theirs).max() <= 1 and (levels != theirs).mean() < 1e-3
    assert levels.min() == 0 and levels.max() == 255


def test_a_folder_of_ours_has_their_processor(answers, tmp_path: Path):
    from data.scenes.processor import SceneProcessor
    from models import hub

    source = Path(answers[0][2].filename).parent
    hub.save(tmp_path, *hub.load(source))
    SceneProcessor.read(source, "glpn").write(tmp_path)
    again = transformers.pipeline("depth-estimation", model=str(tmp_path))
    found = again(answers[1][2].filename)["predicted_depth"].numpy()
    expected = answers[1][1]["predicted_depth"].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_too_small_pictures_are_refused(answers, tmp_path: Path):
    """There by an error of its image library, here by a sentence."""
    from data import DataError

    ask = pipeline("depth-estimation", Path(answers[0][2].filename).parent)
    with pytest.raises(DataError, match="a picture of 31 × 64 pixels: both edges must be 32 at least"):
        ask(np.zeros((31, 64, 3), np.uint8))
