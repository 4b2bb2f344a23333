"""The corpus holds every token of every sentence, whole or not at all."""

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import sentencex
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from data import DataError
from data.text import corpus
from data.text.corpus import Corpus, build_corpus
from data.text.documents import Documents
from data.text.tokenizers import train_tokenizer, vocabulary


@pytest.fixture(scope="module")
def tokenizer(wikipedia: Documents, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(
        wikipedia.texts(range(8)),
        vocab_size=2000,
        path=tmp_path_factory.mktemp("tokenizer") / "tokenizer.json",
    )


def _documents(texts: list[str]) -> Documents:
    hashes = np.array([hash(text) % 2**64 for text in texts], np.uint64)
    return Documents([{"title": "", "text": text} for text in texts], "texts", hashes)


def _sentences(corpus: Corpus, document: int) -> list[list[int]]:
    begin, end = corpus.document_offsets[document : document + 2]
    bounds = corpus.sentence_offsets[begin : end + 1]
    return [corpus.tokens[a:b].tolist() for a, b in itertools.pairwise(bounds)]


def test_every_sentence_is_there_in_its_place(
    wikipedia: Documents, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BATCH", 10)
    built = build_corpus(wikipedia, tokenizer, tmp_path)
    assert built.counts["documents"] == len(wikipedia)
    for index in (0, 9, 10, 55, 96):
        expected = []
        for paragraph in wikipedia[index]["text"].split("\n"):
            for sentence in sentencex.segment("en", paragraph):
                ids = tokenizer.encode(sentence, add_special_tokens=False).ids
                expected += [ids[begin : begin + 128] for begin in range(0, len(ids), 128)]
        assert _sentences(built, index) == expected
    assert built.tokens.dtype == np.uint16 and built.sentence_offsets[-1] == len(built.tokens)


LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 splits a text, as published."""
TEXTS = [
    "The mill stands by the river. It is old. People walk there.\n\nIn summer the birds sing. The end.\n",
    "A first line.\r\n\r\nA second one,  with  spaces.\r\nDone?  Yes!\r\n",
    "  Ça va? Où êtes-vous… Straße ﬁn. 日本語の文章です。二番目の文。 🙂🙂 Émile — naïve.\n\n\nLast 👩‍👩‍👧 one.",
    "",
    "word " * 400 + "end.\nNext.",
]


def published_ways() -> dict[str, Tokenizer]:
    """Tokenizers that split texts in the ways of published ones, trained on `TEXTS`."""
    level, special = list(pre_tokenizers.ByteLevel.alphabet()), ["<unk>", "<s>", "</s>"]
    letters = sorted({*"".join(TEXTS), "▁"} - {" "})
    spaced = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama_3 = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ways = {
        "GPT-2": (None, pre_tokenizers.ByteLevel(add_prefix_space=False), level, None),
        "RoBERTa, offsets trimmed": (None, pre_tokenizers.ByteLevel(), level, processors.ByteLevel(trim_offsets=True)),
        "Llama 2": (spaced, None, letters, None),
        "Llama 2, Metaspace": (None, pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False), letters, None),
        "Llama 3": (None, llama_3, level, None),
        "T5": (normalizers.NFKC(), pre_tokenizers.Metaspace("▁", prepend_scheme="always"), letters, None),
    }
    made = {}
    for name, (normalizer, pre_tokenizer, alphabet, post_processor) in ways.items():
        made[name] = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        if pre_tokenizer is not None:
            made[name].pre_tokenizer = pre_tokenizer
        lines = " ".join(TEXTS).split(" ") if pre_tokenizer is None else TEXTS
        made[name].train_from_iterator(lines * 2, trainer)
        if normalizer is not None:
            made[name].normalizer = normalizer
        if post_processor is not None:
            made[name].post_processor = post_processor
    return made


@pytest.mark.parametrize("name", published_ways())
def test_a_document_has_the_tokens_that_the_tokenizer_gives_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published_ways()[name]
    built = build_corpus(_documents(TEXTS), made, tmp_path)
    for number, text in enumerate(TEXTS):
        encoding = made.encode(text.rstrip(), add_special_tokens=False)
        sentences = _sentences(built, number)
        assert list(itertools.chain.from_iterable(sentences)) == encoding.ids
        # A token belongs to the sentence that its first character stands in, a space to the sentence behind it.
        ends, place, owners = [], 0, []
        for paragraph in text.rstrip().split("\n"):
            for sentence in sentencex.segment("en", paragraph):
                place = text.index(sentence.strip(), place) + len(sentence.strip())
                ends.append(place)
        for begin, _ in encoding.offsets:
            owners.append(next((i for i, end in enumerate(ends) if begin < end), len(ends) - 1))
        expected = []
        for _, group in itertools.groupby(zip(owners, encoding.ids, strict=True), key=lambda pair: pair[0]):
            ids = [token for _, token in group]
            expected += [ids[begin : begin + 128] for begin in range(0, len(ids), 128)]
        assert sentences == expected
    monkeypatch.setattr(corpus, "CHARACTERS", 50)
    again = build_corpus(_documents(TEXTS), made, tmp_path / "in small pieces")
    for array in ("tokens", "sentence_offsets", "document_offsets"):
        np.testing.assert_array_equal(getattr(built, array), getattr(again, array))


def test_empty_documents_keep_their_place(tokenizer: Tokenizer, tmp_path: Path) -> None:
    built = build_corpus(_documents(["", "One. Two.\nThree.", " \n ", "Four."]), tokenizer, tmp_path)
    assert np.diff(built.document_offsets).tolist() == [0, 3, 0, 1]
    with pytest.raises(DataError, match="hold no token"):
        build_corpus(_documents(["", " "]), tokenizer, tmp_path)


def test_a_special_token_that_stands_in_a_text_is_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    built = build_corpus(_documents(["A [MASK] and a [SEP] stood [PAD] there."]), tokenizer, tmp_path)
    assert not set(built.tokens.tolist()) & (set(vocabulary(tokenizer).special_ids) - {vocabulary(tokenizer).unk})
    assert vocabulary(tokenizer).mask in built.tokenizer.encode("[MASK]").ids  # which the kept tokenizer still knows


def test_long_sentences_are_cut(tokenizer: Tokenizer, tmp_path: Path) -> None:
    built = build_corpus(_documents(["word " * 1000]), tokenizer, tmp_path)
    lengths = np.diff(built.sentence_offsets)
    assert lengths.max() == corpus.LONGEST_SENTENCE and lengths.sum() >= 1000 and (lengths > 0).all()


def test_it_is_built_once_and_anew_when_anything_changes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    class Counting(Documents):
        reads = 0

        def __getitem__(self, index: int) -> dict[str, str]:
            type(self).reads += 1
            return super().__getitem__(index)

    documents = Counting([{"text": "One. Two."}], "texts", np.array([1], np.uint64))
    first = build_corpus(documents, tokenizer, tmp_path)
    reads = Counting.reads
    assert reads and build_corpus(documents, tokenizer, tmp_path).folder == first.folder and Counting.reads == reads
    changed = Documents([{"text": "One. Two."}], "texts", np.array([2], np.uint64))
    other_tokenizer = train_tokenizer(["One two"] * 5, vocab_size=50, path=tmp_path / "t.json")
    others = [
        build_corpus(changed, tokenizer, tmp_path),
        build_corpus(documents, other_tokenizer, tmp_path),
        build_corpus(documents, tokenizer, tmp_path, language="de"),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_build_that_breaks_off_leaves_nothing(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BATCH", 2)
    texts = [f"Sentence {index}. Another one." for index in range(20)]

    class Breaking(Documents):
        def __getitem__(self, index: int) -> dict[str, str]:
            if index == 11:
                raise KeyboardInterrupt if self.name == "interrupt" else RuntimeError("the disk is gone")
            return super().__getitem__(index)

    whole = _documents(texts)
    for name in ("texts", "interrupt"):
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            build_corpus(Breaking(whole._items, name, whole.text_hashes), tokenizer, tmp_path / "one")
        assert [path for path in (tmp_path / "one").iterdir() if path.is_dir()] == []
    broken_off = build_corpus(whole, tokenizer, tmp_path / "one")
    clean = build_corpus(whole, tokenizer, tmp_path / "other")
    assert np.array_equal(broken_off.tokens, clean.tokens) and broken_off.counts == clean.counts


def test_a_damaged_corpus_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    built = build_corpus(_documents(["One. Two."]), tokenizer, tmp_path)
    tokens = (built.folder / "tokens").read_bytes()
    (built.folder / "tokens").write_bytes(tokens[:-2])
    with pytest.raises(DataError, match=r"is damaged.*delete the folder"):
        Corpus.open(built.folder)
    (built.folder / "corpus.json").unlink()
    with pytest.raises(DataError, match="holds no whole corpus"):
        Corpus.open(built.folder)


def test_a_worker_receives_a_path_rather_than_a_copy(
    wikipedia: Documents, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    built = build_corpus(wikipedia, tokenizer, tmp_path)
    assert len(pickle.dumps(built)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(built)).tokens, built.tokens)
    assert json.loads((built.folder / "corpus.json").read_text())["counts"] == built.counts


def test_tokens_have_places_where_they_are_asked_for(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Each place holds the token's text, in a document of any length, behind others, with white space around it."""
    texts = ["The river ran past the mill. It was old.", "  Élan vital!\nA second line", "word " * 300]
    built = build_corpus(_documents(texts), tokenizer, tmp_path, places=True)
    for number, text in enumerate(texts):
        begin, end = built.spans(np.array([number]))[:, 0]
        expected = tokenizer.encode(text.rstrip(), add_special_tokens=False)
        assert built.places[begin:end].tolist() == [list(place) for place in expected.offsets]
    alone = build_corpus(_documents(texts), tokenizer, tmp_path)
    assert alone.places is None and alone.fingerprint != built.fingerprint
    np.testing.assert_array_equal(alone.tokens, built.tokens)
    assert np.array_equal(pickle.loads(pickle.dumps(built)).places, built.places)
