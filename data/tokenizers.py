"""WordPiece vocabularies: trained so that the same texts give the same bytes, or loaded as published.

Wu et al., "Google's Neural Machine Translation System", 2016, arXiv 1609.08144, section 4.1 (wordpieces); normalising
and splitting as in Devlin et al., "BERT", 2018, arXiv 1810.04805.
"""

import collections
import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from data.errors import DataError
from data.files import whole_file

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
ALPHABET = 1000
"""Characters that a trained vocabulary knows; rarer ones become [UNK]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """What an objective asks of a vocabulary.

    Attributes:
        size: number of ids.
        pad, unk, cls, sep, mask: ids of the special tokens.
        special_ids: ids of all special tokens, ascending.
        starts_word: whether an id begins a word, rather than continuing one.
        tokens: the string of each id.
    """

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    special_ids: tuple[int, ...]
    starts_word: Bool[np.ndarray, " size"]
    tokens: tuple[str, ...]


def blank_vocabulary(size: int) -> Vocabulary:
    """A vocabulary of `size` ids without strings, for shapes alone: the special tokens first, each other one a word."""
    special = range(len(SPECIAL_TOKENS))
    return Vocabulary(size, *special, tuple(special), np.ones(size, bool), ("",) * size)


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = True, path: Path, min_frequency: int = 2
) -> Tokenizer:
    """Train a WordPiece vocabulary on `texts`, save it as the `tokenizer.json` at `path`, and return it.

    Args:
        texts: gone through twice, so no generator (`Documents.texts` gives some).
        vocab_size: most entries it may have, special tokens included.
        lowercase: lower-case and strip accents, as the "uncased" models do.
        min_frequency: times that a pair must occur to be merged.

    Raises:
        DataError: there is nothing to train on, or the size leaves no room for words.
    """
    if isinstance(texts, Iterator):
        raise DataError("train_wordpiece goes through its texts twice: give a list or Documents.texts, not a generator")
    tokenizer = _bert(models.WordPiece(unk_token=UNK), lowercase)
    alphabet, continuing = _alphabet(tokenizer, texts)
    least = len(SPECIAL_TOKENS) + len(alphabet) + len(continuing)
    if not alphabet:
        raise DataError("there is no text to train a vocabulary on: give at least one document that is not blank")
    if vocab_size <= least:
        raise DataError(
            f"vocab_size={vocab_size} leaves no room beside {least} special tokens and characters: raise it"
        )
    # The trainer numbers the continuing characters in the order of a hash map, and breaks ties between merges by
    # number: each run would give another vocabulary. Handed over as special tokens they are numbered beforehand.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *(CONTINUES + character for character in continuing)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = _bert(models.WordPiece(tokenizer.get_vocab(with_added_tokens=True), unk_token=UNK), lowercase)
    trained.add_special_tokens(list(SPECIAL_TOKENS))
    with whole_file(path) as temporary:
        temporary.write_text(_canonical(trained), encoding="utf-8")
    return load(path)


def load(path: Path) -> Tokenizer:
    """The tokenizer at `path`: a `tokenizer.json`, a `vocab.txt`, or a folder with one of the two.

    Truncation and padding, which published files switch on, are off. Beside a `vocab.txt` stands whether it is
    lower-cased (`tokenizer_config.json`, `do_lower_case`; yes where nothing is said).

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = Path(path).expanduser()
    candidates = [path / "tokenizer.json", path / "vocab.txt"] if path.is_dir() else [path]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise DataError(
            f"{path} is no tokenizer: give a tokenizer.json, a vocab.txt or a folder that holds one of them"
        )
    try:
        tokenizer = _from_vocabulary(found) if found.suffix == ".txt" else Tokenizer.from_file(str(found))
    except DataError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{found} is not a tokenizer of the `tokenizers` library ({error}): fetch it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The `Vocabulary` of a tokenizer that has BERT's special tokens.

    Raises:
        DataError: it lacks one of them.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise DataError(
            f"the tokenizer has no {', '.join(missing)}, which masked objectives need:"
            " take a BERT one, or add the token"
        )
    size = max(ids.values()) + 1
    tokens = [""] * size
    for token, index in ids.items():
        tokens[index] = token
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return Vocabulary(
        size=size,
        **{name: ids[token] for name, token in zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_TOKENS, strict=True)},
        special_ids=tuple(sorted(special | {ids[token] for token in SPECIAL_TOKENS})),
        starts_word=np.array([not token.startswith(CONTINUES) or token == CONTINUES for token in tokens]),
        tokens=tuple(tokens),
    )


def _bert(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    cls, sep = tokenizer.token_to_id(CLS), tokenizer.token_to_id(SEP)
    if cls is not None and sep is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}",
            pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
            special_tokens=[(CLS, cls), (SEP, sep)],
        )
    return tokenizer


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
    content["model"]["vocab"] = dict(sorted(content["model"]["vocab"].items(), key=lambda item: item[1]))
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _from_vocabulary(path: Path) -> Tokenizer:
    tokens = path.read_text(encoding="utf-8").splitlines()
    ids = {token: index for index, token in enumerate(tokens)}
    if UNK not in ids:
        raise DataError(f"{path} lists no {UNK}: give the vocab.txt of a BERT model, one token a line")
    settings = path.with_name("tokenizer_config.json")
    lowercase = json.loads(settings.read_text()).get("do_lower_case", True) if settings.is_file() else True
    tokenizer = _bert(models.WordPiece(ids, unk_token=UNK), lowercase)
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in ids])
    return tokenizer
