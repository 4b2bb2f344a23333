"""Task pipelines: from text to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("fill-mask", "runs/bert-demo/model")
ask("The capital of France is [MASK].")
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from tokenizers import Encoding, Tokenizer

from data import tokenizers
from models import hub
from models.config import ModelError, nearest
from models.outputs import ModelOutput

Answer = dict[str, Any]

TOGETHER = 32
"""Texts that the model sees at a time: a longer list is answered piece by piece."""


@dataclasses.dataclass(frozen=True)
class Asker:
    """A model, its tokenizer, and the way from encoded texts to its outputs."""

    model: nn.Module
    variables: dict[str, Any]
    tokenizer: Tokenizer

    def encode(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """Token ids with special tokens. A text that the model has no room for is refused."""
        encodings = self.tokenizer.encode_batch(list(texts))
        room = self.model.config.max_position_embeddings
        for text, encoding in zip(texts, encodings, strict=True):
            if len(encoding.ids) > room:
                raise ModelError(
                    f"a text of {len(encoding.ids)} tokens does not fit a model with room for {room}: shorten {text!r:.60}"
                )
        return encodings

    def outputs(self, encodings: Sequence[Encoding]) -> ModelOutput:
        """The model's outputs as numpy arrays; padded to a power of two, so that few shapes are compiled."""
        longest = max(len(encoding.ids) for encoding in encodings)
        length = min(max(16, 1 << (longest - 1).bit_length()), self.model.config.max_position_embeddings)
        rows = 1 << (len(encodings) - 1).bit_length()
        inputs = {
            name: np.zeros((rows, length), np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        inputs["input_ids"][:] = self.model.config.pad_token_id
        for row, encoding in enumerate(encodings):
            inputs["input_ids"][row, : len(encoding.ids)] = encoding.ids
            inputs["attention_mask"][row, : len(encoding.ids)] = 1
            inputs["token_type_ids"][row, : len(encoding.ids)] = encoding.type_ids
        return jax.device_get(self._apply(self.variables, inputs))

    @functools.cached_property
    def _apply(self) -> Callable[..., ModelOutput]:
        return jax.jit(lambda variables, inputs: self.model.apply(variables, **inputs))


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def fill_mask(ask: Asker, texts: Sequence[str], top_k: int = 5) -> list[list[Answer] | list[list[Answer]]]:
    """For each text the likeliest tokens in place of its [MASK]; a list for each, where it has several."""
    mask = ask.tokenizer.token_to_id("[MASK]")
    encodings = ask.encode(texts)
    for text, encoding in zip(texts, encodings, strict=True):
        if mask not in encoding.ids:
            raise ModelError(f"no [MASK] in {text!r}: put one where a token is to be guessed")
    logits = ask.outputs(encodings)
    logits = logits["logits"] if "logits" in logits else logits["prediction_logits"]
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
                        "token_str": ask.tokenizer.id_to_token(int(token)) or "",
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


def text_classification(ask: Asker, texts: Sequence[str]) -> list[list[Answer]]:
    """For each text its labels with their probabilities, the likeliest first."""
    shares = softmax(ask.outputs(ask.encode(texts))["logits"][: len(texts)])
    names = ask.model.config.labels
    return [
        [{"label": names[label], "score": float(row[label])} for label in np.argsort(-row, kind="stable")]
        for row in shares
    ]


def token_classification(ask: Asker, texts: Sequence[str]) -> list[list[Answer]]:
    """For each text its tokens with their likeliest label and place in the text."""
    encodings = ask.encode(texts)
    logits = ask.outputs(encodings)["logits"]
    names = ask.model.config.labels
    unknown = ask.tokenizer.token_to_id("[UNK]")
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


TASKS: dict[str, tuple[Callable[..., list], tuple[str, ...]]] = {
    "fill-mask": (fill_mask, ("ForMaskedLM", "ForPreTraining")),
    "feature-extraction": (feature_extraction, ("",)),
    "text-classification": (text_classification, ("ForSequenceClassification",)),
    "token-classification": (token_classification, ("ForTokenClassification",)),
    "question-answering": (question_answering, ("ForQuestionAnswering",)),
}
"""Task → how it is answered, and what the class of a model that can ends with."""


def pipeline(task: str, folder: str | Path) -> Callable[..., Any]:
    """A function from a text (or a list of them) to the answer of the model in `folder` (or a list of them).

    Raises:
        ModelError: unknown task, a folder that is no checkpoint, or a model that has no head for the task.
    """
    if task not in TASKS:
        raise ModelError(f"unknown task {task!r}: {nearest(task, list(TASKS))}")
    solve, suited = TASKS[task]
    model, variables = hub.load(folder)
    if not type(model).__name__.endswith(suited):
        raise ModelError(f"{folder} holds a {type(model).__name__}; {task} takes a model …{' or …'.join(suited)}")
    ask = Asker(model, variables, tokenizers.load(Path(folder)))

    def answer(texts: str | Sequence[str], **settings: Any) -> Any:
        several = not isinstance(texts, str)
        texts = list(texts) if several else [texts]
        if not texts:
            raise ModelError(f"{task}: no text came")
        pieces = (texts[begin : begin + TOGETHER] for begin in range(0, len(texts), TOGETHER))
        found = [result for piece in pieces for result in solve(ask, piece, **settings)]
        return found if several else found[0]

    return answer
