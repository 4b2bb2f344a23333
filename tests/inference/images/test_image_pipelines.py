"""Pipelines of pictures against the model they ask, and where it says that it looked."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.images.processor import ImageProcessor
from experiments.commands import predict
from experiments.experiment import ExperimentError
from inference import explanations
from inference.pipeline import pipeline
from inference.readers.picture import PictureReader
from models import hub
from models.config import ModelConfig, ModelError
from models.model import Model
from models.outputs import ModelOutput

SIZE, PATCH = 16, 4
LABELS = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Config(ModelConfig):
    model_type: ClassVar[str] = "vit"
    labels: tuple[str, ...] = LABELS
    image_size: int = SIZE
    num_channels: int = 3


def eye(key, shape, dtype=jnp.float32):
    return jnp.eye(*shape, dtype=dtype)


class Convolved(Model):
    """The mean of each colour, of a feature map made twice over by a layer in a scan; then of its mean, logits."""

    config: Config = Config()

    @nn.compact
    def __call__(self, pixel_values, *, dropout_keys=None):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, hidden, _):
                return nn.Dense(3, kernel_init=nn.initializers.constant(jnp.eye(3) * 2), name="double")(hidden), None

        patches = nn.avg_pool(pixel_values, (PATCH, PATCH), (PATCH, PATCH))
        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        hidden, _ = scan(name="layers")(patches, None)
        logits = nn.Dense(len(self.config.labels), kernel_init=eye)(hidden.mean((1, 2)))
        return ModelOutput(logits=logits, last_hidden_state=hidden)


class Attentive(Model):
    """A token for the class, and 4 × 4 patches; it attends to the patches by their brightness."""

    config: Config = Config()

    @nn.compact
    def __call__(self, pixel_values, *, dropout_keys=None, output_attentions=False):
        patches = nn.avg_pool(pixel_values, (PATCH, PATCH), (PATCH, PATCH)).reshape(len(pixel_values), -1, 3)
        tokens = jnp.concatenate([jnp.zeros_like(patches[:, :1]), patches], axis=1)
        weights = jax.nn.softmax(3 * tokens.sum(-1))
        attention = jnp.broadcast_to(weights[:, None, None], (len(tokens), 2, 17, 17))
        logits = nn.Dense(len(self.config.labels), kernel_init=eye)(jnp.einsum("bt,btc->bc", weights, tokens))
        return ModelOutput(logits=logits, attentions=jnp.stack([attention] * 2) if output_attentions else None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that holds a model of the class asked for, and what it holds."""

    def of(kind: type[Model]):
        model = kind()
        variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3))))
        ImageProcessor(size=(SIZE, SIZE), resample=2).write(tmp_path)
        monkeypatch.setattr(hub, "checkpoint_folder", lambda path: Path(path))
        monkeypatch.setattr(hub, "load", lambda path: (model, variables))
        monkeypatch.setattr(hub, "outline", lambda path: model)
        return tmp_path, model, variables

    return of


