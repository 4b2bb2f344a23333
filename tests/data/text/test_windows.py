"""Windows against an oracle written with lists of sentences, one example at a time."""

import dataclasses
import itertools
import json
import pickle
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError
from data.forms import TextForm
from data.order import shuffled_places
from data.text.corpus import Corpus
from data.text.templates import TEMPLATES
from data.text.tokenizers import SPECIAL_TOKENS, train_tokenizer
from data.text.windows import Windows

PAD, CLS, SEP = 0, 2, 3
Sentences = list[list[int]]


@pytest.fixture(scope="session", autouse=True)
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    train_tokenizer(["some words"] * 3, vocab_size=40, path=path)
    return path


def make_corpus(documents: list[Sentences], folder: Path, tokenizer_file: Path) -> Corpus:
    """The corpus that holds these documents, whose tokens are numbered so that none occurs twice."""
    sentences = list(itertools.chain.from_iterable(documents))
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    return Corpus(
        folder=folder,
        fingerprint="test",
        tokens=np.array(list(itertools.chain.from_iterable(sentences)), np.uint32),
        sentence_offsets=np.cumsum([0, *map(len, sentences)]),
        document_offsets=np.cumsum([0, *map(len, documents)]),
    )


def make_documents(lengths: list[list[int]]) -> list[Sentences]:
    numbers = itertools.count(len(SPECIAL_TOKENS))
    return [[[next(numbers) for _ in range(length)] for length in document] for document in lengths]


def random_lengths(seed: int, documents: int = 12, longest: int = 40) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randint(1, longest) for _ in range(draw.randint(0, 30))] for _ in range(documents)] + [[3, 4]]


def rebuilt(examples):
    """What a worker process makes of examples that are sent to it."""
    function, arguments = examples.__reduce__()
    return function(*arguments)


class Oracle:
    """The definition, in the slow and obvious way."""

    def __init__(self, documents: list[Sentences], document_ids: list[int], length: int, seed: int):
        self.documents = {index: documents[index] for index in sorted(document_ids) if documents[index]}
        self.length, self.seed = length, seed
        self.chunks = []  # (document, first sentence, sentence after the last)
        for document, sentences in self.documents.items():
            first, size = 0, 0
            for number, sentence in enumerate(sentences):
                if number > first and size + len(sentence) > length - 3:
                    self.chunks.append((document, first, number))
                    first, size = number, 0
                size += len(sentence)
            self.chunks.append((document, first, len(sentences)))

    def draw(self, index: int, word: int, below: int) -> int:
        key = np.random.SeedSequence(self.seed).generate_state(2, np.uint64)
        words = np.random.Philox(key=key, counter=[index, 0, 0, 0]).random_raw(4)
        return (int(words[word]) >> 32) * below >> 32

    def shuffled(self, epoch: int, place: int) -> int:
        """An eight-round Feistel cipher on 2·half bits, repeated until the number is one of a chunk."""
        keys = [int(key) for key in np.random.SeedSequence([self.seed, epoch]).generate_state(8, np.uint64)]
        half = next(bits for bits in itertools.count(1) if 4**bits >= len(self.chunks))
        while True:
            left, right = divmod(place, 2**half)
            for key in keys:
                mixed = (right + key) % 2**64
                mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
                mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
                left, right = right, left ^ (mixed ^ mixed >> 31) % 2**half
            place = left * 2**half + right
            if place < len(self.chunks):
                return place

    def window(self, document: int, first: int) -> tuple[list[int], list[int]]:
        tokens, numbers = [], []
        for number, sentence in enumerate(self.documents[document][first:]):
            tokens += sentence
            numbers += [number] * len(sentence)
        width = 2 * self.length
        return (tokens + [PAD] * width)[:width], (numbers + [-1] * width)[:width]

    def example(self, index: int, shuffled: bool = True) -> dict[str, list[int] | int]:
        epoch, place = divmod(index, len(self.chunks))
        if shuffled:
            place = self.shuffled(epoch, place)
        document, first, after = self.chunks[place]
        if shuffled and epoch > 0 and after < len(self.documents[document]):
            first += self.draw(index, 0, after - first)
        others = [other for other in self.documents if other != document] or [document]
        other = others[self.draw(index, 1, len(others))]
        other_first = self.draw(index, 2, len(self.documents[other]))
        tokens, numbers = self.window(document, first)
        other_tokens, other_numbers = self.window(other, other_first)
        text = [token for token, number in zip(tokens, numbers, strict=True) if number >= 0][: self.length - 2]
        rest = self.length - len(text) - 2
        return {
            "index": index,
            "input_ids": [CLS, *text, SEP, *[PAD] * rest],
            "attention_mask": [1] * (len(text) + 2) + [0] * rest,
            "token_type_ids": [0] * self.length,
            "special_tokens_mask": [1, *[0] * len(text), 1, *[1] * rest],
            "tokens": tokens,
            "sentence_ids": numbers,
            "other_tokens": other_tokens,
            "other_sentence_ids": other_numbers,
        }


