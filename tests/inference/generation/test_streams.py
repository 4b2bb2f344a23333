"""Texts that end with a string, and texts that are sent as they come."""

import itertools
import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from experiments.commands.generate import Terminal
from inference.generation import GenerationConfig, generate, stream
from inference.generation.stops import first_states, stop_table
from inference.pipeline import pipeline
from models import gpt2, hub
from models.config import ModelError

TEXTS = ["the cat sat on the mat — and the dög looked at it 🙂 “well”, said he.\n\nQ: 日本語?"] * 6
VOCABULARY = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small GPT-2 with a tokenizer of bytes and a few pairs of them."""
    path = tmp_path_factory.mktemp("streams")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    config = gpt2.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=96,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.6,
    )
    model = gpt2.GPT2LMHeadModel(config)
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    hub.save(path / "model", model, variables, tokenizer=path / "tokenizer.json")
    return path / "model"


PROMPTS = ["the cat", "日本", "", "a dög looked at the mat"]
DRAWN = dict(do_sample=True, temperature=1.3, max_new_tokens=40)

# ── Strings that end a text ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [DRAWN, dict(max_new_tokens=24)], ids=str)
def test_a_text_ends_as_soon_as_a_string_stands_in_it(folder, settings):
    """Held against the texts without the strings, cut token by token where one first ends in a new token."""
    ask = pipeline("text-generation", folder)
    reader = ask.reader
    surface = {number: reader.tokenizer.id_to_token(number) for number in range(VOCABULARY)}
    whole = ask(PROMPTS * 4, **settings, return_full_text=False)
    letters = sorted({letter for (answer,) in whole for letter in answer["generated_text"] if letter.isalpha()})
    strings = tuple(letters[:3]) + tuple(answer["generated_text"][5:7] for (answer,) in whole[:2])
    ended = ask(PROMPTS * 4, **settings, return_full_text=False, stop_strings=strings)
    lengths = set()
    for (text,), (stopped,) in zip(whole, ended, strict=True):
        text, stopped = text["generated_text"], stopped["generated_text"]
        first = min((text.find(string) + len(string) for string in strings if string in text), default=len(text))
        assert text.startswith(stopped) and len(stopped) >= first
        assert len(stopped) - first < max(map(len, surface.values())), "more than the end of one token"
        assert stopped == text or any(string in stopped for string in strings)
        lengths.add(len(stopped))
    assert len(lengths) > 1


def test_the_table_is_a_search_of_the_whole_text(folder):
    """Of thousands of random texts, by bytes: whichever strings are looked for, and wherever the tokens' borders are."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    letters = {letter: byte for byte, letter in enumerate_bytes()}
    surfaces = [
        bytes(letters[letter] for letter in token) if all(letter in letters for letter in token) else token.encode()
        for token in map(tokenizer.id_to_token, range(VOCABULARY))
    ]
    rng = np.random.default_rng(0)
    likely = [tokenizer.encode(TEXTS[0]).ids[begin : begin + 3] for begin in range(20)]
    completed = 0
    for strings in [("at",), ("the cat", "e c", "aa"), ("ö", "🙂", "“well”"), ("\n\n", "Q:"), ("aba", "abab", "ba")]:
        table = stop_table(tokenizer, strings, VOCABULARY + 5)
        patterns = [string.encode() for string in strings]
        for _ in range(400):
            words = [likely[rng.integers(20)] if rng.random() < 0.6 else [rng.integers(VOCABULARY)] for _ in range(6)]
            ids = list(itertools.chain(*words))
            prompt = int(rng.integers(0, len(ids)))
            (state,) = first_states(table, [ids[:prompt]])
            text = b"".join(surfaces[token] for token in ids[:prompt])
            for token in ids[prompt:]:
                new = text + surfaces[token]
                expected = any(new.find(p, max(0, len(text) - len(p) + 1)) >= 0 for p in patterns)
                assert table[token, state] % 2 == expected
                completed += expected
                state, text = table[token, state] >> 1, new
    assert completed > 300


def enumerate_bytes():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [(byte, chr(byte) if byte in plain else chr(next(rest))) for byte in range(256)]


