"""Models of sentencepiece: the pieces are those of the library itself, ids and frame the architecture's."""

import io
import itertools
import json
import random

import numpy as np
import pytest
import sentencepiece

from data.errors import DataError
from data.text.framing import Framing
from data.text.pairs import Pairs
from data.text.sentencepiece_files import MBART50_LANGUAGES, MBART_LANGUAGES, merges, read_model
from data.text.tokenizer_files import load

WORDS = ["the", "river", "ran", "past", "mill", "miller's", "cat", "naïve", "café", "things;", "more", "Upper"]
TEXTS = [
    "the river ran past",
    " the  mill  ",
    "ﬁne ½ café",
    "",
    "  ",
    "▁the",
    "a\u0085b",
    "the\n\nmill\tcat",
    "天气 the mill",
]


@pytest.fixture(scope="module")
def sentences():
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=9)) + draw.choice(".!?") for _ in range(200)]


def train(path, texts, **settings):
    written = io.BytesIO()
    settings = {"vocab_size": 120, "hard_vocab_limit": False, **settings}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, num_threads=1, minloglevel=2, **settings
    )
    path.write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def folder_of(folder, model_type, **about):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def check(tokenizer, model):
    """The pieces of `model` in all texts, whatever their ids are."""
    unknown = model.id_to_piece(model.unk_id())
    for text in TEXTS:
        pieces = [unknown if index == model.unk_id() else model.id_to_piece(index) for index in model.encode(text)]
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert [tokenizer.id_to_token(index) for index in ids] == pieces, text


def around(tokenizer):
    framing = Framing.of(tokenizer)
    return [[tokenizer.id_to_token(index) for index in ids] for ids in (framing.begin, framing.end)]


def test_t5(tmp_path, sentences):
    model = train(tmp_path / "spiece.model", sentences, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    size = model.get_piece_size()
    tokenizer = load(folder_of(tmp_path, "t5"))
    check(tokenizer, model)
    assert around(tokenizer) == [[], ["</s>"]]
    assert [tokenizer.token_to_id(f"<extra_id_{number}>") for number in (99, 0)] == [size, size + 99]
    assert load(folder_of(tmp_path, "t5", extra_ids=3)).get_vocab_size() == size + 3
    tokens = tokenizer.encode("the <extra_id_0> cat").tokens
    assert tokens[-3:] == ["<extra_id_0>", "▁cat", "</s>"]
    assert tokenizer.decode(tokenizer.encode("the cat ran").ids) == "the cat ran"


def test_llama(tmp_path, sentences):
    model = train(
        tmp_path / "tokenizer.model", sentences, vocab_size=330, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    )  # fmt: skip
    tokenizer = load(folder_of(tmp_path, "llama"))
    check(tokenizer, model)
    assert around(tokenizer) == [["<s>"], []]
    assert tokenizer.decode(tokenizer.encode(" 天气  the cat\n").ids) == " 天气  the cat\n"
    assert around(load(folder_of(tmp_path, "llama", add_bos_token=False, add_eos_token=True))) == [[], ["</s>"]]
    bare = load(folder_of(tmp_path, "llama", add_prefix_space=False)).encode("the", add_special_tokens=False).tokens
    assert not bare[0].startswith("▁")
    proto = read_model(tmp_path / "tokenizer.model")
    ids = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    for piece in proto.pieces:
        piece.score = -piece.score
    scores = [proto.pieces[ids[left + right]].score for left, right in merges(proto, ids)]
    assert scores == sorted(scores, reverse=True) and len(scores) > 20


@pytest.mark.parametrize(
    ("about", "languages", "expected"),
    [
        ({}, MBART_LANGUAGES, [[], ["</s>", "en_XX"]]),
        ({"src_lang": "ro_RO"}, MBART_LANGUAGES, [[], ["</s>", "ro_RO"]]),
        ({"tokenizer_class": "MBart50Tokenizer", "src_lang": "xh_ZA"}, MBART50_LANGUAGES, [["xh_ZA"], ["</s>"]]),
    ],
)
def test_mbart(tmp_path, sentences, about, languages, expected):
    model = train(tmp_path / "sentencepiece.bpe.model", sentences, unk_id=0, bos_id=1, eos_id=2)
    tokenizer = load(folder_of(tmp_path, "mbart", **about))
    check(tokenizer, model)
    assert around(tokenizer) == expected
    size = model.get_piece_size()
    assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_to_id(model.id_to_piece(3)) == 4
    assert [tokenizer.token_to_id(language) for language in languages] == list(
        range(size + 1, size + 1 + len(languages))
    )
    assert tokenizer.token_to_id("<mask>") == size + 1 + len(languages)
    with pytest.raises(DataError, match="src_lang='en', expected one of ar_AR"):
        load(folder_of(tmp_path, "mbart", src_lang="en"))


@pytest.fixture
def marian(tmp_path, sentences):
    """A folder whose target model knows the words of the source backwards."""
    pieces = {"</s>": 0, "<unk>": 1}
    for side, texts in (("source", sentences), ("target", [text[::-1] for text in sentences])):
        model = train(tmp_path / f"{side}.spm", texts, character_coverage=1.0)
        for index in range(3, model.get_piece_size()):
            pieces.setdefault(model.id_to_piece(index), len(pieces))
    pieces |= {"天气": len(pieces), "<pad>": len(pieces) + 1}
    (tmp_path / "vocab.json").write_text(json.dumps(pieces))
    return folder_of(tmp_path, "marian"), pieces


def test_marian(marian):
    folder, pieces = marian
    for side in ("source", "target"):
        tokenizer = load(folder, side=side)
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        assert tokenizer.get_vocab() == pieces and around(tokenizer) == [[], ["</s>"]]
        for text in (*TEXTS, "天", "天气", "the天气天 mill"):
            expected = [pieces.get(piece, pieces["<unk>"]) for piece in model.encode(text, out_type=str)]
            assert tokenizer.encode(text, add_special_tokens=False).ids == expected, (side, text)
    (folder / "vocab.json").write_text(json.dumps({**pieces, "<pad>": 9_999}))
    with pytest.raises(DataError, match="its ids are not 0 to"):
        load(folder)


def test_each_side_of_pairs_is_cut_by_its_own_model(marian, tmp_path):
    folder, _ = marian
    rows = [(f"the mill {number}", f"llim eht {number}") for number in range(20)]
    (tmp_path / "pairs.tsv").write_text("en\tne\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    pairs = Pairs(
        source=str(tmp_path / "pairs.tsv"),
        features=("en", "ne"),
        tokenizer=str(folder),
        held_out=0.2,
        cache=str(tmp_path / "c"),
    )
    prepared = pairs.prepare(400, None, lambda message: None)
    target = load(folder, side="target")
    expected = {tuple(target.encode(b, add_special_tokens=False).ids) for _, b in rows}
    offsets = prepared.targets.sentence_offsets[prepared.targets.document_offsets]
    came = {tuple(np.asarray(prepared.targets.tokens[a:b]).tolist()) for a, b in itertools.pairwise(offsets)}
    assert came == expected
    assert came != {tuple(load(folder).encode(b, add_special_tokens=False).ids) for _, b in rows}


def test_other_models_are_refused(tmp_path, sentences):
    train(tmp_path / "spiece.model", sentences, model_type="char")
    with pytest.raises(DataError, match="is no unigram or byte-pair model of sentencepiece"):
        load(folder_of(tmp_path, "t5"))
    train(tmp_path / "spiece.model", sentences, treat_whitespace_as_suffix=True)
    with pytest.raises(DataError, match="puts spaces behind words"):
        load(tmp_path)