def same(batch: dict[str, np.ndarray], expected: list[dict]) -> None:
    assert batch.keys() == expected[0].keys()
    for name, array in batch.items():
        assert array.tolist() == [example[name] for example in expected], name
        assert array.dtype == (np.uint32 if name == "index" else np.int32), name


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=1, max_size=6).filter(any),
    length=st.one_of(st.integers(8, 40), st.sampled_from([64, 128, 512])),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_batch_is_what_the_oracle_says(lengths, length, seed, data, tokenizer_file: Path) -> None:
    documents = make_documents(lengths)
    ids = data.draw(st.sets(st.sampled_from(range(len(lengths))), min_size=1))
    if not any(lengths[index] for index in ids):
        ids = set(range(len(lengths)))
    with tempfile.TemporaryDirectory() as folder:
        windows = Windows(
            make_corpus(documents, Path(folder), tokenizer_file), np.array(list(ids)), form=TextForm(length), seed=seed
        )
        oracle = Oracle(documents, list(ids), length, seed)
        assert len(windows) == len(oracle.chunks)
        indices = [7, 8, 9, *data.draw(st.lists(st.integers(0, 5 * len(windows)), max_size=8))]
        same(windows.batch(np.array(indices)), [oracle.example(index) for index in indices])
        same(
            windows.in_order().batch(np.arange(len(windows))),
            [oracle.example(index, shuffled=False) for index in range(len(windows))],
        )


@pytest.mark.parametrize("length", [8, 9, 33, 128, 512])
def test_a_longer_run_is_what_the_oracle_says(length: int, tmp_path: Path, tokenizer_file: Path) -> None:
    documents = make_documents(random_lengths(length))
    ids = [0, 2, 3, 5, 8, 9, 12]
    windows = Windows(make_corpus(documents, tmp_path, tokenizer_file), np.array(ids), form=TextForm(length), seed=3)
    oracle = Oracle(documents, ids, length, seed=3)
    indices = np.arange(3 * len(windows))
    expected = [oracle.example(index) for index in indices.tolist()]
    same(windows.batch(indices), expected)
    same({name: array[None] for name, array in windows[len(windows) + 1].items()}, [expected[len(windows) + 1]])
    order = np.random.default_rng(0).permutation(len(indices))
    same(windows.batch(order), [expected[index] for index in order])
    same(pickle.loads(pickle.dumps(_saved(windows))).batch(indices[:5]), expected[:5])


def _saved(windows: Windows) -> Windows:
    """The same windows, their corpus written to disk so that it can be opened by another process."""
    corpus = windows.corpus
    names = ("tokens", "sentence_offsets", "document_offsets")
    for name in names:
        getattr(corpus, name).tofile(corpus.folder / name)
    about = {
        "fingerprint": "test",
        "counts": corpus.counts,
        "dtypes": {n: getattr(corpus, n).dtype.str for n in names},
    }
    (corpus.folder / "corpus.json").write_text(json.dumps(about))
    return windows


