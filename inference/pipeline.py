"""Task pipelines: from text or pictures to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("fill-mask", "runs/bert-demo/model")
ask("The capital of France is [MASK].")
"""

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.images.processor import ImageProcessor
from data.text import tokenizer_files, tokenizers
from data.text.token_ids import disagreements
from inference.generation import writes_anew
from inference.generation.config import heeded, of_model
from inference.languages import PAIR, Languages
from inference.readers.picture import Viewer, image_classification
from inference.readers.text import Asker
from inference.tasks.scores import TOGETHER, Answer, check_count, probabilities, softmax
from inference.tasks.writing import text2text_generation, text_generation
from models import hub
from models.config import ModelError, nearest
from models.hub import files

log = logging.getLogger("lacuna")


def fill_mask(ask: Asker, texts: Sequence[str], top_k: int = 5) -> list[list[Answer] | list[list[Answer]]]:
    """For each text the likeliest tokens in place of its mask token; a list for each, where it has several."""
    check_count("top_k", top_k)
    mask = ask.vocabulary.mask
    if mask is None:
        raise ModelError("the tokenizer has no mask token: fill-mask takes a model that was trained with one")
    name = ask.vocabulary.tokens[mask]
    encodings = ask.encode(texts)
    for text, encoding in zip(texts, encodings, strict=True):
        if mask not in encoding.ids:
            raise ModelError(f"no {name} in {text!r}: put one where a token is to be guessed")
    logits = ask.outputs(encodings)
    logits = logits["logits"] if "logits" in logits else logits["prediction_logits"]
    if logits.ndim != 3:
        name = type(ask.model).__name__
        raise ModelError(
            f"{name} has one score for each token of the text: fill-mask takes a model that predicts tokens"
        )
    answers = []
    for row, encoding in enumerate(encodings):
        places = [place for place, token in enumerate(encoding.ids) if token == mask]
        guesses = []
        for place in places:
            shares = softmax(logits[row, place])
            guess = []
            for token in np.argsort(-shares, kind="stable")[:top_k]:
                filled = list(encoding.ids)
                filled[place] = int(token)
                guess.append(
                    {
                        "score": float(shares[token]),
                        "token": int(token),
                        "token_str": ask.tokenizer.decode([int(token)], skip_special_tokens=False),
                        "sequence": ask.tokenizer.decode(filled, skip_special_tokens=len(places) == 1),
                    }
                )
            guesses.append(guess)
        answers.append(guesses[0] if len(places) == 1 else guesses)
    return answers


def feature_extraction(ask: Asker, texts: Sequence[str]) -> list[Answer]:
    """For each text the mean of its tokens' last hidden states, scaled to length 1."""
    encodings = ask.encode(texts)
    hidden = ask.outputs(encodings)["last_hidden_state"]
    answers = []
    for row, encoding in enumerate(encodings):
        mean = hidden[row, : len(encoding.ids)].astype(np.float64).mean(axis=0)
        answers.append({"embedding": (mean / np.linalg.norm(mean)).tolist()})
    return answers


def text_classification(ask: Asker, texts: Sequence[str], top_k: int | None = None) -> list[list[Answer]]:
    """For each text its labels with their probabilities, the likeliest first; all, or `top_k`.

    Scores are what `problem_type` of the config says: probabilities of which one label is right, of each label by itself, or
    the bare number of a regression.
    """
    if top_k is not None:
        check_count("top_k", top_k)
    scores = probabilities(ask.outputs(ask.encode(texts))["logits"][: len(texts)], ask.model.config)
    names = ask.model.config.labels
    return [
        [{"label": names[label], "score": float(row[label])} for label in np.argsort(-row, kind="stable")[:top_k]]
        for row in scores
    ]


def token_classification(ask: Asker, texts: Sequence[str]) -> list[list[Answer]]:
    """For each text its tokens with their likeliest label and place in the text."""
    encodings = ask.encode(texts)
    logits = ask.outputs(encodings)["logits"]
    names = ask.model.config.labels
    unknown = ask.vocabulary.unk
    answers = []
    for row, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        shares = softmax(logits[row])
        answers.append(
            [
                {
                    "entity": names[int(shares[place].argmax())],
                    "score": float(shares[place].max()),
                    "word": text[slice(*encoding.offsets[place])]
                    if encoding.ids[place] == unknown
                    else encoding.tokens[place],
                    "start": encoding.offsets[place][0],
                    "end": encoding.offsets[place][1],
                }
                for place in range(len(encoding.ids))
                if not encoding.special_tokens_mask[place]
            ]
        )
    return answers


def question_answering(ask: Asker, texts: Sequence[str], longest: int = 30) -> list[Answer]:
    """The span of the context (second text) that answers the question (first): the likeliest of at most 30 tokens."""
    check_count("longest", longest)
    if len(texts) != 2:
        raise ModelError(f"question-answering takes a question and a context, and {len(texts)} text(s) came")
    question, context = texts
    (encoding,) = ask.encode([(question, context)])
    outputs = ask.outputs([encoding])
    inside = np.array([index == 1 for index in encoding.sequence_ids])
    if not inside.any():
        raise ModelError("the context is empty: there is no span to choose")
    count = len(inside)
    starts = softmax(np.where(inside, outputs["start_logits"][0, :count], -np.inf))
    ends = softmax(np.where(inside, outputs["end_logits"][0, :count], -np.inf))
    scores = np.triu(np.outer(starts, ends)) * (np.subtract.outer(np.arange(count), np.arange(count)) > -longest)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    first, last = encoding.offsets[start][0], encoding.offsets[end][1]
    return [{"score": float(scores[start, end]), "start": first, "end": last, "answer": context[first:last]}]


