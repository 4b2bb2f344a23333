"""A tokenizer beside a model: `tokenizer.json`, and the settings that `transformers.AutoTokenizer` reads with it.

The class of the settings is `PreTrainedTokenizerFast`, which takes a `tokenizer.json` as it stands. Classes of an
architecture (`GPT2Tokenizer`, `T5Tokenizer`, …) build normaliser and pre-tokenizer by rules of their own since
`transformers` 5, and give other ids than the file where it says otherwise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.config import ModelConfig, ModelError
from models.hub import files
from models.model import Model

FILE, SETTINGS, SPECIAL, TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
READ_TOO = (SPECIAL, "added_tokens.json", TEMPLATE)
"""Files that `AutoTokenizer` reads beside the two, and that must not be left over from another tokenizer."""

NAMES: dict[str, tuple[str, ...]] = {
    "bos": ("<s>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("[UNK]", "<unk>", "<|endoftext|>"),
    "sep": ("[SEP]", "<sep>"),
    "pad": ("[PAD]", "<pad>", "<|finetune_right_pad_id|>"),
    "cls": ("[CLS]", "<cls>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What the published families call the special token of a role."""

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""What a tokenizer can return that a model may take."""

REBUILDS = (
    *("tokenizer_class", "auto_map", "backend", "init_inputs", "from_slow", "legacy", "slow_tokenizer_class"),
    *("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "strip_accents", "tokenize_chinese_chars"),
    *("do_basic_tokenize", "never_split", "extra_ids", "sp_model_kwargs", "trim_offsets", "vocab_file", "merges_file"),
    *("tokenizer_file", "special_tokens_map_file", "name_or_path", "is_local", "local_files_only", "files_loaded"),
    *("added_tokens_decoder", "added_tokens", "use_default_system_prompt", "fix_mistral_regex"),
)
"""Settings of a class that builds a tokenizer, or of the place where it lay. `tokenizer.json` says all of it."""


def tokenizer_files(tokenizer: str | Path, model: Model) -> dict[str, str]:
    """{name: content} of the files that lie beside `model`, whose ids are those of `tokenizer`.

    What stands beside a file that is called `tokenizer.json` goes along: the roles of special tokens, sides, lengths, chat
    templates. Roles that nothing names follow from `NAMES` and the ids in the model's config.

    Args:
        tokenizer: a file of the `tokenizers` library, or the folder of a `tokenizer.json`.

    Raises:
        ModelError: it cannot be read, or has ids beyond the model's embeddings.
    """
    path = Path(tokenizer).expanduser()
    path = path / FILE if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)
        ids, added = vocabulary(content), {token["content"]: token for token in content.get("added_tokens") or ()}
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the tokenizer {path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no tokenizer of the `tokenizers` library ({error}): fetch it again") from None
    room = model.config.vocab_size
    beyond = sorted((index, token) for token, index in ids.items() if room is not None and index >= room)
    if beyond:
        raise ModelError(
            f"{path} has {len(beyond)} token(s) beyond the model's vocab_size={room}, {beyond[0][1]!r} with the id"
            f" {beyond[0][0]} the first: give the tokenizer that the model was trained with"
        )
    published, written = {}, {FILE: text}
    if path.name == FILE:
        published = {**optional_json(path.with_name(SPECIAL)), **optional_json(path.with_name(SETTINGS))}
        template = path.with_name(TEMPLATE)
        written |= {TEMPLATE: template.read_text(encoding="utf-8")} if template.is_file() else {}
    kept = {
        name: value
        for name, value in published.items()
        if name not in REBUILDS and not name.endswith("special_tokens")
        if not name.endswith("_token") or (name.removesuffix("_token") not in NAMES and content_of(value) in ids)
    }
    about = {
        **kept,
        **settings(content, model, published),
        **special_tokens(ids, added, model.config, {**around_a_text(content, model), **published}),
    }
    return {**written, SETTINGS: json.dumps(about, indent=2, ensure_ascii=False) + "\n"}


def write(folder: Path, contents: Mapping[str, str]) -> None:
    """Write the files, and take away what `AutoTokenizer` would read of another tokenizer."""
    files.write_whole(
        {
            folder / name: lambda path, text=text: path.write_text(text, encoding="utf-8")
            for name, text in contents.items()
        }
    )
    for name in READ_TOO:
        if name not in contents:
            (folder / name).unlink(missing_ok=True)


def vocabulary(content: Mapping[str, Any]) -> dict[str, int]:
    """{token: id} of a `tokenizer.json`."""
    entries = content["model"]["vocab"]
    ids = dict(entries) if isinstance(entries, dict) else {token: index for index, (token, *_) in enumerate(entries)}
    return ids | {token["content"]: token["id"] for token in content.get("added_tokens") or ()}


def optional_json(path: Path) -> dict[str, Any]:
    """A JSON object that may be missing."""
    return files.read_json(path) if path.is_file() else {}


def settings(content: Mapping[str, Any], model: Model, published: Mapping[str, Any]) -> dict[str, Any]:
    """What is no special token: the class, the names of the inputs, the side of the padding, the longest text."""
    longest = [
        n for n in (model.config.longest_input, published.get("model_max_length")) if isinstance(n, int) and n > 0
    ]
    goes_on = model.generates and model.causal  # a batch of prompts is padded before them
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": [name for name in INPUTS if name in model.inputs],
        "padding_side": published.get("padding_side", "left" if goes_on else "right"),
        "truncation_side": published.get("truncation_side", "right"),
        "clean_up_tokenization_spaces": published.get("clean_up_tokenization_spaces", False),
    }
    if (content.get("pre_tokenizer") or {}).get("add_prefix_space") is True:  # transformers 4 takes silence for a no
        about["add_prefix_space"] = True
    return about | ({"model_max_length": min(longest)} if longest else {})


def around_a_text(content: Mapping[str, Any], model: Model) -> dict[str, str]:
    """`cls_token` and `sep_token`, where a text that is read both ways has one token before it and one behind, as published
    BART's: `transformers` takes the first of them for «no answer»."""
    single = (content.get("post_processor") or {}).get("single") or ()
    names = [(part.get("SpecialToken") or {}).get("id") for part in single]
    if model.causal or len(names) != 3 or None in (names[0], names[2]):
        return {}
    return {"cls_token": names[0], "sep_token": names[2]}


