"""Generation held against a slow search of its own, and what it refuses."""

import dataclasses
import functools
import itertools
import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from data.text.tokenizers import train_tokenizer
from inference.generation import GenerationConfig, generate
from inference.generation.layers import cut_cache
from inference.generation.program import take_rows
from inference.generation.rules import warped
from inference.pipeline import pipeline
from models import gpt2, hub, llama
from models.config import ModelError

SIZES = dict(vocab_size=7, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = gpt2.GPT2LMHeadModel(
    gpt2.GPT2Config(**SIZES, n_positions=20, n_embd=16, n_layer=2, n_head=2, initializer_range=1.0)
)
LLAMA = llama.LlamaForCausalLM(
    llama.LlamaConfig(
        **SIZES,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=20,
        initializer_range=1.0,
    )
)
MODELS = {"gpt2": GPT2, "llama": LLAMA}
PROMPTS = np.array([[3, 4, 5, 6], [0, 0, 3, 6], [0, 5, 5, 4]])
MASK = (PROMPTS > 0).astype(np.int32)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(1), jnp.zeros((1, 2), jnp.int32)))


@functools.cache
def probabilities(model: nn.Module, text: tuple[int, ...]) -> np.ndarray:
    """Log probabilities of the token after a text, which is read whole and without padding."""
    logits = applied(model)(variables_of(model), jnp.array([text])).logits[0, -1]
    return np.asarray(jax.nn.log_softmax(logits), np.float64)


@functools.cache
def applied(model: nn.Module):
    return jax.jit(model.apply)


def prompt(row: int) -> tuple[int, ...]:
    return tuple(int(token) for token in PROMPTS[row][MASK[row] > 0])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_enough_beams_find_the_likeliest_text_of_all(model):
    """Of all 7³ texts of three tokens without an end, each scored alone; with as many beams nothing is cut off."""
    settings = GenerationConfig(
        max_new_tokens=3, num_beams=49, num_return_sequences=5, eos_token_id=(), length_penalty=0.0
    )
    found = generate(model, variables_of(model), PROMPTS, MASK, settings)
    for row in range(len(PROMPTS)):
        scores = {}
        for first, second in itertools.product(range(7), repeat=2):
            text = prompt(row)
            score = probabilities(model, text)[first] + probabilities(model, (*text, first))[second]
            for third, last in enumerate(probabilities(model, (*text, first, second))):
                scores[first, second, third] = score + last
        best = sorted(scores, key=scores.get, reverse=True)[:5]
        ours = np.asarray(found.sequences)[5 * row : 5 * row + 5, PROMPTS.shape[1] :]
        assert [tuple(text) for text in ours.tolist()] == best
        np.testing.assert_allclose(found.scores[5 * row : 5 * row + 5], [scores[text] for text in best], atol=1e-4)


DRAWN = [dict(temperature=1.5, top_k=5), dict(temperature=2.0, top_k=0, top_p=0.9), dict(temperature=3.0, min_p=0.1)]
DRAWS = 4_000


@pytest.mark.parametrize("drawn", DRAWN, ids=str)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_drawn_tokens_are_as_frequent_as_they_are_likely(model, drawn):
    """Pairs of tokens against the probabilities of what is left to draw from, each text read alone."""
    settings = GenerationConfig(max_new_tokens=2, do_sample=True, num_return_sequences=DRAWS, eos_token_id=(), **drawn)
    found = generate(model, variables_of(model), PROMPTS[:2], MASK[:2], settings, key=jax.random.key(0))
    for row in range(2):
        texts = np.asarray(found.sequences)[DRAWS * row : DRAWS * row + DRAWS, PROMPTS.shape[1] :]
        expected = np.zeros((7, 7))

        def shares(text):
            return np.asarray(
                jax.nn.softmax(warped(jnp.asarray(probabilities(model, text), jnp.float32)[None], settings)[0])
            )

        for first, share in enumerate(shares(prompt(row))):
            expected[first] = share * shares((*prompt(row), first)) if share else 0
        seen = np.zeros((7, 7))
        np.add.at(seen, (texts[:, 0], texts[:, 1]), 1)
        assert not seen[expected == 0].any()
        often = expected * DRAWS >= 5
        counts = [*seen[often], seen[~often].sum()]
        wanted = [*(expected[often] * DRAWS), expected[~often].sum() * DRAWS]
        counts, wanted = zip(*[pair for pair in zip(counts, wanted, strict=True) if pair[1] > 0], strict=True)
        assert len(counts) > 1
        assert chisquare(counts, np.array(wanted) / sum(wanted) * DRAWS).pvalue > 1e-4


