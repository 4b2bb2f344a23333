"""Asterisk's prompts as folders: what is on which side, which words are cut out, and what the campaign reads off its runs."""

import gzip
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data.audio.source import Audio
from data.audio.transcribed import Transcribed
from experiments.campaigns.learning import speech as learning_speech
from experiments.experiment import load
from experiments.material import asterisk
from experiments.material.asterisk import LISTING, SOUNDS, Prompt, cuts, prompts, spelled, trimmed, write_sentences
from objectives.audio.contrastive import perplexity
from tests.data.audio.test_reading import RATE, g722, tone
from tests.inference.speech.test_pipeline import folder as whisper  # noqa: F401

TEXTS = {f"vm-{number}": f"press {chr(97 + number)}{'x' * (number % 3)} to go" for number in range(26)} | {
    "vm-7a": "Press 7, please!",
    "digits/7": "Seven.",
}


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """The packages, unpacked: some recordings, a transcript without one, and what is no transcript."""
    listing = tmp_path / LISTING
    listing.parent.mkdir(parents=True)
    lines = ["; a comment", "noise: [a beep]", "missing: nothing", *(f"{name}: {text}" for name, text in TEXTS.items())]
    with gzip.open(listing, "wt") as file:
        file.write("\n".join(lines))
    for number, name in enumerate(["noise", *TEXTS]):
        path = tmp_path / SOUNDS / f"{name}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(g722(tone(0.2, hertz=300 + 10 * number)))
    return tmp_path


def test_prompts_are_recordings_with_a_transcript(sounds: Path) -> None:
    found = list(prompts(sounds))
    assert {prompt.name: prompt.text for prompt in found} == TEXTS
    assert found[-1].words == ["seven"] and found[-2].words == ["press", "seven", "please"]
    assert spelled("De-activated!") == "deactivated" and spelled("o'clock") == "o'clock" and spelled("23") == "23"


def test_sentences_are_read_by_both_sources_and_no_text_is_on_both_sides(sounds: Path, tmp_path: Path) -> None:
    sentences = [prompt for prompt in prompts(sounds) if len(prompt.words) > 1]
    write_sentences(sentences, tmp_path / "sentences")
    settings = dict(source=str(tmp_path / "sentences"), cache=str(tmp_path / "cache"))
    alone, transcribed = (kind(**settings).prepare(0, tmp_path, lambda _: None) for kind in (Audio, Transcribed))
    assert alone.given and alone.counts == transcribed.counts and sum(alone.counts) == len(sentences)
    texts = [set(transcribed.texts(items)[1]) for items in (transcribed.training_items, transcribed.held_out_items)]
    assert all(texts) and not texts[0] & texts[1]
    again = Prompt("other", Path(), sentences[0].text.upper() + "!")
    assert again.side == sentences[0].side, "by what is said alone"


def test_the_words_of_a_sentence_are_pieces_of_it_in_order(sounds: Path, whisper: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(asterisk, "MARGIN", 0.0)
    chosen = [prompt for prompt in prompts(sounds) if len(prompt.words) > 1][:2]
    found = list(cuts(chosen, whisper))
    assert [prompt for prompt, *_ in found] == sorted((p for p, *_ in found), key=chosen.index)
    for prompt in chosen:
        of_prompt = [(word, piece) for of, word, piece in found if of == prompt]
        assert [word for word, _ in of_prompt] == prompt.words
        whole = np.concatenate([piece for _, piece in of_prompt])
        recording = asterisk.read_audio(prompt.path)
        assert len(whole) <= len(recording) and whole.tobytes() in recording.tobytes()


def test_silence_is_cut_off_at_both_ends() -> None:
    sound = tone(0.1)
    quiet = np.full(500, 1e-4, np.float32)
    kept = trimmed(np.concatenate([quiet, sound, quiet]))
    assert abs(len(kept) - 0.1 * RATE) < 20 and np.abs(kept).max() == np.abs(sound).max()


def test_perplexity_is_read_off_the_diversity_loss() -> None:
    objective = load(learning_speech.PRETRAIN).objective
    rng = np.random.default_rng(0)
    codes = rng.dirichlet(np.ones(objective.codes), size=objective.groups).astype(np.float32)
    totals = {
        "contrastive": (jnp.ones(()), jnp.ones(())),
        "codes": jnp.asarray(codes),
        "penalty": (jnp.zeros(()), jnp.ones(())),
    }
    line = {"diversity_loss": float(objective.losses(totals)["diversity_loss"])}
    assert learning_speech.perplexity(line) == pytest.approx(float(perplexity(jnp.asarray(codes))), rel=1e-5)


def test_who_guesses_is_right_as_often_as_different_distractors_say() -> None:
    assert learning_speech.guessing(2, 7) == 0.5, "the one other frame, seven times"
    rng, right = np.random.default_rng(1), 0
    for _ in range(4_000):  # the first of those that score best, of random scores by frame
        scores = rng.random(10)
        right += scores[0] >= scores[1 + rng.integers(9, size=5)].max()
    assert learning_speech.guessing(10, 5) == pytest.approx(right / 4_000, abs=0.02)


def test_the_page_has_room_for_each_table() -> None:
    page = learning_speech.PAGE.read_text()
    names = [*learning_speech.PARTS, "machine"]
    assert all(f"<!-- {name} -->\n" in page and f"<!-- end of {name} -->\n" in page for name in names)
    assert f"]({learning_speech.PICTURE.name})" in page
