"""Which tasks a model can be asked for: by what it takes and gives, not by what it is called."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evaluation.metrics.accuracy import Accuracy
from inference import tasks
from inference.scores import guessed, ranked
from inference.task import Output, Task
from models import hub
from models.config import ModelError

FEATURES, ZERO = "feature-extraction", "zero-shot-classification"
WRITTEN = ["summarization", "text2text-generation", "translation"]
SUITED = {
    "BertModel": [FEATURES],
    "BertForPreTraining": [FEATURES, "fill-mask"],
    "BertForMaskedLM": [FEATURES, "fill-mask"],
    "BertForNextSentencePrediction": [FEATURES],
    "BertForSequenceClassification": [FEATURES, "text-classification", ZERO],
    "BertForTokenClassification": [FEATURES, "token-classification"],
    "BertForQuestionAnswering": [FEATURES, "question-answering"],
    "BertForMultipleChoice": ["multiple-choice"],
    "ElectraForPreTraining": [FEATURES],
    "ElectraForMaskedLM": [FEATURES, "fill-mask"],
    "ElectraForJointPreTraining": [],
    "GPT2LMHeadModel": [FEATURES, "perplexity", "text-generation"],
    "GPT2ForSequenceClassification": [FEATURES, "text-classification", ZERO],
    "LlamaForCausalLM": [FEATURES, "perplexity", "text-generation"],
    "BartForConditionalGeneration": [FEATURES, "fill-mask", *WRITTEN],
    "BartForSequenceClassification": [FEATURES, "text-classification", ZERO],
    "BartForQuestionAnswering": [FEATURES, "question-answering"],
    "T5EncoderModel": [FEATURES],
    "T5ForConditionalGeneration": [
        FEATURES,
        "fill-mask",
        *WRITTEN,
    ],  # that its tokenizer has no mask is said when a folder is opened
    "ViTModel": [],
    "ViTForImageClassification": ["image-classification"],
    "LevitForImageClassificationWithTeacher": ["image-classification"],
    "SwinForImageClassification": ["image-classification"],
    "DetrModel": [],
    "DetrForObjectDetection": ["object-detection"],
    "DetrForSegmentation": ["image-segmentation", "object-detection"],
    "Mask2FormerForUniversalSegmentation": ["image-segmentation"],
    "ViTMAEForPreTraining": [],
    "WhisperForConditionalGeneration": ["automatic-speech-recognition"],
    "WhisperForAudioClassification": ["audio-classification"],
    "Wav2Vec2Model": [],
    "Wav2Vec2ForPreTraining": [],
    "Wav2Vec2ForCTC": ["automatic-speech-recognition"],
    "Wav2Vec2ForSequenceClassification": ["audio-classification"],
}
"""Class → tasks."""


def model_of(name: str, **changes):
    kind = next(kind for kind in hub.model_types() if name in hub.model_classes(kind))
    return hub.model_class(kind, name)(dataclasses.replace(hub.config_class(kind)(), **changes))


@pytest.mark.parametrize("name", SUITED)
@pytest.mark.parametrize("labels", [1, 2])
def test_which_tasks_fit_a_model(name, labels):
    """Also with as many labels as a sample text has tokens, or as next sentences have answers."""
    changes = {"labels": tuple(map(str, range(labels)))} if "labels" in vars(model_of(name).config) else {}
    model, fit = model_of(name, **changes), []
    for task in tasks.known().values():
        try:
            task().suited_to(model).check(model)
            fit.append(task.name)
        except ModelError:
            pass
    assert fit == sorted(SUITED[name])


@dataclasses.dataclass(frozen=True)
class Boxes(Task):
    name = "object-detection"
    takes = ("pixel_values",)
    asks = (Output("pred_boxes", "queries 4"),)


def test_what_is_missing_is_named():
    with pytest.raises(
        ModelError, match=r"asks for pred_boxes \(queries, 4\); ViTForImageClassification gives logits \("
    ):
        Boxes().check(model_of("ViTForImageClassification"))
    with pytest.raises(
        ModelError, match="object-detection gives pixel_values, which BertModel does not take; it takes in"
    ):
        Boxes().check(model_of("BertModel"))
    with pytest.raises(
        ModelError, match="fill-mask takes a model that sees both sides of a token, and GPT2LMHeadModel d"
    ):
        tasks.named("fill-mask").check(model_of("GPT2LMHeadModel"))


def test_examples_of_what_to_try_are_of_tasks_that_fit():
    assert [task.name for task in tasks.that_fit(model_of("GPT2LMHeadModel"))] == ["text-generation"]
    assert [task.name for task in tasks.that_fit(model_of("BertForNextSentencePrediction"))] == []


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
def test_what_metrics_score_is_what_is_answered_first(problem):
    """Also where several labels are as likely."""
    config = dataclasses.replace(model_of("BertModel").config, labels=("bad", "so so", "good"), problem_type=problem)
    logits = np.random.default_rng(0).integers(-3, 3, (50, 3)).astype(np.float32)
    guesses = guessed(logits)
    assert len(set(guesses.tolist())) == 3
    for row, guess in zip(logits, guesses, strict=True):
        assert ranked(row, config, 1)[0]["label"] == config.labels[guess]
    labels = np.arange(50) % 3
    metric = Accuracy()
    state = metric.update({"logits": jnp.asarray(logits)}, {"labels": jnp.asarray(labels)})
    right = np.mean(
        [ranked(row, config, None)[0]["label"] == config.labels[n] for row, n in zip(logits, labels, strict=True)]
    )
    assert metric.compute(jax.device_get(state))["accuracy"] == pytest.approx(right)