def special_tokens(
    ids: Mapping[str, int], added: Mapping[str, Mapping[str, Any]], config: ModelConfig, published: Mapping[str, Any]
) -> dict[str, Any]:
    """`pad_token`, `eos_token`, … and `additional_special_tokens`, of those alone that the tokenizer has.

    Args:
        ids: of all tokens.
        added: the tokens that stand outside of the model's vocabulary or go before it, as `tokenizer.json` has them.
        published: the settings that stood beside the tokenizer.
    """
    special = {ids[token]: token for token, about in added.items() if about.get("special")}
    roles: dict[str, Any] = {}
    for role, names in NAMES.items():
        named = content_of(published.get(f"{role}_token"))
        if named in ids:
            roles[role] = named
            continue
        known = [name for name in names if ids.get(name) in special]
        index = vars(config).get(f"{role}_token_id")
        index = index[0] if isinstance(index, tuple) and index else index
        meant = special.get(index)
        if meant in known or (known == [] and meant is not None):
            roles[role] = meant
        elif known:
            roles[role] = known[0]
    if "pad" not in roles and "eos" in roles:  # as in generation, which puts it behind the end
        roles["pad"] = roles["eos"]
    tokens: dict[str, Any] = {f"{role}_token": token for role, token in roles.items()}
    listed = published.get("extra_special_tokens") or published.get("additional_special_tokens")
    if isinstance(listed, Mapping):  # by names of its own: `{"image_token": "<image>"}`
        kept = {name: token for name, token in listed.items() if content_of(token) in ids}
        return {**tokens, **({"extra_special_tokens": kept} if kept else {})}
    others = [content_of(token) for token in listed or special.values()]
    others = [token for token in others if token in ids and (listed or token not in roles.values())]
    return tokens | ({"additional_special_tokens": [as_written(token, added) for token in others]} if others else {})


def content_of(token: Any) -> str | None:
    """The text of a special token, which stands in a file as a string or as an object."""
    return token.get("content") if isinstance(token, Mapping) else token if isinstance(token, str) else None


def as_written(token: str, added: Mapping[str, Mapping[str, Any]]) -> str | dict[str, Any]:
    """A special token that has no role, with how it is matched where that is not the rule: `AutoTokenizer` takes a string
    for one that strips nothing."""
    about = {name: value for name, value in added.get(token, {}).items() if name != "id"}
    plain = not any(about.get(name) for name in ("lstrip", "rstrip", "single_word", "normalized"))
    return token if plain else {"__type": "AddedToken", **about}
