"""Entities of texts, from the scores of their tokens: the ways to join tokens that `transformers`' pipeline has.

Tags are of the scheme of Ramshaw, Marcus, "Text Chunking using Transformation-Based Learning", 1995, arXiv cmp-lg/9505040: `B-`
begins an entity, `I-` goes on with it; a label without either goes on with one of its name.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from tokenizers import Encoding, Tokenizer

from inference.scores import Answer

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclasses.dataclass(frozen=True)
class Token:
    """A token, or a word, of a text.

    Attributes:
        text: as the tokenizer writes it; as it stands in the text where the vocabulary does not know it.
        scores: of each label.
        start: its first character in the text.
        end: the character behind its last.
        index: its place in the encoding.
        continues: whether it goes on with the word of the token before it.
    """

    text: str
    scores: Float[np.ndarray, " labels"]
    start: int
    end: int
    index: int = 0
    continues: bool = False


def tokens_of(
    text: str, encoding: Encoding, scores: Float[np.ndarray, "tokens labels"], tokenizer: Tokenizer, unknown: int | None
) -> list[Token]:
    """The tokens of a text, or of a window of it, but special ones.

    Args:
        unknown: id of the token for what the vocabulary does not know.
    """
    prefix, found = getattr(tokenizer.model, "continuing_subword_prefix", None), []
    columns = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for index, (token, written, (start, end), special) in enumerate(columns):
        if special:
            continue
        raw = text[start:end]
        # Without a mark of what continues a word, a word is what stands between spaces.
        continues = len(written) != len(raw) if prefix else start > 0 and " " not in text[start - 1 : start + 1]
        if token == unknown:
            written, continues = raw, False
        found.append(Token(written, scores[index], start, end, index, continues))
    return found


def words_of(tokens: Sequence[Token], strategy: str, tokenizer: Tokenizer) -> list[Token]:
    """Words with the scores of their first token, of the one that is surest, or with the mean of all."""
    words: list[list[Token]] = []
    for token in tokens:
        if token.continues and words:
            words[-1].append(token)
        else:
            words.append([token])
    joined = []
    for word in words:
        scores = np.stack([token.scores for token in word])
        of_word = {"first": scores[0], "max": scores[scores.max(axis=1).argmax()], "average": scores.mean(axis=0)}
        text = tokenizer.decoder.decode([token.text for token in word])
        joined.append(Token(text, of_word[strategy], word[0].start, word[-1].end))
    return joined


def entities(tokens: Sequence[Token], labels: Sequence[str], strategy: str, tokenizer: Tokenizer) -> list[Answer]:
    """Each token with its likeliest label (`none`), or groups of tokens or words of one label."""
    if strategy not in ("none", "simple"):
        tokens = words_of(tokens, strategy, tokenizer)
    named = [(token, labels[int(token.scores.argmax())], float(token.scores.max())) for token in tokens]
    if strategy == "none":
        return [
            {"entity": name, "score": score, "index": t.index, "word": t.text, "start": t.start, "end": t.end}
            for t, name, score in named
        ]
    groups: list[list[tuple[Token, str, float]]] = []
    for one in named:
        tag = without_prefix(one[1])
        if groups and not one[1].startswith("B-") and tag == without_prefix(groups[-1][-1][1]):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [
        {
            "entity_group": group[0][1].split("-", 1)[-1],
            "score": float(np.mean([score for _, _, score in group])),
            "word": tokenizer.decoder.decode([token.text for token, _, _ in group]),
            "start": group[0][0].start,
            "end": group[-1][0].end,
        }
        for group in groups
    ]


def without_prefix(label: str) -> str:
    """What a label says of an entity: `PER` of `B-PER` and `I-PER`."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def without_overlap(found: Sequence[Answer]) -> list[Answer]:
    """Entities of overlapping windows, of those that overlap the longest, the surest of equally long ones."""
    kept: list[Answer] = []
    for entity in sorted(found, key=lambda entity: entity["start"]):
        last = kept[-1] if kept else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            kept.append(entity)
        elif (entity["end"] - entity["start"], entity["score"]) > (last["end"] - last["start"], last["score"]):
            kept[-1] = entity
    return kept