WRITERS = ("ForConditionalGeneration", "MTModel")

TASKS: dict[str, tuple[Callable[..., list], tuple[str, ...]]] = {
    "fill-mask": (fill_mask, ("ForMaskedLM", "ForPreTraining", "BartForConditionalGeneration")),
    "feature-extraction": (feature_extraction, ("",)),
    "text-classification": (text_classification, ("ForSequenceClassification",)),
    "token-classification": (token_classification, ("ForTokenClassification",)),
    "question-answering": (question_answering, ("ForQuestionAnswering",)),
    "text-generation": (text_generation, ("LMHeadModel", "ForCausalLM")),
    "text2text-generation": (text2text_generation, WRITERS),
    "summarization": (functools.partial(text2text_generation, answer="summary_text"), WRITERS),
    "translation": (functools.partial(text2text_generation, answer="translation_text"), WRITERS),
}
"""Task → how it is answered, and what the class of a model that can ends with."""

IMAGE_TASKS: dict[str, tuple[Callable[..., list], tuple[str, ...]]] = {
    "image-classification": (
        image_classification,
        ("ForImageClassification", "ForImageClassificationWithTeacher"),
    ),
}
"""The same of tasks that are asked of pictures."""

PICTURE = (str, Path, bytes, np.ndarray)
"""What a single picture may come as."""


def writing_task(folder: str | Path) -> str:
    """The task of the model in `folder` that has it write: going on with a text, or writing another."""
    folder = hub.checkpoint_folder(folder)
    published, config = hub.read_config(folder, {})
    model = hub.model_class(config.model_type, hub.architecture_named(folder, published))
    return "text2text-generation" if writes_anew(model) else "text-generation"


def generation_of(folder: Path, task: str) -> tuple[dict[str, Any], str]:
    """What a folder says of generation, and the prefix of a text: its `generation_config.json`, or `config.json` where there
    is none, as older folders have it; and what that has for the task in particular (`task_specific_params`)."""
    published, path = files.read_json(folder / "config.json"), folder / "generation_config.json"
    special = dict((published.get("task_specific_params") or {}).get(task) or {})
    prefix = special.pop("prefix", None) or published.get("prefix") or ""
    if path.is_file():
        return heeded({**files.read_json(path), **special}, path), prefix
    return heeded({**of_model(published), **special}, folder / "config.json"), prefix


def pipeline(task: str, folder: str | Path) -> Callable[..., Any]:
    """A function from a text or a picture (or a list of them) to the answer of the model in `folder` (or a list of them).

    A picture is a path, the bytes of a file, or an array uint8 [height, width, 3]. `folder` may be a name on the Hugging Face
    hub. A translation may name its languages (`translation_fr_XX_to_de_DE`), as the model calls them.

    Raises:
        ModelError: unknown task or language, a folder that is no checkpoint, or a model that has no head for the task.
        DataError: a folder does not say how pictures are prepared; later, a picture cannot be read.
    """
    pair = PAIR.fullmatch(task)
    kind = "translation" if pair else task
    known = TASKS | IMAGE_TASKS
    if kind not in known:
        raise ModelError(f"unknown task {task!r}: {nearest(task, list(known))}")
    solve, suited = known[kind]
    folder = hub.checkpoint_folder(folder)
    model, variables = hub.load(folder)
    if not type(model).__name__.endswith(suited):
        raise ModelError(f"{folder} holds a {type(model).__name__}; {task} takes a model …{' or …'.join(suited)}")
    asked = {}
    if kind in IMAGE_TASKS:
        ask = Viewer(model, variables, ImageProcessor.read(folder, model.config.model_type))
        one, name = PICTURE, "picture"
    else:
        ask = asker(model, variables, folder, task)
        one, name = str, "text"
        if pair:
            asked = dict(source_language=pair[1], target_language=pair[2])
            ask.languages.direction(*pair.groups())
    draws = "first" in inspect.signature(solve).parameters

    def answer(inputs: Any, **settings: Any) -> Any:
        several = not isinstance(inputs, one)
        inputs = list(inputs) if several else [inputs]
        if not inputs:
            raise ModelError(f"{task}: no {name} came")
        answers = []
        for begin in range(0, len(inputs), TOGETHER):
            place = {"first": begin} if draws else {}
            answers += solve(ask, inputs[begin : begin + TOGETHER], **place, **{**asked, **settings})
        return answers if several else answers[0]

    return answer


def asker(model: Any, variables: dict[str, Any], folder: Path, task: str) -> Asker:
    """The model of a folder with its tokenizer and all that the folder says of the task.

    Ids on which its files disagree are named in a warning.
    """
    tokenizer = tokenizers.load(folder)
    published, about = files.read_json(folder / "config.json"), tokenizer_files.about_tokenizer(folder)
    languages = Languages.of(tokenizer, model.config, published, about)
    roles = tokenizer_files.special_tokens(folder)
    ask = Asker(model, variables, tokenizer, *generation_of(folder, task), languages, roles)
    for found in disagreements(model.config, ask.vocabulary):
        log.warning("%s: %s", folder, found.what)
    return ask
