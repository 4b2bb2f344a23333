"""Tokenizer files, as published: what a folder holds, as a tokenizer of the `tokenizers` library, and the roles of its
special tokens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data.errors import DataError

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's."""
CONTINUES = "##"
"""What a wordpiece inside of a word begins with."""
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""What a folder's settings name a special token for, as `<role>_token`."""
FILES = ("tokenizer.json", "vocab.txt")
"""What a tokenizer is read from, the first that is there."""


def load(path: str | Path) -> Tokenizer:
    """The tokenizer at `path`: one of `FILES`, or a folder with one of them.

    Truncation and padding, which published files switch on, are off. The settings beside a `vocab.txt` are obeyed
    (`tokenizer_config.json`: `do_lower_case`, `strip_accents`, `tokenize_chinese_chars`).

    Raises:
        DataError: there is none, or it cannot be read.
    """
    file = tokenizer_file(path)
    if file is None:
        raise DataError(f"{path} is no tokenizer: give {' or '.join(FILES)}, or a folder that holds one of them")
    try:
        tokenizer = _from_vocabulary(file) if file.suffix == ".txt" else Tokenizer.from_file(str(file))
    except DataError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is not a tokenizer of the `tokenizers` library ({error}): fetch it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenizer_file(path: str | Path) -> Path | None:
    """The file that a folder's tokenizer is read from, or `path` itself where it is a file; `None` where there is none."""
    path = Path(path).expanduser()
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def special_tokens(path: str | Path) -> dict[str, str]:
    """{role: token} of a folder, or of the folder of a tokenizer's file: what its settings say, for the `ROLES` they name.

    `tokenizer_config.json` has the last word, `special_tokens_map.json` stands where that is silent.
    """
    folder = Path(path).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    said = {**settings(folder / "special_tokens_map.json"), **settings(folder / "tokenizer_config.json")}
    tokens = {role: _content(said.get(f"{role}_token")) for role in ROLES}
    return {role: token for role, token in tokens.items() if token is not None}


def settings(path: Path) -> dict[str, Any]:
    """A JSON object that may be missing.

    Raises:
        DataError: it is there and is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object: fetch it again")
    return content


def _content(token: Any) -> str | None:
    """The text of a special token, which stands in a file as a string or as an object."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


def bert_tokenizer(
    model: models.WordPiece, lowercase: bool, strip_accents: bool | None = None, chinese: bool = True
) -> Tokenizer:
    """BERT's way from text to words, and its frame around them, where the model has the tokens for that.

    Args:
        lowercase: lower-case the text; strip accents, too, where `strip_accents` is `None`.
        chinese: each CJK ideograph is a word.
    """
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
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


def _from_vocabulary(path: Path) -> Tokenizer:
    """BERT's `vocab.txt`: a token a line, its number its id. Only `\\n` ends a line: tokens such as U+2028 do not."""
    lines = path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    ids = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
    if UNK not in ids:
        raise DataError(f"{path} lists no {UNK}: give the vocab.txt of a BERT model, one token a line")
    said = settings(path.with_name("tokenizer_config.json"))
    tokenizer = bert_tokenizer(
        models.WordPiece(ids, unk_token=UNK),
        said.get("do_lower_case", True),
        said.get("strip_accents"),
        said.get("tokenize_chinese_chars", True),
    )
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in ids])
    return tokenizer