def test_beams_of_drawn_tokens_are_as_frequent_as_they_are_likely():
    """The best of four candidates drawn one after the other without putting back, by the probabilities of all such draws."""
    settings = GenerationConfig(
        max_new_tokens=1, do_sample=True, num_beams=2, eos_token_id=(), temperature=30.0, top_k=6
    )
    rows = np.repeat(PROMPTS[:1], DRAWS, axis=0), np.repeat(MASK[:1], DRAWS, axis=0)
    found = np.asarray(generate(GPT2, variables_of(GPT2), *rows, settings, key=jax.random.key(0)).sequences)[:, -1]
    logits = warped(jnp.asarray(probabilities(GPT2, prompt(0)), jnp.float32)[None], settings)[0]
    shares, expected = np.asarray(jax.nn.softmax(logits), np.float64), np.zeros(7)
    for drawn in itertools.permutations(np.flatnonzero(shares), 4):
        left = 1 - np.cumsum([0, *shares[list(drawn[:-1])]])
        expected[max(drawn, key=lambda token: shares[token])] += np.prod(shares[list(drawn)] / left)
    assert expected.sum() == pytest.approx(1, abs=1e-4) and (expected > 0.01).sum() > 1
    expected /= expected.sum()
    seen, likely = np.bincount(found, minlength=7), expected > 0
    assert not seen[~likely].any() and chisquare(seen[likely], expected[likely] * DRAWS).pvalue > 1e-4


def test_a_text_draws_the_same_whatever_is_beside_it():
    settings = GenerationConfig(max_new_tokens=8, do_sample=True, eos_token_id=())
    draw = functools.partial(generate, GPT2, variables_of(GPT2), settings=settings)
    together = draw(PROMPTS, MASK, key=jax.random.key(5)).sequences
    alone = draw(PROMPTS[:1], MASK[:1], key=jax.random.key(5)).sequences
    np.testing.assert_array_equal(alone[0], together[0])
    assert not np.array_equal(draw(PROMPTS, MASK, key=jax.random.key(6)).sequences, together)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_padding_changes_nothing_on_whichever_side_and_however_much(model, settings):
    settings = GenerationConfig(max_new_tokens=6, **settings)
    run = functools.partial(generate, model, variables_of(model), settings=settings)
    expected = run(PROMPTS, MASK).sequences[:, 4:]
    right = np.array([[3, 4, 5, 6], [3, 6, 0, 0], [5, 5, 4, 0]])
    np.testing.assert_array_equal(run(right, (right > 0).astype(int)).sequences[:, 4:], expected)
    wide, wide_mask = (np.pad(x, ((0, 0), (6, 0))) for x in (PROMPTS, MASK))
    np.testing.assert_array_equal(run(wide, wide_mask).sequences[:, 10:], expected)
    np.testing.assert_array_equal(run(np.array([prompt(1)])).sequences[0, len(prompt(1)) :], expected[1])


def test_behind_an_end_stands_padding():
    settings = GenerationConfig(max_new_tokens=12, eos_token_id=(2, 3, 4), pad_token_id=6)
    texts = np.asarray(generate(LLAMA, variables_of(LLAMA), PROMPTS, MASK, settings).sequences)[:, 4:]
    ended = np.isin(texts, (2, 3, 4))
    assert ended.any()
    for text, end in zip(texts, ended, strict=True):
        if end.any():
            assert (text[end.argmax() + 1 :] == 6).all()
    none = GenerationConfig.from_json({"eos_token_id": [2, 3, 4]}, max_new_tokens=12, min_new_tokens=12)
    texts = np.asarray(generate(LLAMA, variables_of(LLAMA), PROMPTS, MASK, none).sequences)[:, 4:]
    assert not np.isin(texts, (2, 3, 4)).any()