@pytest.mark.parametrize(
    ("single", "pair"),
    [
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
        ("$A [SEP]", "$A [SEP] $B [SEP]"),
        ("$A [SEP] [MASK]", "$A $B [SEP] [MASK]"),
        ("[MASK] [CLS] $A", "[CLS] $A $B"),
        ("$A", "$A $B"),
    ],
)
def test_a_text_stands_in_the_frame_of_its_tokenizer(single: str, pair: str, tmp_path: Path) -> None:
    template = dataclasses.replace(TEMPLATES["bert"], single=single, pair=pair)
    train_tokenizer(["some words"] * 3, vocab_size=40, template=template, path=tmp_path / "framed.json")
    documents = make_documents(random_lengths(2))
    corpus = make_corpus(documents, tmp_path, tmp_path / "framed.json")
    windows, framing, length = (
        Windows(corpus, np.arange(13), form=TextForm(24)).in_order(),
        template.framing,
        24,
    )
    batch = windows.batch(np.arange(len(windows)))
    for row in range(len(windows)):
        text = batch["tokens"][row][batch["sentence_ids"][row] >= 0].tolist()
        ids = framing.text(text, longest=length)
        special = [int(token < len(SPECIAL_TOKENS)) for token in ids]
        padding = length - len(ids)
        assert batch["input_ids"][row].tolist() == ids + [PAD] * padding
        assert batch["attention_mask"][row].tolist() == [1] * len(ids) + [0] * padding
        assert batch["special_tokens_mask"][row].tolist() == special + [1] * padding


@pytest.mark.parametrize("length", [8, 33, 128])
def test_an_epoch_visits_each_chunk_once_and_every_token(length: int, tmp_path: Path, tokenizer_file: Path) -> None:
    documents = make_documents(random_lengths(1))
    windows = Windows(make_corpus(documents, tmp_path, tokenizer_file), np.arange(13), form=TextForm(length))
    orders = []
    chunk_of = {}
    for number, (document, first, after) in enumerate(Oracle(documents, list(range(13)), length, 0).chunks):
        chunk_of |= {documents[document][sentence][0]: number for sentence in range(first, after)}
    for epoch in range(4):
        batch = windows.batch(np.arange(epoch * len(windows), (epoch + 1) * len(windows)))
        orders.append([chunk_of[token] for token in batch["tokens"][:, 0].tolist()])
        assert sorted(orders[-1]) == list(range(len(windows)))
        if epoch == 0:
            seen = set(batch["input_ids"].ravel().tolist())
            fitting = [s for sentences in documents for s in sentences if len(s) <= length - 2]
            assert all(token in seen for sentence in fitting for token in sentence)
    assert len({tuple(order) for order in orders}) == 4


