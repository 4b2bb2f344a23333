"""Ids of special tokens: a config's are a trained tokenizer's, and two that do not go together are told apart by name."""

import dataclasses
from pathlib import Path

import pytest

from data import DataError
from data.text.templates import TEMPLATES, template
from data.text.token_ids import check_token_ids, disagreements, with_token_ids
from data.text.tokenizers import KINDS, train_tokenizer, vocabulary
from tests.data.text.test_tokenizer_kinds import TEXTS


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 600
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | None = 2


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    path = tmp_path_factory.mktemp("bart") / "tokenizer.json"
    return vocabulary(train_tokenizer(TEXTS[:9], kind="byte_bpe", vocab_size=500, path=path))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    frame = TEMPLATES["gpt2"]
    return vocabulary(train_tokenizer(TEXTS[:9], kind="byte_bpe", template=frame, vocab_size=500, path=path))


def test_a_config_takes_the_ids_of_the_tokenizer_that_is_trained_for_it(bart, gpt2) -> None:
    published = Config(600, None, 50_256, 50_256, None, None)
    taken = with_token_ids(published, gpt2)
    assert (taken.bos_token_id, taken.eos_token_id, taken.pad_token_id) == (0, 0, None)
    assert with_token_ids(Config(pad_token_id=599, eos_token_id=(7, 8)), bart, start=bart.eos) == Config()
    wrapping = with_token_ids(Config(decoder_start_token_id=None), bart, start=bart.eos)
    assert wrapping.decoder_start_token_id is None, "a decoder that begins with what the text ends with stays so"
    assert with_token_ids(Config(), gpt2).pad_token_id is None, "what the tokenizer has not is no id of a word"


def test_those_that_go_together_are_let_through(bart, gpt2) -> None:
    check_token_ids(Config(), bart, start=bart.eos)
    check_token_ids(Config(eos_token_id=(17, 2)), bart)
    check_token_ids(Config(pad_token_id=None, bos_token_id=None), bart)
    check_token_ids(Config(600, None, 0, 0, None, None), gpt2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocab_size": 300}, r"has 500 tokens and the model's vocab_size is 300: set --model.vocab-size 500"),
        (
            {"eos_token_id": 50_256},
            r"eos_token_id=50256 of the model is beyond its vocab_size=600: set --model.eos-token-id",
        ),
        (
            {"eos_token_id": 0},
            r"eos_token_id is 0 \('<s>'\) for the model and 2 \('</s>'\) for the tokenizer: set --model.eos",
        ),
        ({"pad_token_id": 550}, r"pad_token_id is 550 \(no token\) for the model and 1 \('<pad>'\)"),
        ({"bos_token_id": 2}, r"bos_token_id is 2 \('</s>'\) for the model and 0 \('<s>'\) for the tokenizer"),
        (
            {"decoder_start_token_id": 1},
            r"decoder_start_token_id is 1 \('<pad>'\) for the model and 2 \('</s>'\) for the obj",
        ),
        ({"forced_eos_token_id": 3}, r"forced_eos_token_id is 3 \('<unk>'\) for the model and 2"),
    ],
)
def test_those_that_do_not_are_refused_with_both_values(bart, changes, sentence) -> None:
    config = dataclasses.replace(Config(), **changes)
    with pytest.raises(DataError, match=sentence):
        check_token_ids(config, bart, start=bart.eos)
    assert len(list(disagreements(config, bart, bart.eos))) == 1


def test_a_decoder_that_takes_its_begin_from_the_text_is_trained_so(bart) -> None:
    with pytest.raises(DataError, match=r"begin with 1 \('<pad>'\).*set --objective.start last"):
        check_token_ids(Config(decoder_start_token_id=None), bart, start=bart.pad)
    check_token_ids(Config(decoder_start_token_id=None), bart, start=bart.eos)


def test_the_settings_beside_a_tokenizer_name_its_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS[:9], kind="byte_bpe", vocab_size=500, path=tmp_path / "tokenizer.json")
    said = vocabulary(tokenizer, {"eos": "<unk>", "pad": "</s>", "mask": "no such token"})
    assert (said.eos, said.pad, said.bos, said.mask) == (3, 2, 0, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_kind_of_tokenizer_is_framed_as_every_architecture(kind: str, name: str, tmp_path: Path) -> None:
    frame = template(name)
    tokenizer = train_tokenizer(TEXTS[:2], kind=kind, vocab_size=500, template=frame, path=tmp_path / "t.json")
    written = vocabulary(tokenizer)
    assert written.framing == frame.framing, "what is read off the tokenizer is what was asked for"
    assert written.tokens[: len(frame.tokens)] == frame.tokens
    assert tokenizer.decode(tokenizer.encode("the value of").ids).strip() == "the value of"


def test_a_mask_stands_for_a_word_with_its_space(tmp_path: Path) -> None:
    """As `<mask>` of BART's and mBART's published tokenizers does, and with it a text as infilling leaves it."""
    for kind in ("byte_bpe", "unigram"):
        path = tmp_path / f"{kind}.json"
        tokenizer = train_tokenizer(TEXTS[:9], kind=kind, vocab_size=600, sentinels=2, path=path)
        whole = tokenizer.encode("the value of the name", add_special_tokens=False)
        place = next(i for i, (begin, _) in enumerate(whole.offsets) if begin >= 9)  # " of", the space included
        assert whole.tokens[place].endswith("of")
        for hidden in ("<mask>", "<extra_id_0>", "<extra_id_1>"):
            expected = [*whole.ids[:place], tokenizer.token_to_id(hidden), *whole.ids[place + 1 :]]
            for text in (f"the value {hidden} the name", f"the value{hidden} the name"):
                assert tokenizer.encode(text, add_special_tokens=False).ids == expected, (kind, text)


def test_what_an_objective_needs_is_added(tmp_path: Path) -> None:
    frame = TEMPLATES["gpt2"].having(("pad", "eos", "mask", "unk", "sentinels"))
    assert frame.tokens == ("<|endoftext|>", "<mask>", "<pad>", "<unk>")
    with pytest.raises(DataError, match="no template 'gpt-2'"):
        template("gpt-2")
    assert template("mbart", "de").single == "$A </s> de_DE"
    with pytest.raises(DataError, match="no token for the language 'sw'"):
        template("mbart", "sw")