def test_a_string_that_begins_in_the_prompt_and_one_that_ends_there(folder):
    ask = pipeline("text-generation", folder)
    plain = ask("the cat", max_new_tokens=12, return_full_text=False)[0]["generated_text"]
    begun = ask("the cat", max_new_tokens=12, return_full_text=False, stop_strings="at" + plain[:1])
    assert (
        begun[0]["generated_text"] == plain[: len(begun[0]["generated_text"])] and len(begun[0]["generated_text"]) <= 4
    )
    assert (
        ask("the cat", max_new_tokens=12, return_full_text=False, stop_strings=["cat"])[0]["generated_text"][:2]
        == plain[:2]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_strings": [""]}, "stop_strings=.*: expected strings of at least one character"),
        ({"stop_strings": [3]}, "stop_strings=.*: expected strings"),
        ({"num_beams": 2, "on_text": print}, "beams cannot be streamed"),
        ({"num_return_sequences": 2, "do_sample": True, "on_text": print}, "set num_return_sequences=1"),
    ],
)
def test_what_cannot_be(folder, settings, message):
    with pytest.raises(ModelError, match=message):
        pipeline("text-generation", folder)("the cat", **settings)


def test_strings_want_a_tokenizer(folder):
    model, variables = hub.load(folder)
    with pytest.raises(ModelError, match="stop_strings are looked for by the tokenizer's tokens"):
        generate(model, variables, np.ones((1, 2)), settings=GenerationConfig(stop_strings=("a",)))


# ── Texts that are sent as they come ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [DRAWN, dict(max_new_tokens=20), DRAWN | dict(stop_strings=["a", "e"])], ids=str)
@pytest.mark.parametrize("full", [True, False])
def test_what_is_sent_is_what_is_returned(folder, settings, full):
    """Whole characters alone, and the last before the end as soon as it is there."""
    ask = pipeline("text-generation", folder)
    expected = ask(PROMPTS, **settings, return_full_text=full)
    pieces = [[] for _ in PROMPTS]
    returned = ask(PROMPTS, **settings, return_full_text=full, on_text=lambda place, piece: pieces[place].append(piece))
    assert returned == expected
    assert ["".join(parts) for parts in pieces] == [answer["generated_text"] for (answer,) in expected]
    assert all(parts[-1] == "" and all(parts[:-1]) for parts in pieces)
    assert max(map(len, pieces)) > 5


def test_bytes_of_an_unfinished_character_are_held_back():
    from inference.writing import sent

    spelled = lambda row, tokens: bytes(tokens).decode(errors="replace")  # noqa: E731
    text = "a🙂é".encode() + b"\xf0\x9f"
    steps = [(np.array([byte]), np.array([place == len(text) - 1])) for place, byte in enumerate(text)]
    pieces = []
    answers = sent(steps, spelled, lambda row, piece: pieces.append(piece))
    assert pieces == ["a", "🙂", "é", "\ufffd", ""] and answers == ["a🙂é\ufffd"]


def test_nothing_more_is_computed_than_is_asked_for(folder, monkeypatch):
    from inference.generation import generating

    model, variables = hub.load(folder)
    steps, advance = [], generating.advance_compiled
    monkeypatch.setattr(generating, "advance_compiled", lambda *given: steps.append(given[-1]) or advance(*given))
    tokens = stream(
        model, variables, np.array([[5, 6, 7]]), settings=GenerationConfig(max_new_tokens=30, eos_token_id=())
    )
    expected = generate(
        model, variables, np.array([[5, 6, 7]]), settings=GenerationConfig(max_new_tokens=30, eos_token_id=())
    )
    steps.clear()
    first = [next(tokens)[0][0] for _ in range(3)]
    assert first == expected.sequences[0, 3:6].tolist() and steps == [1, 2, 3]


def test_a_terminal_shows_texts_in_their_order(capsys):
    terminal = Terminal()
    for place, piece in [(1, "x"), (0, "a"), (1, "y"), (1, ""), (0, "b"), (0, ""), (2, "z"), (2, "")]:
        terminal.show(place, piece)
    assert capsys.readouterr().out == "ab\nxy\nz\n"


def test_the_command_streams(folder):
    command = [sys.executable, "-m", "experiments.cli", "generate", "the cat", "日本", "--model", str(folder)]
    lines = subprocess.run([*command, "--max-new-tokens", "9"], capture_output=True, check=True).stdout.decode()
    texts = [json.loads(line)["generated_text"] for line in lines.splitlines()]
    sent = subprocess.run([*command, "--max-new-tokens", "9", "--stream"], capture_output=True, check=True)
    assert sent.stdout.decode() == "".join(f"{text}\n" for text in texts)
    refused = subprocess.run([*command, "--stream", "--num-beams", "2"], capture_output=True, text=True)
    assert refused.returncode and "beams cannot be streamed" in refused.stderr