def picture(path: Path, colour: tuple[int, int, int], place: tuple[int, int] = (0, 0)) -> Path:
    """Black, with a patch of a colour: at the row and column given, of 4 × 4."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    top, left = PATCH * place[0], PATCH * place[1]
    pixels[top : top + PATCH, left : left + PATCH] = colour
    Image.fromarray(pixels).save(path)
    return path


def test_image_classification_gives_the_probabilities_of_the_model(folder, tmp_path: Path) -> None:
    path, model, variables = folder(Convolved)
    file = picture(tmp_path / "a.png", (90, 30, 200))
    expected = np.asarray(
        jax.nn.softmax(model.apply(variables, jnp.asarray(ImageProcessor.read(path)(file))[None]).logits[0])
    )
    answers = pipeline("image-classification", path)(str(file))
    assert [set(answer) for answer in answers] == [{"label", "score"}] * 3
    assert [a["label"] for a in answers] == [LABELS[i] for i in np.argsort(-expected)]
    np.testing.assert_allclose([a["score"] for a in answers], np.sort(expected)[::-1], atol=1e-6)


def test_a_list_is_answered_as_its_pictures_one_by_one(folder, tmp_path: Path, monkeypatch) -> None:
    """However a picture comes, and whatever stands beside it."""
    monkeypatch.setattr(PictureReader, "block", 3)
    path, _, _ = folder(Convolved)
    ImageProcessor(do_resize=False).write(path)  # so pictures of several sizes reach the model
    ask = pipeline("image-classification", path)
    files = [picture(tmp_path / f"{n}.png", (90 * n, 40, 99)) for n in range(3)]
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:4, :4] = (10, 200, 30)
    pictures = [files[0], str(files[1]), wide, files[2].read_bytes(), np.asarray(Image.open(files[0]))]
    together, alone = ask(pictures, top_k=2), [ask(each, top_k=2) for each in pictures]
    assert [len(answers) for answers in together] == [2] * 5 and together[0] == together[4] != together[1]
    for one, other in zip(together, alone, strict=True):
        assert [a["label"] for a in one] == [a["label"] for a in other]
        np.testing.assert_allclose([a["score"] for a in one], [a["score"] for a in other], atol=1e-6)


def test_class_evidence_is_where_the_colour_is(folder, tmp_path: Path) -> None:
    model, variables = folder(Convolved)[1:]
    processor = ImageProcessor(size=(SIZE, SIZE), resample=2, do_normalize=False)
    pixels = np.asarray(Image.open(picture(tmp_path / "a.png", (0, 200, 0), (2, 1)))).copy()
    pixels[:PATCH, -PATCH:] = (200, 0, 0)
    green = explanations.explain(model, variables, processor(pixels), LABELS.index("green"))
    red = explanations.explain(model, variables, processor(pixels), LABELS.index("red"))
    assert green.shape == red.shape == (4, 4)
    assert green[2, 1] == 1 and green.sum() == 1 and red[0, 3] == 1 and red.sum() == 1


def test_class_evidence_is_grad_cam(folder) -> None:
    """Of the map that the scan returns, written the long way: weights are means of derivatives, what is below 0 goes."""
    model, variables = folder(Convolved)[1:]
    generator = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: x + jnp.asarray(generator.normal(0, 1, x.shape), x.dtype), variables)
    head = variables["params"]["Dense_0"]
    head["kernel"] = head["kernel"].at[:, 2].set(jnp.array([1.0, -1.0, 0.5]))
    values = generator.normal(0, 9, (SIZE, SIZE, 3)).astype(np.float32)
    hidden = values.reshape(4, 4, 4, 4, 3).mean((1, 3))
    double = jax.tree.map(np.asarray, variables["params"]["layers"]["double"])
    for layer in range(2):
        hidden = hidden @ double["kernel"][layer] + double["bias"][layer]
    weights = np.asarray(variables["params"]["Dense_0"]["kernel"])[:, 2] / 16
    expected = np.maximum(hidden @ weights, 0)
    assert (weights < 0).any() and (weights > 0).any() and (expected == 0).any() and (expected > 0).any()
    found = explanations.explain(model, variables, values, 2)
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-5)


def test_attention_rollout_multiplies_what_layers_pass_on(folder) -> None:
    generator = np.random.default_rng(0)
    attentions = generator.dirichlet(np.ones(9), (3, 2, 9))
    flow = np.eye(9)
    for layer in range(3):
        flow = (0.5 * attentions[layer].mean(0) + 0.5 * np.eye(9)) @ flow
    expected = flow[0, 1:].reshape(2, 4)
    found = explanations.attention_rollout(attentions, (10, 20))
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-12)


def test_attention_is_where_the_light_is(folder, tmp_path: Path) -> None:
    model, variables = folder(Attentive)[1:]
    pixels = ImageProcessor(size=(SIZE, SIZE), do_normalize=False)(picture(tmp_path / "a.png", (255, 255, 255), (3, 2)))
    counts = explanations.explain(model, variables, pixels, 0)
    assert counts.shape == (4, 4) and counts[3, 2] == 1 and np.sort(counts.ravel())[-2] < 0.01


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [(197, (224, 224), (1, 14, 14)), (196, (224, 224), (0, 14, 14)), (198, (224, 224), (2, 14, 14)),
     (16, (224, 224), (0, 4, 4)), (7 * 12 + 1, (112, 192), (1, 7, 12)), (5, (8, 8), (1, 2, 2))],
)  # fmt: skip
def test_tokens_are_laid_out_in_rows(tokens, size, expected) -> None:
    assert explanations.layout(tokens, size) == expected
    with pytest.raises(ModelError, match="8 tokens are no rows and columns of a picture of 9 × 9 pixels"):
        explanations.layout(8, (9, 9))


def test_the_command_answers_and_explains(folder, tmp_path: Path, capsys) -> None:
    path, file = folder(Attentive)[0], picture(tmp_path / "a.png", (255, 0, 0), (1, 1))
    out = tmp_path / "why.png"
    arguments = ["image-classification", str(file), "--model", str(path), "--explain", str(out), "--top-k", "2"]
    predict.main(arguments)
    answers = json.loads(capsys.readouterr().out)
    assert answers[0]["label"] == "red" and len(answers) == 2
    with Image.open(out) as why:
        pixels = np.asarray(why).astype(int)
    assert pixels.shape == (SIZE, 2 * SIZE, 3)
    assert np.array_equal(pixels[:, :SIZE], np.asarray(Image.open(file)))
    heat = pixels[:, SIZE:] - pixels[:, :SIZE] // 2
    assert np.unravel_index(heat.sum(-1).argmax(), (SIZE, SIZE)) in [(r, c) for r in range(4, 8) for c in range(4, 8)]


def test_what_cannot_be_asked(folder, tmp_path: Path) -> None:
    path, file = folder(Convolved)[0], picture(tmp_path / "a.png", (255, 0, 0))
    ask = pipeline("image-classification", path)
    with pytest.raises(ModelError, match="no picture came"):
        ask([])
    with pytest.raises(ModelError, match="top_k=0"):
        ask(file, top_k=0)
    with pytest.raises(DataError, match=r"there is no picture .*nowhere\.png"):
        ask(tmp_path / "nowhere.png")
    with pytest.raises(ModelError, match="an explanation is of one picture, and 2 came"):
        ask([file, file], explanation=tmp_path / "why.png")
    with pytest.raises(ModelError, match=r"cannot write the picture .*why\.png"):
        ask(file, explanation=tmp_path / "nowhere" / "why.png")
    with pytest.raises(
        ModelError, match="fill-mask gives input_ids, which Convolved does not take; it takes pixel_values"
    ):
        pipeline("fill-mask", path)
    with pytest.raises(ModelError, match="unknown task 'image-clasification': did you mean 'image-classification'"):
        pipeline("image-clasification", path)
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(
        DataError, match=r"there is no .*preprocessor_config\.json, which says how pictures are prepared"
    ):
        pipeline("image-classification", path)


def test_the_command_line_says_it_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match="fill-mask has no --explain; `lacuna predict fill-mask --help` says what"
    ):
        predict.main(["fill-mask", "a [MASK]", "--model", str(tmp_path), "--explain", "why.png"])