def test_rows_of_a_cache_have_a_memory_in_common():
    cache = cut_cache(
        GPT2.config.empty_cache(2, 5).replace(
            keys=jnp.arange(2 * 2 * 2 * 5 * 8.0).reshape(2, 2, 2, 5, 8),
            memory_keys=jnp.ones((2, 2, 2, 3, 8)),
            memory_values=jnp.ones((2, 2, 2, 3, 8)),
            memory_mask=jnp.array([[1, 1, 0], [1, 1, 1]]),
        )
    )
    rows = jnp.array([1, 1, 0])
    taken = take_rows(cache, rows)
    np.testing.assert_array_equal(taken.keys[1], cache.keys[1][rows])
    assert len(taken.keys[0]) == len(taken.mask) == 3
    assert taken.memory_keys is cache.memory_keys and taken.memory_mask is cache.memory_mask


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0: expected a whole number of at least 1"),
        ({"num_beams": 1.5}, "num_beams=1.5: expected a whole number"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0.0: expected a number above 0"),
        ({"do_sample": True, "top_p": 1.2}, "top_p=1.2: expected a probability"),
        ({"early_stopping": "soon"}, "early_stopping='soon': expected True, False or 'never'"),
        ({"do_sample": True, "num_beams": 2, "num_return_sequences": 3}, "there are 2 beam"),
        ({"num_return_sequences": 2}, "there are 1 beam"),
        ({"top_k": 5}, "top_k is of use with do_sample alone"),
        ({"num_beam": 5}, "no setting 'num_beam': did you mean 'num_beams'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ModelError, match=message):
        GenerationConfig.from_json({}, **settings)


def test_what_is_published_for_drawing_is_ignored_without_it():
    published = {"do_sample": False, "temperature": 0.6, "top_k": 50, "eos_token_id": [1, 2], "max_length": 4096}
    assert GenerationConfig.from_json(published) == GenerationConfig(eos_token_id=(1, 2), max_length=4096)
    drawn = GenerationConfig.from_json(published, do_sample=True, top_k=3, seed=None)
    assert dataclasses.asdict(drawn) | {"temperature": 0.6, "top_k": 3} == dataclasses.asdict(drawn)


def test_prompts_that_cannot_be():
    run = functools.partial(generate, GPT2, variables_of(GPT2))
    with pytest.raises(ModelError, match="a prompt of 4 tokens and 17 new ones do not fit a model with room for 20"):
        run(PROMPTS, MASK, GenerationConfig(max_new_tokens=17))
    run(PROMPTS, MASK, GenerationConfig(max_new_tokens=16))
    with pytest.raises(ModelError, match="a prompt is empty"):
        run(PROMPTS, MASK * np.array([[1], [0], [1]]), GenerationConfig(max_new_tokens=2))
    with pytest.raises(ModelError, match="do_sample draws tokens at random: give a key"):
        run(PROMPTS, MASK, GenerationConfig(do_sample=True, max_new_tokens=2))


# ── Pipeline and command ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("generation")
    texts = [
        "the cat sat on the mat and looked at the dog",
        "dogs and cats are animals that do not speak to rivers",
    ] * 9
    train_tokenizer(texts, vocab_size=90, path=path / "tokenizer.json")
    model = llama.LlamaForCausalLM(dataclasses.replace(LLAMA.config, vocab_size=90, max_position_embeddings=40))
    hub.save(path / "model", model, variables_of(model), tokenizer=path / "tokenizer.json")
    return path / "model"


def test_a_folder_says_how_to_generate_and_the_caller_otherwise(folder, monkeypatch):
    ask = pipeline("text-generation", folder)
    plain = ask("the cat", max_new_tokens=9)
    (folder / "generation_config.json").write_text('{"do_sample": true, "max_new_tokens": 9, "temperature": 3.0}')
    told = pipeline("text-generation", folder)
    drawn = told("the cat")
    (folder / "generation_config.json").unlink()
    assert plain != drawn == told("the cat", seed=0) != told("the cat", seed=1)
    assert told("the cat", do_sample=False) == plain and plain[0]["generated_text"].startswith("the cat")
    several = ask(["the cat", "dogs and", "a mat"], max_new_tokens=9)
    assert several[0] == plain and len(several) == 3
    with pytest.raises(ModelError, match="do not fit a model with room for 40"):
        ask("the cat", max_new_tokens=39)


def test_the_command_prints_a_line_for_each_text(folder):
    arguments = ["the cat", "dogs", "--model", str(folder), "--num-beams", "2", "--num-return-sequences", "2"]
    command = [sys.executable, "-m", "experiments.cli", "generate", *arguments, "--max-new-tokens", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line)["generated_text"] for line in done.stdout.splitlines()]
    assert [line[:7] for line in lines[:2]] == ["the cat"] * 2 and [line[:4] for line in lines[2:]] == ["dogs"] * 2
