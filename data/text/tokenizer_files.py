"""Tokenizer files, as published: what a folder holds, as a tokenizer of the `tokenizers` library, and the roles of its
special tokens.

`tokenizer.json` says everything itself. Older folders hold the files of one class of `transformers` (`FILES`), which also
decides how a text is split and which special tokens stand around it. `tokenizer_config.json`, `special_tokens_map.json` and
`added_tokens.json` are obeyed beside both.

Where `transformers` 5 departs from the format of a file, the format is followed: see `data/text/sentencepiece_files.py`. A
`tokenizer.json` counts where `tokenizer_config.json` is silent, and not the defaults of a class; `<mask>` of RoBERTa's and
BART's kind takes the space before it, as in their published `tokenizer.json`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data.errors import DataError
from data.text.tokenizer_settings import (
    ROLES,
    about_tokenizer,
    flag,
    json_object,
    lines_of,
    no_tokenizer,
    settings,
    special_settings,
    special_tokens,
    token_text,
    tokenizer_class,
    tokenizer_file,
)

log = logging.getLogger("lacuna")
PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's."""
CONTINUES = "##"
"""What a wordpiece inside of a word begins with."""
_BERT = dict(unk=UNK, sep=SEP, pad=PAD, cls=CLS, mask=MASK)
_ROBERTA = dict(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>")
DEFAULTS: dict[str, dict[str, str]] = {
    "BertTokenizer": _BERT,
    "GPT2Tokenizer": dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>"),
    "RobertaTokenizer": _ROBERTA,
    "T5Tokenizer": dict(eos="</s>", unk="<unk>", pad="<pad>"),
    "LlamaTokenizer": dict(bos="<s>", eos="</s>", unk="<unk>"),
    "MBartTokenizer": _ROBERTA,
    "MBart50Tokenizer": {role: token for role, token in _ROBERTA.items() if role != "bos"},
    "MarianTokenizer": dict(eos="</s>", unk="<unk>", pad="<pad>"),
}
"""{role: token} of each class, where a folder names none."""
UNHEARD: dict[str, Any] = {"do_basic_tokenize": True, "never_split": [], "sp_model_kwargs": {}}
"""Settings that would give other ids and are not obeyed, with the value that says nothing."""
PROBES = ("The CAT", " two  spaces ", "naïve café", "天气 12,345.6", "don't stop\n\nhere")
"""Texts that become other tokens where case, spaces, accents, ideographs, numbers or lines are treated otherwise."""


def load(path: str | Path, *, side: str = "source") -> Tokenizer:
    """The tokenizer at `path`: a `tokenizer.json`, the files of a class in `FILES`, or a folder with either.

    Truncation and padding, which published files switch on, are off. Of the settings in `tokenizer_config.json` those are
    obeyed that decide about ids: of BERT's `do_lower_case`, `strip_accents`, `tokenize_chinese_chars`; `add_prefix_space`;
    `add_bos_token` and `add_eos_token`, where no `tokenizer.json` has the last word; T5's `extra_ids`; mBART's `src_lang`;
    Llama's `legacy`; `split_special_tokens`; added tokens, special tokens and their roles.

    Args:
        side: of a Marian folder, whose sources and targets are cut into pieces by a model each: `source` or `target`.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    file, folder = Path(path).expanduser(), Path(path).expanduser()
    if folder.is_dir():
        file = tokenizer_file(folder)
        if file is None:
            raise DataError(no_tokenizer(folder))
    elif not file.is_file():
        raise DataError(f"{path} is no tokenizer: there is no such file or folder")
    else:
        folder = file.parent
    about = about_tokenizer(folder)
    for name, usual in UNHEARD.items():
        if about.get(name, usual) not in (usual, None):
            log.warning("%s says %s=%r, which is not heeded", folder / "tokenizer_config.json", name, about[name])
    kind = tokenizer_class(folder, file)
    roles = special_tokens(folder)
    try:
        if file.suffix == ".json" and file.name != "vocab.json":
            text = file.read_bytes().decode("utf-8-sig")  # the library takes a byte order mark for a mistake
            tokenizer = _with_settings(Tokenizer.from_str(text), about)
            _name_other_frame(tokenizer, file, about, roles)
        else:
            tokenizer = _READERS[kind](folder, file, about, roles, side)
            roles = {
                role: token for role, token in DEFAULTS[kind].items() if tokenizer.token_to_id(token) is not None
            } | roles
        _add_tokens(tokenizer, folder, about, roles)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is not a tokenizer of the `tokenizers` library ({error}): fetch it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def difference(one: Tokenizer, other: Tokenizer) -> str | None:
    """In words, where two tokenizers give other ids first; `None` where their vocabularies are the same, and so are the ids
    of `PROBES`."""
    first, second = one.get_vocab(), other.get_vocab()
    if first != second:
        tokens = {token for token, index in first.items() ^ second.items()}
        token = min(tokens, key=lambda token: (first.get(token, len(first)), second.get(token, len(second)), token))
        return f"{token!r} has the id {first.get(token)} there and {second.get(token)} here"
    for text in PROBES:
        first, second = one.encode(text).tokens, other.encode(text).tokens
        if first != second:
            return f"{text!r} becomes {' '.join(first)} there and {' '.join(second)} here"
    return None


def bert_tokenizer(
    model: models.WordPiece,
    lowercase: bool,
    strip_accents: bool | None = None,
    chinese: bool = True,
    roles: Mapping[str, str] = _BERT,
) -> Tokenizer:
    """BERT's way from text to words, and its frame around them, where the model has the tokens for that.

    Args:
        lowercase: lower-case the text; strip accents, too, where `strip_accents` is `None`.
        chinese: each CJK ideograph is a word.
        roles: with the tokens `cls` and `sep` of the frame.
    """
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    cls, sep = roles["cls"], roles["sep"]
    if tokenizer.token_to_id(cls) is not None and tokenizer.token_to_id(sep) is not None:
        tokenizer.post_processor = template(tokenizer, [cls, "$A", sep], [cls, "$A", sep, "$B:1", f"{sep}:1"])
    return tokenizer


def template(tokenizer: Tokenizer, single: Sequence[str], pair: Sequence[str]) -> processors.TemplateProcessing:
    """A frame of special tokens around a text, `$A`, and a pair, `$A` and `$B`."""
    parts = {part.rpartition(":")[0] or part for part in (*single, *pair) if not part.startswith("$")}
    missing = sorted(part for part in parts if tokenizer.token_to_id(part) is None)
    if missing:
        raise DataError(f"the tokenizer has no {missing[0]!r}, which stands around its texts: fetch its files again")
    return processors.TemplateProcessing(
        single=list(single),
        pair=list(pair),
        special_tokens=[(part, tokenizer.token_to_id(part)) for part in sorted(parts)],
    )


def begin_and_end(tokenizer: Tokenizer, roles: Mapping[str, str], begin: bool, end: bool) -> Any:
    """The frame that `add_bos_token` and `add_eos_token` ask for; `None` where they ask for nothing."""
    before = [roles["bos"]] if begin and "bos" in roles else []
    after = [roles["eos"]] if end and "eos" in roles else []
    if not before and not after:
        return None
    single = [*before, "$A", *after]
    second = [*(f"{token}:1" for token in before), "$B:1", *(f"{token}:1" for token in after)]
    return template(tokenizer, single, [*single, *second])


def _wordpieces(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """BERT's `vocab.txt`: a token a line, its number its id. Only `\\n` ends a line: tokens such as U+2028 do not."""
    roles = {**_BERT, **roles}
    ids = {line: index for index, line in enumerate(lines_of(file))}
    if roles["unk"] not in ids:
        raise DataError(f"{file} lists no {roles['unk']}: give the vocab.txt of a BERT model, one token a line")
    return bert_tokenizer(
        models.WordPiece(ids, unk_token=roles["unk"]),
        flag(about, "do_lower_case", True),
        flag(about, "strip_accents", None),
        flag(about, "tokenize_chinese_chars", True),
        roles,
    )


def _byte_pairs(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """The `vocab.json` and `merges.txt` of GPT-2, RoBERTa and BART: pairs of bytes, the first merge before the others."""
    kind = tokenizer_class(folder, file)
    roles = {**DEFAULTS[kind], **roles}
    lines = lines_of(folder / "merges.txt")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong is not None:
        raise DataError(
            f"{folder / 'merges.txt'} has the line {' '.join(wrong)!r}: expected two tokens with a space between"
        )
    tokenizer = Tokenizer(models.BPE(json_object(folder / "vocab.json"), merges, fuse_unk=False))
    prefix = flag(about, "add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "RobertaTokenizer":
        ends = [(roles[role], tokenizer.token_to_id(roles[role])) for role in ("sep", "cls")]
        missing = [token for token, index in ends if index is None]
        if missing:
            raise DataError(
                f"{folder / 'vocab.json'} has no {missing[0]!r}, which stands around RoBERTa's and BART's texts"
            )
        tokenizer.post_processor = processors.RobertaProcessing(*ends, flag(about, "trim_offsets", True), prefix)
        mask = roles.get("mask")
        if mask is not None and tokenizer.token_to_id(mask) is not None:
            tokenizer.add_special_tokens([AddedToken(mask, lstrip=True, special=True)])
    else:
        tokenizer.post_processor = begin_and_end(
            tokenizer, roles, flag(about, "add_bos_token", False), flag(about, "add_eos_token", False)
        ) or processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _pieces(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    from data.text import sentencepiece_files  # which only these folders need

    kind = tokenizer_class(folder, file)
    return sentencepiece_files.READERS[kind](folder, file, about, {**DEFAULTS[kind], **roles}, side)


_READERS = {
    "BertTokenizer": _wordpieces,
    "GPT2Tokenizer": _byte_pairs,
    "RobertaTokenizer": _byte_pairs,
    **dict.fromkeys(
        ("T5Tokenizer", "LlamaTokenizer", "MBartTokenizer", "MBart50Tokenizer", "MarianTokenizer"), _pieces
    ),
}


def _with_settings(tokenizer: Tokenizer, about: Mapping[str, Any]) -> Tokenizer:
    """A `tokenizer.json` with what `tokenizer_config.json` says otherwise of its words; its own frame stays."""
    content = json.loads(tokenizer.to_str())
    named = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    changed = False
    for part in _parts(content["normalizer"], "normalizers"):
        if part["type"] == "BertNormalizer":
            flags = {name: flag(about, key, part[name]) for key, name in named.items() if key in about}
            changed |= any(part[name] != value for name, value in flags.items())
            part |= flags
    for part in _parts(content["pre_tokenizer"], "pretokenizers"):
        if part["type"] == "ByteLevel":
            prefix = flag(about, "add_prefix_space", part["add_prefix_space"])
            changed |= part["add_prefix_space"] != prefix
            part["add_prefix_space"] = prefix
    return Tokenizer.from_str(json.dumps(content)) if changed else tokenizer


def _name_other_frame(tokenizer: Tokenizer, file: Path, about: Mapping[str, Any], roles: Mapping[str, str]) -> None:
    """Warn where the settings beside a `tokenizer.json` ask for another frame than it has; `transformers` 5 takes the file's."""
    if roles.get("bos") == roles.get("eos"):
        return
    ids = tokenizer.encode("").ids
    for role, place in (("bos", ids[:1]), ("eos", ids[-1:])):
        asked, token = about.get(f"add_{role}_token"), roles.get(role)
        index = None if token is None else tokenizer.token_to_id(token)
        if asked is not None and index is not None and asked != (place == [index]):
            log.warning(
                "%s: tokenizer_config.json says add_%s_token=%r, and the file %s %r around texts: the file is obeyed",
                file, role, asked, "has no" if asked else "has", token,
            )  # fmt: skip


def _parts(content: Any, name: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer of a `tokenizer.json` as the parts it is made of."""
    if content is None:
        return []
    return (
        [part for inner in content[name] for part in _parts(inner, name)]
        if content["type"] == "Sequence"
        else [content]
    )


def _add_tokens(tokenizer: Tokenizer, folder: Path, about: Mapping[str, Any], roles: Mapping[str, str]) -> None:
    """Add the tokens that a folder's settings add, and mark the special ones."""
    special = special_settings(folder)
    extra = special.get("extra_special_tokens") or special.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, Mapping) else extra
    special = [*(roles[role] for role in ROLES if role in roles), *filter(None, map(token_text, extra))]
    added: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in about:
        for index, token in about["added_tokens_decoder"].items():
            flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
            added[int(index)] = AddedToken(
                token["content"], **{flag: bool(token[flag]) for flag in flags if flag in token}
            )
    else:
        for token, index in settings(folder / "added_tokens.json").items():
            added[index] = AddedToken(token, normalized=token not in special, special=token in special)
    for index, token in sorted(added.items()):
        tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != index:
            raise DataError(
                f"{folder}: {token.content!r} has the id {index} by its settings and {tokenizer.token_to_id(token.content)} by"
                " its vocabulary: fetch its files again"
            )
    there = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    for text in dict.fromkeys(special):
        token = there.get(text, AddedToken(text, special=True, normalized=False))
        if text not in there or not token.special:
            token.special = True
            tokenizer.add_special_tokens([token])
    if about.get("split_special_tokens"):
        tokenizer.encode_special_tokens = True
