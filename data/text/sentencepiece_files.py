"""Models of sentencepiece (Kudo and Richardson, 2018, arXiv 1808.06226) as tokenizers of the `tokenizers` library.

The ids, the frame and the special tokens are those that `transformers` gives T5, Llama, mBART and Marian. How a text becomes
pieces is what the model itself says, as `sentencepiece` does it; `transformers` 5 differs from that where it drops mBART's
normalisation, a space that a Llama text begins with, and U+0085 in T5's texts.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from data.errors import DataError
from data.text.templates import LANGUAGES as MBART_LANGUAGES
from data.text.tokenizer_files import begin_and_end, template
from data.text.tokenizer_settings import flag, json_object, token_text

log = logging.getLogger("lacuna")

SPACE = "▁"
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Kinds of models, and of their pieces, as `sentencepiece_model.proto` numbers them."""
UNSEEN = "\uffff"
"""Stands for characters that a model does not know; no text has it."""
NEVER = -1e6
"""Score of a piece that no text becomes as long as it can be anything else."""
# fmt: off
MBART50_LANGUAGES = (
    *MBART_LANGUAGES,
    "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK", "ml_IN", "mn_MN",
    "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK",
    "xh_ZA", "gl_ES", "sl_SI",
)
"""In the order of their ids; those that came later stand behind (Tang et al., 2020, arXiv 2008.00401)."""
# fmt: on


