"""Task pipelines: from text or pictures to an answer, with the result keys of `transformers`' pipelines.

ask = pipeline("fill-mask", "runs/bert-demo/model")
ask("The capital of France is [MASK].")
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict
from tokenizers import Encoding, Tokenizer

from data import tokenizers
from data.framing import Framing
from data.image_processor import ImageProcessor
from inference.answers import TOGETHER, Answer, softmax
from inference.generation import GenerationConfig, generate, writes_anew
from inference.image_pipelines import Viewer, image_classification
from models import hub
from models.config import ModelError, nearest
from models.hub import files
from models.outputs import ModelOutput

TEXT = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs that a model may take of a text, and what they are called in its encoding."""


@dataclasses.dataclass(frozen=True)
class Asker:
    """A model, its tokenizer, and the way from encoded texts to its outputs.

    Attributes:
        generation: what the folder says of generation, and of the task in it.
        prefix: what the model was trained to read before the text, for the task.
    """

    model: nn.Module
    variables: dict[str, Any]
    tokenizer: Tokenizer
    generation: Mapping[str, Any] = FrozenDict()
    prefix: str = ""

    def encode(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """Token ids with special tokens. A text that the model has no room for is refused."""
        encodings = self.tokenizer.encode_batch(list(texts))
        self.check_room(texts, [encoding.ids for encoding in encodings])
        return encodings

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are to be gone on with: with what begins a text, and without what ends one.

        An empty text is the token that begins one, where the model names it.
        """
        begin = getattr(self.model.config, "bos_token_id", None)
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        prompts = [self.framing.prompt(encoding.ids) for encoding in encodings]
        prompts = [ids or ([] if begin is None else [begin]) for ids in prompts]
        self.check_room(texts, prompts)
        return prompts

    def check_room(self, texts: Sequence[str] | Sequence[tuple[str, str]], rows: Sequence[Sequence[int]]) -> None:
        """Raise where the ids of a text are more than the model has positions for."""
        room = self.model.config.longest_input
        for text, ids in zip(texts, rows, strict=True):
            if room is not None and len(ids) > room:
                raise ModelError(
                    f"a text of {len(ids)} tokens does not fit a model with room for {room}: shorten {text!r:.60}"
                )

    def batch(self, encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        """What the model takes of the texts; padded to a power of two, so that few shapes are compiled."""
        longest = max(len(encoding.ids) for encoding in encodings)
        length = max(16, 1 << (longest - 1).bit_length())
        length = min(length, self.model.config.longest_input or length)
        rows = 1 << (len(encodings) - 1).bit_length()
        taken = inspect.signature(type(self.model).__call__).parameters
        inputs = {name: np.zeros((rows, length), np.int32) for name in TEXT if name in taken}
        inputs["input_ids"][:] = self.model.config.pad_token_id or 0
        for name in inputs:
            for row, encoding in enumerate(encodings):
                inputs[name][row, : len(encoding.ids)] = getattr(encoding, TEXT[name])
        return inputs

    def outputs(self, encodings: Sequence[Encoding]) -> ModelOutput:
        """The model's outputs as numpy arrays."""
        return jax.device_get(self._apply(self.variables, self.batch(encodings)))

    @functools.cached_property
    def framing(self) -> Framing:
        """What the tokenizer puts around texts."""
        return Framing.of(self.tokenizer)

    @functools.cached_property
    def vocabulary(self) -> tokenizers.Vocabulary:
        """Of the tokenizer: its special tokens, whatever they are called."""
        return tokenizers.vocabulary(self.tokenizer)

    @functools.cached_property
    def _apply(self) -> Callable[..., ModelOutput]:
        return jax.jit(lambda variables, inputs: self.model.apply(variables, **inputs))


def fill_mask(ask: Asker, texts: Sequence[str], top_k: int = 5) -> list[list[Answer] | list[list[Answer]]]:
    """For each text the likeliest tokens in place of its mask token; a list for each, where it has several."""
    if top_k < 1:
        raise ModelError(f"top_k={top_k}: expected a number of tokens of at least 1")
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


def text_generation(
    ask: Asker, texts: Sequence[str], return_full_text: bool = True, seed: int = 0, **settings: Any
) -> list[list[Answer]]:
    """For each text, how it goes on: as many answers as `num_return_sequences`, the best first.

    Args:
        return_full_text: give the text with what follows it, or what follows alone.
        seed: of the tokens drawn with `do_sample`.
        settings: fields of `GenerationConfig` to set otherwise than the folder's `generation_config.json` does.
    """
    config = ask.model.config
    generation = GenerationConfig.from_json(ask.generation, **settings)
    prompts = ask.prompts(texts)
    longest = max(len(ids) for ids in prompts)
    length = max(16, 1 << (longest - 1).bit_length())
    if config.longest_input is not None:
        length = max(longest, min(length, config.longest_input - generation.max_new_tokens))
    rows = 1 << (len(prompts) - 1).bit_length()  # few shapes are compiled
    input_ids, mask = np.zeros((2, rows, length), np.int32)
    for row, ids in enumerate(prompts + prompts[:1] * (rows - len(prompts))):
        input_ids[row, length - len(ids) :], mask[row, length - len(ids) :] = ids, 1
    found = generate(ask.model, ask.variables, input_ids, mask, generation, key=jax.random.key(seed))
    new = np.asarray(found.sequences)[:, length:].reshape(rows, generation.num_return_sequences, -1)
    answers = []
    for text, ids, ways in zip(texts, prompts, new, strict=False):
        read = ask.tokenizer.decode(ids, skip_special_tokens=True)
        answer = []
        for way in ways:
            ends = np.flatnonzero(np.isin(way, generation.ends(config)))
            whole = [*ids, *(way[: ends[0] + 1] if len(ends) else way).tolist()]
            added = ask.tokenizer.decode(whole, skip_special_tokens=True)[len(read) :]
            answer.append({"generated_text": text + added if return_full_text else added})
        answers.append(answer)
    return answers


def text2text_generation(
    ask: Asker, texts: Sequence[str], answer: str = "generated_text", seed: int = 0, **settings: Any
) -> list[list[Answer]]:
    """For each text what the model writes from it: as many answers as `num_return_sequences`, the best first.

    Args:
        answer: what the text is called in an answer.
        seed, settings: as in `text_generation`.
    """
    generation = GenerationConfig.from_json(ask.generation, begun=1, **settings)
    inputs = ask.batch(ask.encode([ask.prefix + text for text in texts]))
    inputs["attention_mask"][len(texts) :] = 1  # rows that are there for the shape alone
    found = generate(ask.model, ask.variables, **inputs, settings=generation, key=jax.random.key(seed))
    new = np.asarray(found.sequences)[:, 1:].reshape(len(inputs["input_ids"]), generation.num_return_sequences, -1)
    return [
        [{answer: ask.tokenizer.decode(way.tolist(), skip_special_tokens=True)} for way in ways]
        for ways in new[: len(texts)]
    ]


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


def generation_of(folder: Path, task: str) -> dict[str, Any]:
    """What a folder says of generation, the `prefix` of a text included: its `generation_config.json`, or `config.json` where
    there is none, as older folders have it; and what that has for the task in particular (`task_specific_params`)."""
    published, path = files.read_json(folder / "config.json"), folder / "generation_config.json"
    general = files.read_json(path) if path.is_file() else published
    special = (published.get("task_specific_params") or {}).get(task) or {}
    return {**general, "prefix": published.get("prefix"), **special}


def pipeline(task: str, folder: str | Path) -> Callable[..., Any]:
    """A function from a text or a picture (or a list of them) to the answer of the model in `folder` (or a list of them).

    A picture is a path, the bytes of a file, or an array uint8 [height, width, 3]. `folder` may be a name on the Hugging Face
    hub; a translation may name its languages (`translation_en_to_de`), where a model has several.

    Raises:
        ModelError: unknown task, a folder that is no checkpoint, or a model that has no head for the task.
        DataError: a folder does not say how pictures are prepared; later, a picture cannot be read.
    """
    kind = re.sub(r"^translation_\w+_to_\w+$", "translation", task)
    known = TASKS | IMAGE_TASKS
    if kind not in known:
        raise ModelError(f"unknown task {task!r}: {nearest(task, list(known))}")
    solve, suited = known[kind]
    folder = hub.checkpoint_folder(folder)
    model, variables = hub.load(folder)
    if not type(model).__name__.endswith(suited):
        raise ModelError(f"{folder} holds a {type(model).__name__}; {task} takes a model …{' or …'.join(suited)}")
    if kind in IMAGE_TASKS:
        ask = Viewer(model, variables, ImageProcessor.read(folder, model.config.model_type))
        one, name = PICTURE, "picture"
    else:
        generation = generation_of(folder, task)
        ask = Asker(model, variables, tokenizers.load(folder), generation, generation["prefix"] or "")
        one, name = str, "text"

    def answer(inputs: Any, **settings: Any) -> Any:
        several = not isinstance(inputs, one)
        inputs = list(inputs) if several else [inputs]
        if not inputs:
            raise ModelError(f"{task}: no {name} came")
        pieces = (inputs[begin : begin + TOGETHER] for begin in range(0, len(inputs), TOGETHER))
        found = [result for piece in pieces for result in solve(ask, piece, **settings)]
        return found if several else found[0]

    return answer
