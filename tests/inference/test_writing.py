"""What the pipelines that write draw, how long they write, and what they say of a folder's settings."""

import dataclasses
import json
import logging
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from data.text import tokenizers
from data.text.framing import Framing
from data.text.tokenizers import train_tokenizer
from inference.generation import GenerationConfig
from inference.pipeline import pipeline
from inference.writing import Writing
from models import gpt2, hub
from models.config import ModelError

CONFIG = gpt2.GPT2Config(
    vocab_size=90, n_positions=40, n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3, initializer_range=0.5
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("writing")
    train_tokenizer(["the cat sat on the mat and looked at the dog"] * 9, vocab_size=90, path=path / "tokenizer.json")
    model = gpt2.GPT2LMHeadModel(CONFIG)
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    hub.save(path / "model", model, variables, tokenizer=path / "tokenizer.json")
    return path / "model"


def test_every_text_of_a_list_draws_others(folder, monkeypatch):
    """Though the model sees few at a time; and a text draws the same however long the list is."""
    monkeypatch.setattr(Writing, "block", 4)
    ask = pipeline("text-generation", folder)
    settings = dict(do_sample=True, temperature=5.0, max_new_tokens=8, eos_token_id=(), seed=3)
    drawn = [answer[0]["generated_text"] for answer in ask(["the cat"] * 10, **settings)]
    assert len(set(drawn)) == 10
    assert [answer[0]["generated_text"] for answer in ask(["the cat"] * 5, **settings)] == drawn[:5]
    monkeypatch.setattr(Writing, "block", 32)
    assert [answer[0]["generated_text"] for answer in ask(["the cat"] * 10, **settings)] == drawn
    for one, (answer, *_) in zip(drawn, ask(["the cat"] * 2, num_return_sequences=3, **settings), strict=False):
        assert answer["generated_text"] == one


def test_a_published_length_counts_the_prompt(folder, tmp_path):
    """Of each text its own, however it is padded, and no longer than the model has room for."""
    path = shutil.copytree(folder, tmp_path / "model")
    texts = ["the cat sat on the mat", "the"]
    alone = pipeline("text-generation", folder)
    tokenizer = tokenizers.load(path)
    tokens = [len(Framing.of(tokenizer).prompt(tokenizer.encode(text, add_special_tokens=False).ids)) for text in texts]
    (path / "generation_config.json").write_text(json.dumps({"max_length": 12, "eos_token_id": [88, 89]}))
    expected = [
        alone(text, max_new_tokens=12 - count, eos_token_id=(88, 89)) for text, count in zip(texts, tokens, strict=True)
    ]
    assert pipeline("text-generation", path)(texts) == expected
    beams = [
        alone(text, max_new_tokens=12 - count, eos_token_id=(88, 89), num_beams=2)
        for text, count in zip(texts, tokens, strict=True)
    ]
    assert pipeline("text-generation", path)(texts, num_beams=2) == beams
    with pytest.raises(ModelError, match="leaves nothing to write with max_length=2, which counts it"):
        pipeline("text-generation", path)(texts, max_length=2)


@pytest.mark.parametrize(
    ("settings", "prompt", "room", "new"),
    [
        ({}, 5, None, 20),
        ({}, 5, 12, 7),
        ({"max_length": 9}, 5, None, 4),
        ({"max_length": 4096}, 5, 12, 7),
        ({"max_length": 9, "max_new_tokens": 6}, 5, None, 6),
    ],
)
def test_how_many_tokens_follow(settings, prompt, room, new):
    assert GenerationConfig(**settings).new_tokens(prompt, room) == new


def test_a_length_of_the_caller_goes_before_the_published_ones():
    published = {"max_new_tokens": 50, "min_length": 9, "max_length": 30}
    assert GenerationConfig.from_json(published, max_length=7).new_tokens(3, None) == 4
    assert GenerationConfig.from_json(published, min_new_tokens=2).min_length == 0
    assert GenerationConfig.from_json(published).new_tokens(3, None) == 50


def test_what_is_not_obeyed_is_named_once(folder, tmp_path, caplog):
    path = shutil.copytree(folder, tmp_path / "model")
    unheeded = {"guidance_scale": 3.0, "penalty_alpha": 0.6, "a_new_one": 1, "num_beam_groups": 1, "use_cache": False}
    (path / "generation_config.json").write_text(json.dumps(unheeded | {"stop_strings": None}))
    with caplog.at_level(logging.WARNING, "lacuna"):
        ask = pipeline("text-generation", path)
        ask("the cat", max_new_tokens=2)
        ask("the cat", max_new_tokens=2)
    (record,) = caplog.records
    assert "generation_config.json: not implemented here, so that answers may differ:" in record.getMessage()
    assert record.getMessage().endswith("guidance_scale=3.0, penalty_alpha=0.6, a_new_one=1")
    (path / "generation_config.json").unlink()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "diversity_penalty": 0.5, "num_beam_groups": 2}))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "lacuna"):
        pipeline("text-generation", path)("the cat", max_new_tokens=2)
    (record,) = caplog.records
    assert "config.json: not implemented here" in record.getMessage()
    assert "diversity_penalty=0.5" in record.getMessage() and "num_beam_groups=2" in record.getMessage()
    with pytest.raises(ModelError, match="guidance_scale is not implemented here"):
        pipeline("text-generation", folder)("the cat", guidance_scale=2.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: expected a number above 0"),
        ({"sequence_bias": [[[3]]]}, "expected pairs of token ids and a number"),
        ({"sequence_bias": [[[90], 1.0]]}, "sequence_bias names token 90, and the model has 90: 0 to 89"),
        ({"bad_words_ids": [[]]}, "expected lists of token ids"),
        ({"bad_words_ids": [[5, 91]]}, "bad_words_ids names token 91"),
        ({"forced_eos_token_id": 90}, "forced_eos_token_id names token 90"),
        ({"exponential_decay_length_penalty": [3]}, "expected a number of tokens and a factor"),
        ({"suppress_tokens": ["a"]}, "suppress_tokens=.*: expected token ids"),
        ({"top_k": -1, "do_sample": True}, "top_k=-1: expected a whole number of at least 0"),
        ({"min_p": 1.5, "do_sample": True}, "min_p=1.5: expected a probability"),
    ],
)
def test_rules_that_cannot_be(settings, message, folder):
    with pytest.raises(ModelError, match=message):
        pipeline("text-generation", folder)("the cat", **settings)


def test_prompts_that_are_empty(folder, tmp_path):
    """What begins a text is gone on with; a model that names nothing of the kind says so."""
    assert pipeline("text-generation", folder)("", max_new_tokens=3)
    path = shutil.copytree(folder, tmp_path / "model")
    (path / "config.json").write_text(
        json.dumps(dataclasses.replace(CONFIG, bos_token_id=None).to_json() | {"architectures": ["GPT2LMHeadModel"]})
    )
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    with pytest.raises(ModelError, match="a prompt is empty"):
        pipeline("text-generation", path)(["the cat", ""])