def read_model(path: Path) -> Any:
    """The `ModelProto` in a file.

    Raises:
        DataError: it holds none, or one of another kind.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2
    except Exception as error:  # an ImportError, or a protobuf that is older than sentencepiece
        raise DataError(f"{path} cannot be read: {error} (pip install --upgrade protobuf sentencepiece)") from error
    try:
        proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception:  # protobuf's
        proto = None
    if proto is None or not proto.pieces or proto.trainer_spec.model_type not in (UNIGRAM, BPE):
        raise DataError(
            f"{path} is no unigram or byte-pair model of sentencepiece (Llama 3's tokenizer.model is a file of tiktoken):"
            " fetch it again, or give a tokenizer.json"
        )
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise DataError(f"{path} puts spaces behind words, which is not read here: give a tokenizer.json")
    return proto


def tokenizer_of(
    proto: Any, entries: Sequence[tuple[str, float]], *, prefix: bool, first: bool = False, unseen: str | None = None
) -> Tokenizer:
    """A tokenizer that makes the pieces that sentencepiece makes.

    Args:
        entries: token and score of each id: the pieces of `proto`, or more.
        prefix: put a space before a text, and behind each special token in it.
        first: of these only the one before the text.
        unseen: pattern of characters that become the unknown token, whatever `entries` has.
    """
    names = [piece.piece for piece in proto.pieces]
    unknown = next((token for token, piece in zip(names, proto.pieces, strict=True) if piece.type == UNKNOWN), "<unk>")
    tokens = [token for token, _ in entries]
    fallback = bool(proto.trainer_spec.byte_fallback)
    if proto.trainer_spec.model_type == UNIGRAM:
        if unknown not in tokens:
            raise DataError(f"the vocabulary lacks {unknown!r}, the unknown token of its model: fetch its files again")
        model = models.Unigram(list(entries), unk_id=tokens.index(unknown), byte_fallback=fallback)
    else:
        ids = {token: index for index, token in enumerate(tokens)}
        model = models.BPE(ids, merges(proto, ids), unk_token=unknown, fuse_unk=True, byte_fallback=fallback)
    tokenizer = Tokenizer(model)
    spec, steps = proto.normalizer_spec, []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if prefix and not first:
        steps.append(normalizers.Prepend(SPACE))
    if not first:
        steps.append(normalizers.Replace(" ", SPACE))
    if unseen is not None:
        steps.append(normalizers.Replace(Regex(unseen), UNSEEN))
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    within = any(SPACE in token[1:] for token, _ in entries)
    if first:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first" if prefix else "never", split=not within)
    elif not within:  # word by word, which gives the same pieces faster
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "never")
    if fallback:
        strip = [decoders.Strip(content=" ", left=1)] if prefix else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
    else:
        tokenizer.decoder = decoders.Metaspace(SPACE, "always" if prefix else "never")
    known = set(tokens)
    tokenizer.add_tokens(
        [
            AddedToken(piece.piece, normalized=False, special=piece.type != USER_DEFINED)
            for piece in proto.pieces
            if piece.type in (UNKNOWN, CONTROL, USER_DEFINED) and piece.piece in known
        ]
    )
    return tokenizer


def merges(proto: Any, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """What byte pairs of sentencepiece merge, best first: two pieces of which the joint one has the highest score."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL and piece.piece in ids}
    ranked = [
        (-score, ids[token], cut)
        for token, score in scores.items()
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    tokens = {index: token for token, index in ids.items()}
    return [(tokens[index][:cut], tokens[index][cut:]) for _, index, cut in sorted(ranked)]


def _t5(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """T5's: sentinels behind the pieces, the last one first, and an end behind each text."""
    proto = read_model(file)
    named = about.get("extra_special_tokens") or about.get("additional_special_tokens") or []
    named = [token for token in map(token_text, named) if token and re.fullmatch(r"<extra_id_\d+>", token)]
    count = about.get("extra_ids", len(named) or 100)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise DataError(f"{folder / 'tokenizer_config.json'}: extra_ids={count!r}, expected a number")
    extra = [f"<extra_id_{number}>" for number in reversed(range(count))]
    entries = [*((piece.piece, piece.score) for piece in proto.pieces), *((token, 0.0) for token in extra)]
    tokenizer = tokenizer_of(proto, entries, prefix=proto.normalizer_spec.add_dummy_prefix)
    tokenizer.add_special_tokens(extra)
    end = roles["eos"]
    tokenizer.post_processor = template(tokenizer, ["$A", end], ["$A", end, "$B", end])
    return tokenizer


def _llama(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """Llama's: byte pairs with bytes for what they lack, and a beginning before each text unless the folder says otherwise.

    With `legacy: false` only the beginning of a text has the space before it, as in `transformers`.
    """
    proto = read_model(file)
    tokenizer = tokenizer_of(
        proto,
        [(piece.piece, piece.score) for piece in proto.pieces],
        prefix=flag(about, "add_prefix_space", proto.normalizer_spec.add_dummy_prefix),
        first=not flag(about, "legacy", True),
    )
    frame = begin_and_end(tokenizer, roles, flag(about, "add_bos_token", True), flag(about, "add_eos_token", False))
    if frame is not None:
        tokenizer.post_processor = frame
    return tokenizer


def _mbart(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """mBART's, in the ids of fairseq: the end and the language behind a text; of mBART-50 the language before it."""
    return _fairseq(file, about, roles, MBART_LANGUAGES, before=False)


def _mbart50(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    return _fairseq(file, about, roles, MBART50_LANGUAGES, before=True)


def _fairseq(
    file: Path, about: Mapping[str, Any], roles: Mapping[str, str], languages: Sequence[str], before: bool
) -> Tokenizer:
    proto = read_model(file)
    ends = [(roles.get("bos", roles["cls"]), 0.0), *((roles[role], 0.0) for role in ("pad", "eos", "unk"))]
    pieces = [(piece.piece, piece.score) for piece in proto.pieces][3:]
    entries = [*ends, *pieces, *((token, 0.0) for token in (*languages, roles["mask"]))]
    tokenizer = tokenizer_of(proto, entries, prefix=proto.normalizer_spec.add_dummy_prefix)
    tokenizer.add_special_tokens([*(token for token, _ in ends), *languages])
    tokenizer.add_special_tokens([AddedToken(roles["mask"], lstrip=True, special=True)])
    language, end = about.get("src_lang") or "en_XX", roles["eos"]
    if language not in languages:
        raise DataError(
            f"{file.parent / 'tokenizer_config.json'}: src_lang={language!r}, expected one of {' '.join(languages)}"
        )
    begins, ends = ([language], [end]) if before else ([], [end, language])
    tokenizer.post_processor = template(tokenizer, [*begins, "$A", *ends], [*begins, "$A", "$B", *ends])
    return tokenizer


def _marian(folder: Path, file: Path, about: Mapping[str, Any], roles: Mapping[str, str], side: str) -> Tokenizer:
    """Marian's: pieces by the model of a side, ids by the vocabulary that both sides have, and an end behind each text.

    Characters that the model of the side does not know are a token where the vocabulary has just these, of the other side.
    """
    proto = read_model(folder / f"{side}.spm")
    separate = side == "target" and about.get("separate_vocabs")
    ids = json_object(folder / ("target_vocab.json" if separate else "vocab.json"))
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"{folder / 'vocab.json'}: its ids are not 0 to {len(ids) - 1}, each once: fetch it again")
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    absent = sorted(token for token in scores if token not in ids)
    if absent:
        log.warning(
            "%s: %d pieces of %s.spm are not in vocab.json, such as %r: texts become other ones there",
            folder, len(absent), side, absent[0],
        )  # fmt: skip
    entries = [(token, scores.get(token, NEVER)) for token in sorted(ids, key=ids.__getitem__)]
    unseen = _unknown_to({SPACE, *"".join(scores)}, ids)
    tokenizer = tokenizer_of(proto, entries, prefix=proto.normalizer_spec.add_dummy_prefix, unseen=unseen)
    codes = [token for token in ids if token.startswith(">>") and token.endswith("<<")]
    tokenizer.add_tokens([AddedToken(code, normalized=False) for code in codes])
    end = roles["eos"]
    tokenizer.post_processor = template(tokenizer, ["$A", end], ["$A", "$B", end])
    return tokenizer


def _unknown_to(alphabet: set[str], ids: Iterable[str]) -> str:
    """A pattern of what becomes the unknown token: a run of characters beyond `alphabet` that is no token as a whole."""
    known = "".join(_escaped(letter) for letter in sorted(alphabet))
    foreign = [token for token in ids if token and alphabet.isdisjoint(token)]
    letters = "".join(_escaped(token) for token in foreign if len(token) == 1)
    longer = "".join("|" + "".join(map(_escaped, token)) for token in sorted(foreign) if len(token) > 1)
    token = rf"(?!(?:[{letters or UNSEEN}]{longer})(?:[{known}]|\z))"
    return rf"(?<![^{known}]){token}[^{known}]+"


def _escaped(letter: str) -> str:
    return rf"\x{{{ord(letter):x}}}"


READERS = {
    "T5Tokenizer": _t5,
    "LlamaTokenizer": _llama,
    "MBartTokenizer": _mbart,
    "MBart50Tokenizer": _mbart50,
    "MarianTokenizer": _marian,
}
