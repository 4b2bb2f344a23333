"""Subword vocabularies: trained so that the same texts give the same bytes, or loaded as published.

Three kinds: wordpieces (Wu et al., "Google's Neural Machine Translation System", 2016, arXiv 1609.08144, section 4.1) with
BERT's normalising and splitting (Devlin et al., 2018, arXiv 1810.04805); byte pairs over bytes (Radford et al., "Language
Models are Unsupervised Multitask Learners", 2019, section 2.2); a unigram language model (Kudo, "Subword Regularization",
2018, arXiv 1804.10959).
"""

import collections
import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data.errors import DataError
from data.files import whole_file
from data.text.framing import Framing
from data.text.templates import BERT, DEFAULTS, FAMILIES, SENTINEL, TEMPLATES, Template
from data.text.tokenizer_files import CONTINUES, SPECIAL_TOKENS, bert_tokenizer, load

SPACE = "▁"
ALPHABET = 1000
"""Characters that a trained vocabulary knows; rarer ones become [UNK]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """What an objective asks of a vocabulary.

    Attributes:
        size: number of ids.
        pad, unk, cls, sep, mask, bos, eos: ids of the special tokens, `None` where there is none. BERT's [CLS] and [SEP]
            stand for what begins and ends a text, too.
        sentinels: ids of `<extra_id_0>`, `<extra_id_1>`, …, in the order of their use.
        special_ids: ids of all special tokens, ascending.
        starts_word: whether an id begins a word, rather than continuing one.
        tokens: the string of each id.
        framing: what stands around texts.
        labels: names of the classes that texts are sorted into, where they are.
    """

    size: int
    pad: int | None
    unk: int | None
    cls: int | None
    sep: int | None
    mask: int | None
    bos: int | None
    eos: int | None
    sentinels: tuple[int, ...]
    special_ids: tuple[int, ...]
    starts_word: Bool[np.ndarray, " size"]
    tokens: tuple[str, ...]
    framing: Framing
    labels: tuple[str, ...] = ()

    @property
    def classes(self) -> int | None:
        return len(self.labels) or None

    def check_room(self, room: int) -> None:
        """Raise where texts cannot be framed and filled up.

        Args:
            room: tokens of an example that are the text's.
        """
        if self.pad is None:
            raise DataError("the tokenizer has no pad token, with which short texts are filled up: take one that has")
        if room < 1:
            raise DataError("the length has no room for a text and what stands around it: give a longer one")


def blank_vocabulary(size: int, sentinels: int = 0, template: Template = BERT) -> Vocabulary:
    """A vocabulary of `size` ids without strings, for shapes alone: the special tokens first, each other one a word.

    Args:
        template: what stands around texts; of its ids no more than the number is meant.
    """
    pad, unk, cls, sep, mask = range(len(SPECIAL_TOKENS))
    special = tuple(range(len(SPECIAL_TOKENS) + sentinels))
    extra = special[len(SPECIAL_TOKENS) :]
    words, tokens = np.ones(size, bool), ("",) * size
    return Vocabulary(size, pad, unk, cls, sep, mask, cls, sep, extra, special, words, tokens, template.framing)


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str = "wordpiece",
    vocab_size: int,
    path: Path,
    lowercase: bool = True,
    template: Template | None = None,
    sentinels: int = 0,
    min_frequency: int = 2,
) -> Tokenizer:
    """Train a vocabulary on `texts`, save it as the `tokenizer.json` at `path`, and return it.

    Args:
        texts: gone through twice, so no generator (`Documents.texts` gives some).
        kind: one of `KINDS`.
        vocab_size: most entries it may have, special tokens included.
        lowercase: of wordpieces: lower-case and strip accents, as the "uncased" models do.
        template: its special tokens and what stands around texts; where `None`, those of the architecture that such
            tokenizers are known from (`DEFAULTS`).
        sentinels: how many `<extra_id_…>` it has, behind the other special tokens.
        min_frequency: times that a pair must occur to be merged.

    Raises:
        DataError: there is nothing to train on, the kind is unknown, or the size leaves no room for words.
    """
    if isinstance(texts, Iterator):
        raise DataError("a tokenizer's texts are gone through twice: give a list or Documents.texts, not a generator")
    if kind not in KINDS:
        raise DataError(f"no tokenizer of the kind {kind!r}: there are {', '.join(KINDS)}")
    template = (template or TEMPLATES[DEFAULTS[kind]]).having(() if kind == "byte_bpe" else ("unk",))
    texts = ShortWords(texts)
    trained = KINDS[kind](texts, vocab_size, template.added_tokens(sentinels), lowercase, min_frequency)
    template.frame(trained)
    with whole_file(path) as temporary:
        temporary.write_text(_canonical(trained), encoding="utf-8")
    return load(path)


LONGEST_WORD = 1_000
"""Letters of a word beyond which no tokenizer learns from it: the time that its merges take grows with the square of them."""
LONG_WORD = re.compile(rf"(?<!\w)\w{{{LONGEST_WORD + 1},}}")


@dataclasses.dataclass(frozen=True)
class ShortWords:
    """Texts without words of more than `LONGEST_WORD` letters (a genome, a number in full), to be gone through several times."""

    texts: Iterable[str]

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            long = len(text) > LONGEST_WORD and max(map(len, text.split()), default=0) > LONGEST_WORD
            yield LONG_WORD.sub("", text) if long else text


def _wordpieces(
    texts: Iterable[str], vocab_size: int, special: list[AddedToken], lowercase: bool, min_frequency: int
) -> Tokenizer:
    unk = _unknown(special)
    tokenizer = bert_tokenizer(models.WordPiece(unk_token=unk), lowercase)
    alphabet, continuing = _alphabet(tokenizer, texts)
    _check_room(vocab_size, len(special) + len(alphabet) + len(continuing), bool(alphabet))
    # The trainer numbers the continuing characters in the order of a hash map, and breaks ties between merges by
    # number: each run would give another vocabulary. Handed over as special tokens they are numbered beforehand.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*special, *(CONTINUES + character for character in continuing)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    trained = bert_tokenizer(models.WordPiece(ids, unk_token=unk), lowercase)
    trained.add_special_tokens(special)
    return trained


def _byte_pairs(
    texts: Iterable[str], vocab_size: int, special: list[AddedToken], lowercase: bool, min_frequency: int
) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _check_room(vocab_size, len(special) + len(alphabet), any(text.strip() for text in texts))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigrams(
    texts: Iterable[str], vocab_size: int, special: list[AddedToken], lowercase: bool, min_frequency: int
) -> Tokenizer:
    """By sentencepiece, in one thread: the trainer of `tokenizers` sums up in the order of a hash map."""
    import sentencepiece

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    _check_room(vocab_size, len(special) + 1, bool(lines))
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(normalizer.normalize_str(line) for line in lines),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocab_size - len(special) + 1,  # its own unknown token is counted
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            unk_id=0,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            max_sentence_length=1 << 30,
            character_coverage=0.9995,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(f"no unigram vocabulary of {vocab_size} comes of these texts: {error}") from error
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    scores = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(1, pieces.get_piece_size())]
    names = [token.content for token in special]
    entries = [*((name, 0.0) for name in names), *scores]
    tokenizer = Tokenizer(models.Unigram(entries, unk_id=names.index(_unknown(special)), byte_fallback=False))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.add_special_tokens(special)
    return tokenizer


def _unknown(special: list[AddedToken]) -> str:
    """The token of what the vocabulary cannot write."""
    return next(token.content for token in special if token.content in FAMILIES["unk"])


KINDS = {"wordpiece": _wordpieces, "byte_bpe": _byte_pairs, "unigram": _unigrams}
"""Tokenizers that can be trained: BERT's, GPT-2's and BART's, T5's."""


def _check_room(vocab_size: int, least: int, text: bool) -> None:
    if not text:
        raise DataError("there is no text to train a vocabulary on: give at least one document that is not blank")
    if vocab_size <= least:
        raise DataError(
            f"vocab_size={vocab_size} leaves no room beside {least} special tokens and characters: raise it"
        )


def vocabulary(tokenizer: Tokenizer, roles: Mapping[str, str] = MappingProxyType({})) -> Vocabulary:
    """The `Vocabulary` of a tokenizer, its special tokens known by the names that the published families give them.

    Args:
        roles: {role: token} of what the settings beside the tokenizer say otherwise.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    size = max(ids.values()) + 1
    tokens = [""] * size
    for token, index in ids.items():
        tokens[index] = token
    named = {role: next((ids[token] for token in tokens_ if token in ids), None) for role, tokens_ in FAMILIES.items()}
    named |= {role: ids[token] for role, token in roles.items() if role in FAMILIES and token in ids}
    sentinels = []
    while SENTINEL.format(len(sentinels)) in ids:
        sentinels.append(ids[SENTINEL.format(len(sentinels))])
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    special |= {*sentinels, *(index for index in named.values() if index is not None)}
    return Vocabulary(
        size=size,
        **named,
        sentinels=tuple(sentinels),
        special_ids=tuple(sorted(special)),
        starts_word=np.array(_word_starts(tokenizer, tokens)),
        tokens=tuple(tokens),
        framing=Framing.of(tokenizer),
    )


