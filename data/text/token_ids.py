"""The ids of special tokens that a model's config names, held against those that a tokenizer has."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from data.contract import Config
from data.errors import DataError
from data.text.tokenizers import Vocabulary

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
"""Special tokens that a `Vocabulary` and a config (as `<role>_token_id`) both name."""
SAME = {"forced_eos": "eos"}
"""What else a config may name, and which token that is."""
START = "decoder_start"


def with_token_ids(config: Config, vocabulary: Vocabulary, start: int | None = None) -> Config:
    """`config` with the ids of `vocabulary`, for a model whose tokenizer is trained with it.

    A field that is `None` where the vocabulary has the token is filled in, but for what generation forces; one whose token
    there is none of is `None`, where the config can do without.

    Args:
        start: what a decoder reads first, for a config that does not take it from the text.
    """
    changes: dict[str, Any] = {}
    for role, field in _fields(config):
        token = start if role == START else getattr(vocabulary, SAME.get(role, role))
        optional = role in SAME or role == START
        if token is None:
            changes |= {field.name: None} if "None" in str(field.type) and role != START else {}
        elif not (optional and vars(config)[field.name] is None):
            changes[field.name] = token
    return dataclasses.replace(config, **changes)


class Disagreement(NamedTuple):
    """Something on which a config and a tokenizer disagree.

    Attributes:
        what: both values.
        mend: what to set in an experiment.
        beyond: whether an id is beyond the embeddings.
    """

    what: str
    mend: str
    beyond: bool = False


def check_token_ids(config: Any, vocabulary: Vocabulary, start: int | None = None) -> None:
    """Raise where a config and a tokenizer that come from elsewhere do not go together.

    Args:
        start: what a decoder reads first in training; `None` where it is not trained.

    Raises:
        DataError: an id is beyond the embeddings, or the two give a special token different ids; it names both.
    """
    problem = next(disagreements(config, vocabulary, start), None)
    if problem is not None:
        raise DataError(f"{problem.what}: {problem.mend}")


def disagreements(config: Any, vocabulary: Vocabulary, start: int | None = None) -> Iterator[Disagreement]:
    """The ids on which a config and a tokenizer disagree, those beyond the embeddings first.

    Something that only one of the two names is no disagreement. A config may name several ids for a token.
    """
    size = config.vocab_size
    if vocabulary.size > size:
        yield Disagreement(
            f"the tokenizer has {vocabulary.size} tokens and the model's vocab_size is {size}",
            f"set --model.vocab-size {vocabulary.size} or choose another tokenizer",
            beyond=True,
        )
    named = [(role, field.name, _several(vars(config)[field.name])) for role, field in _fields(config)]
    for _, name, ids in named:
        for token in ids:
            if token >= size:
                yield Disagreement(
                    f"{name}={token} of the model is beyond its vocab_size={size}",
                    f"set {_flag(name)} to an id of the tokenizer",
                    beyond=True,
                )
    for role, name, ids in named:
        token = start if role == START else getattr(vocabulary, SAME.get(role, role))
        if role == START and not ids and start is not None and start not in vocabulary.framing.end[-1:]:
            yield Disagreement(
                f"the decoder is trained to begin with {_written(vocabulary, start)}, and the model takes the last token of"
                " the text",
                "set --objective.start last",
            )
        if token is not None and ids and token not in ids and max(ids) < size:
            whose = "the objective" if role == START else "the tokenizer"
            yield Disagreement(
                f"{name} is {' or '.join(_written(vocabulary, one) for one in ids)} for the model and"
                f" {_written(vocabulary, token)} for {whose}",
                f"set {_flag(name)} {token} or choose another tokenizer",
            )


def _fields(config: Any) -> Iterator[tuple[str, dataclasses.Field]]:
    """The fields of special tokens' ids, each with the token's role."""
    for field in dataclasses.fields(config):
        role = field.name.removesuffix("_token_id")
        if role != field.name and role in (*ROLES, *SAME, START):
            yield role, field


def _several(ids: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return ids if isinstance(ids, tuple) else () if ids is None else (ids,)


def _written(vocabulary: Vocabulary, token: int) -> str:
    """An id with its token."""
    return f"{token} ({vocabulary.tokens[token]!r})" if token < len(vocabulary.tokens) else f"{token} (no token)"


def _flag(name: str) -> str:
    return f"--model.{name.replace('_', '-')}"