def test_later_epochs_begin_elsewhere_but_never_in_the_middle_of_a_sentence(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    documents = make_documents([[5] * 400, [7] * 400])
    windows = Windows(make_corpus(documents, tmp_path, tokenizer_file), np.arange(2), form=TextForm(64))
    heads = {sentence[0] for document in documents for sentence in document}
    starts = [
        set(windows.batch(np.arange(epoch * len(windows), (epoch + 1) * len(windows)))["tokens"][:, 0].tolist())
        for epoch in range(3)
    ]
    assert all(start <= heads for start in starts)
    assert all(len(a & b) < len(a) / 2 for a, b in itertools.combinations(starts, 2))
    assert all({documents[0][-4][0], documents[1][-8][0]} <= start for start in starts), "last chunks stay"


def test_other_text_is_drawn_uniformly_from_the_other_documents(tmp_path: Path, tokenizer_file: Path) -> None:
    documents = make_documents([[3] * 5] * 5)
    ids = [0, 1, 2, 4]
    windows = Windows(make_corpus(documents, tmp_path, tokenizer_file), np.array(ids), form=TextForm(16))
    batch = windows.batch(np.arange(6000))
    owner = {token: d for d, document in enumerate(documents) for sentence in document for token in sentence}
    sentence_of = {s[0]: number for document in documents for number, s in enumerate(document)}
    pairs = np.zeros((5, 5))
    sentences = np.zeros(5)
    for token, other in zip(batch["tokens"][:, 0].tolist(), batch["other_tokens"][:, 0].tolist(), strict=True):
        pairs[owner[token], owner[other]] += 1
        sentences[sentence_of[other]] += 1
    assert (np.diag(pairs) == 0).all() and pairs[3].sum() == pairs[:, 3].sum() == 0
    expected = 6000 / 12
    assert (np.abs(pairs[pairs > 0] - expected) < 5 * expected**0.5).all() and (pairs > 0).sum() == 12
    assert (np.abs(sentences - 1200) < 5 * 1200**0.5).all()


@pytest.mark.parametrize("size", [5, 16, 17, 100])
def test_the_order_of_an_epoch_is_any_order(size: int) -> None:
    """Over many epochs each chunk comes at each place equally often (chi-squared per degree of freedom)."""
    epochs = 3000
    counts = np.zeros((size, size))
    for epoch in range(epochs):
        order = shuffled_places(0, np.full(size, epoch), np.arange(size), size)
        assert sorted(order.tolist()) == list(range(size))
        counts[np.arange(size), order] += 1
    expected = epochs / size
    assert ((counts - expected) ** 2 / expected).sum() / (size - 1) ** 2 < 1.3


def test_the_seed_alone_decides(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents(random_lengths(5)), tmp_path, tokenizer_file)
    one, again, other = (
        Windows(corpus, np.arange(13), form=TextForm(32), seed=seed).batch(np.arange(50)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["tokens"], other["tokens"])


def test_the_stream_is_what_it_was(tmp_path: Path, tokenizer_file: Path) -> None:
    """Seeds name runs that others repeat; another stream is another run."""
    documents = make_documents([[4] * 20] * 6)
    windows = Windows(make_corpus(documents, tmp_path, tokenizer_file), np.arange(6), form=TextForm(16), seed=17)
    batch = windows.batch(np.array([0, 1, 2, 100, 101, 2**33]))
    changed = "the stream of examples has changed: runs published with this code cannot be repeated"
    assert batch["tokens"][:, 0].tolist() == [349, 465, 237, 369, 325, 237], changed
    assert batch["other_tokens"][:, 0].tolist() == [285, 97, 369, 145, 169, 425], changed


def test_there_is_nothing_beyond_either_end(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents(random_lengths(5)), tmp_path, tokenizer_file)
    windows = Windows(corpus, np.arange(13), form=TextForm(16))
    with pytest.raises(IndexError):
        windows.in_order()[len(windows)]
    with pytest.raises(IndexError):
        windows[-1]


def test_chunks_are_kept_beside_the_corpus(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents(random_lengths(5)), tmp_path, tokenizer_file)
    first = Windows(corpus, np.arange(13), form=TextForm(16))
    kept = (tmp_path / "chunks-16.npy").stat().st_mtime_ns
    assert len(Windows(corpus, np.arange(13), form=TextForm(16))) == len(first)
    assert (tmp_path / "chunks-16.npy").stat().st_mtime_ns == kept
    assert len(Windows(corpus, np.arange(13), form=TextForm(32))) < len(first)


def test_windows_that_cannot_be_are_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    corpus = make_corpus(make_documents([[], [3], []]), tmp_path, tokenizer_file)
    with pytest.raises(DataError, match="at least 8"):
        Windows(corpus, np.arange(3), form=TextForm(7))
    with pytest.raises(DataError, match="hold no sentence"):
        Windows(corpus, np.array([0, 2]), form=TextForm(8))
    with pytest.raises(DataError, match="hold no sentence"):
        Windows(corpus, np.array([], int), form=TextForm(8))
    with pytest.raises(DataError, match="seed=-1"):
        Windows(corpus, np.arange(3), form=TextForm(8), seed=-1)


TEXT = ("tokens", "sentence_ids")


def test_the_raw_text_alone(tmp_path: Path, tokenizer_file: Path) -> None:
    """For an objective that makes its own inputs: the same text as in the whole example, as long as it asks for."""
    corpus = make_corpus(make_documents(random_lengths(9)), tmp_path, tokenizer_file)
    whole, raw = (
        Windows(corpus, np.arange(13), form=TextForm(16), seed=4),
        Windows(corpus, np.arange(13), form=TextForm(16, raw=14, reads=TEXT), seed=4),
    )
    places = np.arange(3 * len(whole))
    one, other = whole.batch(places), rebuilt(raw).batch(places)
    assert sorted(other) == ["index", "sentence_ids", "tokens"]
    for name in other:
        np.testing.assert_array_equal(other[name], one[name] if name == "index" else one[name][:, :14])
    with pytest.raises(DataError, match="have no text of 33"):
        Windows(corpus, np.arange(13), form=TextForm(16, raw=33, reads=TEXT))