def _word_starts(tokenizer: Tokenizer, tokens: list[str]) -> list[bool]:
    """Whether each token begins a word, by the mark of the kind: `##` inside words, or a space in front of them."""
    content = json.loads(tokenizer.to_str())
    if content["model"]["type"] == "WordPiece":
        prefix = content["model"]["continuing_subword_prefix"]
        return [not token.startswith(prefix) or token == prefix for token in tokens]
    around = json.dumps([content["pre_tokenizer"], content["decoder"]])
    marks = tuple("ĠĊ") if "ByteLevel" in around else (SPACE,)
    return [token.startswith(marks) for token in tokens]


def _alphabet(tokenizer: Tokenizer, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The most frequent characters of normalised `texts`, and those of them that can continue a word; both sorted."""
    raw: collections.Counter[str] = collections.Counter()
    for text in texts:
        raw.update(text)
    counts: collections.Counter[str] = collections.Counter()
    for character, count in raw.items():
        for normalized in tokenizer.normalizer.normalize_str(character):
            if not normalized.isspace():
                counts[normalized] += count
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET])

    def continues(character: str) -> bool:
        text = tokenizer.normalizer.normalize_str("a" + character)
        return len(tokenizer.pre_tokenizer.pre_tokenize_str(text)) == 1

    return alphabet, [character for character in alphabet if continues(character)]


def _canonical(tokenizer: Tokenizer) -> str:
    """The tokenizer's JSON, with its vocabulary in the order of the ids."""
    content = json.loads(tokenizer.to_str())
    if isinstance(content["model"]["vocab"], dict):
        content["model"]["vocab"] = dict(sorted(content["model"]["vocab"].items(), key=lambda item: item[1]))
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
