"""Tokenizers of every kind: trained to the byte, special tokens told by name, texts given back."""

import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data import DataError
from data.text.corpus import build_corpus
from data.text.documents import open_documents
from data.text.tokenizers import KINDS, LONGEST_WORD, ShortWords, load, train_tokenizer, vocabulary

TEXTS = [text for _, text in sorted(topics.items())][:40]


@pytest.fixture(scope="module", params=sorted(KINDS))
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    train_tokenizer(TEXTS, kind=request.param, vocab_size=900, sentinels=7, path=path)
    return request.param, path


def test_the_same_texts_give_the_same_bytes(trained, tmp_path: Path) -> None:
    kind, path = trained
    train_tokenizer(TEXTS, kind=kind, vocab_size=900, sentinels=7, path=tmp_path / "again.json")
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, tmp_path / "again.json")}
    assert len(digests) == 1


def test_every_objective_finds_its_tokens(trained) -> None:
    words = vocabulary(load(trained[1]))
    named = [getattr(words, name) for name in ("pad", "unk", "cls", "sep", "mask", "bos", "eos")]
    assert None not in named and len(words.sentinels) == 7 and words.size <= 900
    assert words.special_ids == tuple(sorted({*named, *words.sentinels}))
    assert [words.tokens[index] for index in words.sentinels] == [f"<extra_id_{i}>" for i in range(7)]


def test_words_begin_where_they_begin(trained) -> None:
    tokenizer = load(trained[1])
    words = vocabulary(tokenizer)
    encoding = tokenizer.encode(" an assignment statement evaluates the expression", add_special_tokens=False)
    assert words.starts_word[encoding.ids].sum() == 6
    assert words.starts_word[encoding.ids[0]]


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram"])
def test_text_comes_back(kind: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=900, path=tmp_path / "t.json")
    text = "The first paragraph. It has two sentences.\n\nAnd another one."
    expected = text if kind == "byte_bpe" else " ".join(text.split())
    assert tokenizer.decode(tokenizer.encode(text).ids) == expected
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text(text)
    documents = open_documents(str(tmp_path / "texts"), tmp_path / "cache")
    corpus = build_corpus(documents, tokenizer, tmp_path / "corpora")
    assert tokenizer.decode(np.asarray(corpus.tokens).tolist()).strip() == expected, (
        "nor is white space lost between sentences"
    )
    assert corpus.counts["sentences"] == 3


def test_published_families_are_known_by_their_names(tmp_path: Path) -> None:
    def of(*tokens: str):
        tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["a", "Ġb", *tokens])}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.add_special_tokens(list(tokens))
        return vocabulary(tokenizer)

    gpt2 = of("<|endoftext|>")
    assert (gpt2.bos, gpt2.eos, gpt2.pad, gpt2.mask) == (2, 2, None, None)
    assert gpt2.starts_word.tolist() == [False, True, False]
    bart = of("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert (bart.bos, bart.cls, bart.pad, bart.eos, bart.sep, bart.mask) == (2, 2, 3, 4, 4, 6)
    llama = of("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>")
    assert (llama.bos, llama.eos, llama.pad) == (2, 3, 4)
    t5 = of("<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>")
    assert t5.sentinels == (6, 5) and (t5.pad, t5.eos) == (2, 3)


def test_bad_requests_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer of the kind 'bytes': there are"):
        train_tokenizer(TEXTS, kind="bytes", vocab_size=900, path=tmp_path / "t.json")
    for kind in KINDS:
        with pytest.raises(DataError, match="no text to train"):
            train_tokenizer([" "], kind=kind, vocab_size=900, path=tmp_path / "t.json")
        with pytest.raises(DataError, match="leaves no room"):
            train_tokenizer(["abc"], kind=kind, vocab_size=6, path=tmp_path / "t.json")


def test_words_of_a_million_letters_are_not_learned_from(trained, tmp_path: Path) -> None:
    """They would take minutes; what stands around them is learned as without them."""
    kind, path = trained
    word = "".join(np.random.default_rng(0).choice(list("acgt"), 1_000_000))
    texts = [*TEXTS[:-1], f"{word} {TEXTS[-1]} {word}."]
    train_tokenizer(texts, kind=kind, vocab_size=900, sentinels=7, path=tmp_path / "long.json")
    plain = [*TEXTS[:-1], f" {TEXTS[-1]} ."]
    train_tokenizer(plain, kind=kind, vocab_size=900, sentinels=7, path=tmp_path / "plain.json")
    assert (tmp_path / "long.json").read_bytes() == (tmp_path / "plain.json").read_bytes()
    assert load(path).encode(word).ids


def test_only_words_are_too_long() -> None:
    """Not a text without spaces, nor a word of as many letters as are learned from."""
    kept = ["a" * LONGEST_WORD, "子曰。" * LONGEST_WORD, f"b {'c' * LONGEST_WORD}!", "d/" * LONGEST_WORD]
    assert list(ShortWords(kept)) == kept
    assert list(ShortWords([f"b {'c' * (LONGEST_WORD + 1)}! d"])) == ["b ! d"]
