"""Mixtures: the source of an example is a function of (seed, i), each source has its share and is gone through whole."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.forms import TextForm
from data.loader import load
from data.mixture import BLOCK, MixedExamples, Mixture
from data.text.labelled import LabelledText
from models.bert import BertConfig
from tests.data.test_ragged import Sounds
from tests.data.text.test_labelled import silent, texts, write_folder

FORM = TextForm(24, reads=("labels",))


def numbers(count: int) -> Sounds:
    """Examples that tell their number."""
    return Sounds(form=TextForm(4), seed=0, lengths=np.full(count, 3))


def mixed(shares: list[float], seed: int = 0) -> MixedExamples:
    parts = tuple(numbers(count) for count in (7, 100, 31)[: len(shares)])
    return MixedExamples(form=TextForm(4), seed=seed, parts=parts, shares=np.array(shares))


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.7, 0.2, 0.1], [0.001, 0.333, 0.666], [1.0]])
def test_each_source_has_its_share_and_each_place_of_its_stream_is_shown_once(shares: list[float]) -> None:
    sources, places = mixed(shares).places(np.arange(5 * BLOCK))
    for number, share in enumerate(shares):
        mine = places[sources == number]
        assert sorted(mine) == list(range(len(mine))) and abs(len(mine) - 5 * BLOCK * share) <= 1
    first = np.bincount(sources[:500], minlength=len(shares)) / 500
    assert np.abs(first - shares).max() < 0.08  # mixed, and not one behind another
    for cut in (1, 999, BLOCK, BLOCK + 1):  # a function of the place, whatever else is asked
        again = mixed(shares).places(np.arange(cut, cut + 50))
        assert all(
            np.array_equal(one, all_[cut : cut + 50]) for one, all_ in zip(again, (sources, places), strict=True)
        )
    if len(shares) > 1:
        assert not np.array_equal(mixed(shares, seed=1).places(np.arange(BLOCK))[0], sources[:BLOCK])


def test_examples_are_those_of_their_source() -> None:
    examples = mixed([0.7, 0.2, 0.1])
    indices = np.arange(3_000, 3_064)
    batch = pickle.loads(pickle.dumps(examples)).batch(indices)
    sources, places = examples.places(indices)
    assert np.array_equal(batch["index"], indices) and batch["input_values"].dtype == np.int32
    for row, (source, place) in enumerate(zip(sources, places, strict=True)):
        one = examples.parts[source][int(place)]
        assert all(np.array_equal(batch[name][row], one[name]) for name in one if name != "index")


def test_processes_share_the_batches_of_one() -> None:
    settings = dict(batch_size=8, first_step=510, last_step=516)  # over the end of a block
    whole = list(load(mixed([0.7, 0.3]), **settings))
    shares = [list(load(mixed([0.7, 0.3]), shard=(process, 4), **settings)) for process in range(4)]
    for step, batch in enumerate(whole):
        for name, array in batch.items():
            assert np.array_equal(np.concatenate([share[step][name] for share in shares], axis=1), array)


def test_in_order_each_item_is_there_once() -> None:
    examples = mixed([0.7, 0.2, 0.1]).in_order()
    batch = examples.batch(np.arange(138))
    assert batch["input_values"][:, 0].tolist() == [*range(7), *range(100), *range(31)]
    with pytest.raises(IndexError):
        examples.batch(np.array([138]))


@pytest.fixture
def mixture(tmp_path: Path) -> Mixture:
    write_folder(tmp_path / "a", texts(40))
    write_folder(tmp_path / "b", texts(30, seed=1))
    one = LabelledText(source=str(tmp_path / "a"), vocab_size=300, held_out=0.25, cache=str(tmp_path / "cache"))
    other = dataclasses.replace(one, source=str(tmp_path / "b"))
    return Mixture(sources=(one, other), weights=(3, 1), cache=str(tmp_path / "cache"))


def test_sources_are_prepared_with_the_tokens_of_the_first(mixture: Mixture) -> None:
    prepared = mixture.prepare(400, Path(), silent)
    one, other = prepared.parts
    assert prepared.counts == tuple(map(sum, zip(one.counts, other.counts, strict=True))) and sum(prepared.counts) == 70
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    config = prepared.adapt(BertConfig(vocab_size=400))
    assert config.labels == ("ham", "spam") and config.pad_token_id == prepared.vocabulary.pad
    held_out = prepared.held_out(FORM)
    read = {prepared.tokenizer.decode(ids.tolist()) for ids in held_out.batch(np.arange(len(held_out)))["input_ids"]}
    assert read < {text for text, _ in (*texts(40), *texts(30, seed=1))} and len(read) == prepared.counts[1]
    assert prepared.all_held_out().counts == (0, 70)
    assert mixture.elsewhere("c") == dataclasses.replace(mixture.sources[0], source="c")
    blank = mixture.outline(400).training(FORM, 0)[0]
    real = prepared.training(FORM, 0)[0]
    assert {n: (x.shape, x.dtype) for n, x in blank.items()} == {n: (x.shape, x.dtype) for n, x in real.items()}


def test_weights_and_sides_are_part_of_the_fingerprint(mixture: Mixture) -> None:
    def fingerprint(weights: tuple[float, ...]) -> str:
        return dataclasses.replace(mixture, weights=weights).prepare(400, Path(), silent).fingerprint

    assert fingerprint((3, 1)) == fingerprint((0.75, 0.25)) != fingerprint((1, 1))


def test_what_cannot_be_mixed_is_a_sentence(mixture: Mixture, tmp_path: Path) -> None:
    for weights in ((1,), (1, 0), (1, -1), (1, 1e-9)):
        with pytest.raises(DataError, match="weights="):
            dataclasses.replace(mixture, weights=weights)
    (tmp_path / "b/ham").rename(tmp_path / "b/wanted")
    with pytest.raises(DataError, match="its classes are not those of"):
        mixture.prepare(400, Path(), silent)
    with pytest.raises(DataError, match="set buckets to 1"):
        MixedExamples(form=TextForm(8, buckets=2), parts=(numbers(3),), shares=np.ones(1))
