"""What a folder says of its tokenizer: the file that it is read from, its class, and the roles of its special tokens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import DataError

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""What a folder's settings name a special token for, as `<role>_token`."""
WHOLE = "tokenizer.json"
"""The file that needs no other; it is read before any other."""
FILES: dict[str, tuple[str, ...]] = {
    "BertTokenizer": ("vocab.txt",),
    "GPT2Tokenizer": ("vocab.json", "merges.txt"),
    "RobertaTokenizer": ("vocab.json", "merges.txt"),
    "T5Tokenizer": ("spiece.model",),
    "LlamaTokenizer": ("tokenizer.model",),
    "MBartTokenizer": ("sentencepiece.bpe.model",),
    "MBart50Tokenizer": ("sentencepiece.bpe.model",),
    "MarianTokenizer": ("source.spm", "target.spm", "vocab.json"),
}
"""What each class is read from where there is no `tokenizer.json`."""
SAME = {
    "DistilBertTokenizer": "BertTokenizer",
    "ElectraTokenizer": "BertTokenizer",
    "BartTokenizer": "RobertaTokenizer",
}
"""Classes that differ in name alone."""
MODEL_TYPES = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "llama": "LlamaTokenizer",
    "bart": "RobertaTokenizer",
    "t5": "T5Tokenizer",
    "mbart": "MBartTokenizer",
    "marian": "MarianTokenizer",
}
"""The class of a folder that names none, by the `model_type` of its `config.json`."""
ANY = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend")
"""Classes that say nothing of their files."""


def tokenizer_file(path: str | Path) -> Path | None:
    """The file that a folder's tokenizer is read from, or `path` itself where it is a file; `None` where there is none.

    Of a class that is read from several it is the first, and all of them must be there.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return path if path.is_file() else None
    if (path / WHOLE).is_file():
        return path / WHOLE
    named = named_class(path)
    classes = FILES if named is None else [named] if named in FILES else []
    for name in classes:
        if all((path / file).is_file() for file in FILES[name]):
            return path / FILES[name][0]
    return None


def tokenizer_class(folder: Path, file: Path) -> str | None:
    """The class in `FILES` that `file` is to be read as: the one that its folder names, or the first with such a file."""
    if file.name == WHOLE or (file.suffix == ".json" and file.name != "vocab.json"):
        return named_class(folder)
    named = named_class(folder)
    if named is not None and file.name in FILES.get(named, ()):
        return named
    if named in MODEL_TYPES.values() or named is None:
        fitting = [name for name, files in FILES.items() if file.name in files]
        if file.name == "vocab.json" and fitting and not (folder / "source.spm").is_file():
            framed = {"<s>", "</s>"} <= set(json_object(file))
            return "RobertaTokenizer" if framed else "GPT2Tokenizer"
        if fitting:
            return fitting[0]
        if file.suffix == ".txt":
            return "BertTokenizer"
    raise DataError(no_tokenizer(folder, file))


def special_tokens(path: str | Path) -> dict[str, str]:
    """{role: token} of a folder, or of the folder of a tokenizer's file: what its settings say, for the `ROLES` they name.

    As in `transformers`: `special_tokens_map.json` counts where `tokenizer_config.json` has no `added_tokens_decoder`, and
    then before it. A role that is named as `null` has no token.
    """
    folder = Path(path).expanduser()
    special = special_settings(folder if folder.is_dir() else folder.parent)
    tokens = {role: token_text(special.get(f"{role}_token")) for role in ROLES}
    return {role: token for role, token in tokens.items() if token is not None}


def write_special_tokens(folder: Path, roles: Mapping[str, str]) -> None:
    """Leave {role: token} beside the `tokenizer.json` of `folder`, for `special_tokens` to read; nothing, where there is none."""
    if roles:
        named = {f"{role}_token": token for role, token in sorted(roles.items())}
        (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=2, ensure_ascii=False) + "\n", "utf-8")


def about_tokenizer(path: str | Path) -> dict[str, Any]:
    """The `tokenizer_config.json` of a folder, or of the folder of a tokenizer's file; empty where there is none."""
    folder = Path(path).expanduser()
    return settings((folder if folder.is_dir() else folder.parent) / "tokenizer_config.json")


def settings(path: Path) -> dict[str, Any]:
    """A JSON object in a file that may be missing.

    Raises:
        DataError: it is there and is no JSON object.
    """
    return json_object(path) if path.is_file() else {}


def token_text(token: Any) -> str | None:
    """The text of a special token, which stands in a file as a string or as an object."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


def special_settings(folder: Path) -> dict[str, Any]:
    """What a folder says of its special tokens, in both of its files."""
    about = settings(folder / "tokenizer_config.json")
    return about if "added_tokens_decoder" in about else {**about, **settings(folder / "special_tokens_map.json")}


def named_class(folder: Path) -> str | None:
    """The class of a folder's tokenizer by its settings or by the type of its model; `None` where nothing says so."""
    config = settings(folder / "config.json")
    named = settings(folder / "tokenizer_config.json").get("tokenizer_class") or config.get("tokenizer_class")
    named = str(named).removesuffix("Fast") if named and str(named) not in ANY else None
    named = SAME.get(named, named)
    return named or MODEL_TYPES.get(str(config.get("model_type")))


def no_tokenizer(folder: Path, file: Path | None = None) -> str:
    """Why no tokenizer is read from a folder, or from one of its files."""
    named = named_class(folder)
    known = ", ".join(f"{' + '.join(files)} ({name})" for name, files in FILES.items())
    if named in FILES:
        return f"{file or folder} is no tokenizer: a {named} is read from {WHOLE}, or from {' and '.join(FILES[named])}"
    if named is not None:
        return (
            f"{file or folder} is written for a {named}, which is read from {WHOLE} alone: save one with `transformers`"
        )
    return f"{file or folder} is no tokenizer: give {WHOLE}, or {known}, or a folder of one of them"


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, which `\\n` or `\\r\\n` ends; a byte order mark is no part of the first."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): fetch it again") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object, with or without a byte order mark."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object: fetch it again")
    return content


def flag(about: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    """A setting that is true or false; the default where it is not there, or is `null`."""
    value = about.get(name)
    if value is not None and not isinstance(value, bool):
        raise DataError(f"tokenizer_config.json: {name}={value!r}, expected true or false")
    return default if value is None else value
