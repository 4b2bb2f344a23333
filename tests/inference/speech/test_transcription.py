"""How long recordings are heard: where windows begin, what is kept of them, and what silence says."""

import numpy as np
import pytest

from data.audio.features import SpectrogramExtractor
from inference.speech import Decoding, transcribe
from inference.speech.transcription import silences, sounding
from models.config import ModelError
from tests.inference.speech.scripted import IDS, START, UNSTAMPED, Scripted, heard

ONE_SECOND = SpectrogramExtractor(feature_size=6, chunk_length=1)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(16_000 * seconds)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(16_000 * seconds), np.float32)


def prompts(listener: Scripted) -> list[list[int]]:
    return [prompt for _, prompt in listener.asked]


def test_a_short_recording_is_one_window_without_timestamps():
    listener = Scripted.of_script(heard("hello there"))
    (answer,) = transcribe(listener, ONE_SECOND, [noise(0.6)])
    assert answer.text == "hello there" and prompts(listener) == [[START, UNSTAMPED]]
    (segment,) = answer.segments
    assert (segment.start, segment.end) == (0.0, 0.6)


def test_windows_begin_where_the_last_whole_segment_ends():
    """A pair of times is where one segment ends and another, that is not whole, begins."""
    listener = Scripted.of_script(heard("|0|ab|0.4||0.5|c|0.8||0.8|de"), heard("|0|def|0.6|"))
    (answer,) = transcribe(listener, ONE_SECOND, [noise(1.5)])
    times = [(round(one.start, 2), round(one.end, 2), one.text) for one in answer.segments]
    assert times == [(0.0, 0.4, "ab"), (0.5, 0.8, "c"), (0.8, 1.4, "def")] and answer.text == "abcdef"
    windows = [features for features, _ in listener.asked]
    whole = ONE_SECOND(noise(1.5))
    np.testing.assert_array_equal(windows[0], whole[:100])
    np.testing.assert_array_equal(windows[1][:70], whole[80:150])
    assert (windows[1][70:] == whole.min()).all()


def test_a_time_at_the_end_says_that_nothing_follows():
    listener = Scripted.of_script(heard("|0|ab|0.2||0.2|c|0.3|"), heard("|0|d|0.1|"))
    (answer,) = transcribe(listener, ONE_SECOND, [noise(1.5)], timestamps=True)
    assert [round(one.start, 2) for one in answer.segments] == [0.0, 0.2, 1.0]


def test_a_window_that_gets_nowhere_is_left_behind():
    listener = Scripted.of_script(heard("|0|a|0||0|b"), heard("|0|c|0.2|"))
    (answer,) = transcribe(listener, ONE_SECOND, [noise(1.2)], timestamps=True)
    assert len(listener.asked) == 2 and answer.text == "c"


def test_what_was_written_stands_before_the_next_window():
    one, other = heard("|0|ab|0.4|"), heard("|0|c|0.1|")
    listener = Scripted.of_script(one, other)
    transcribe(listener, ONE_SECOND, [noise(1.5)])
    assert prompts(listener) == [[START], [IDS["<|startofprev|>"], *one.tokens, START]]
    listener = Scripted.of_script(one, other)
    transcribe(listener, ONE_SECOND, [noise(1.5)], Decoding(condition_on_previous_text=False))
    assert prompts(listener) == [[START], [START]]


def test_a_text_drawn_at_a_high_temperature_is_not_trusted():
    listener = Scripted.of_script(heard("|0|ab|0.4|", temperature=0.6), heard("|0|c|0.1|"))
    transcribe(listener, ONE_SECOND, [noise(1.5)])
    assert prompts(listener)[1] == [START]


def test_no_more_stands_before_than_there_is_room_for():
    long = heard("|0|" + "ab" * 20 + "|0.4|")
    listener = Scripted.of_script(long, heard("|0|c|0.1|"))
    transcribe(listener, ONE_SECOND, [noise(1.5)])
    assert prompts(listener)[1] == [IDS["<|startofprev|>"], *long.tokens[-23:], START]


@pytest.mark.parametrize(("average", "expected"), [(-1.2, "d"), (-0.8, "youd")])
def test_nobody_speaks_where_that_is_likely_and_the_text_is_not(average, expected):
    listener = Scripted.of_script(heard("|0|you|0.4|", average, no_speech=0.9), heard("|0|d|0.2|"))
    (answer,) = transcribe(listener, ONE_SECOND, [noise(1.5)])
    assert answer.text == expected
    np.testing.assert_array_equal(listener.asked[1][0][:50], ONE_SECOND(noise(1.5))[100:150])


@pytest.mark.parametrize("recording", [silence(0), silence(0.5), silence(40), 1e-3 * noise(40)])
def test_silence_says_nothing_and_nobody_is_asked(recording):
    listener = Scripted.of_script()
    (answer,) = transcribe(listener, ONE_SECOND, [recording], timestamps=True)
    assert answer.text == "" and answer.segments == () and not listener.asked


def heard_of(recording: np.ndarray) -> list[tuple[int, int]]:
    return sounding(-(-len(recording) // 160), silences(recording))


def test_pauses_are_left_out():
    """What sounds keeps its place; 0.1 s of silence stay on both sides of it."""
    recording = np.concatenate([silence(3), noise(0.5), silence(1), noise(0.3), silence(5), noise(0.6), silence(2.5)])
    assert heard_of(recording) == [(290, 490), (970, 1_050)]
    listener = Scripted.of_script(heard("|0.1|ab|0.6|"), heard("|0.6|c|0.9|"), heard("|0.1|d|0.7|"))
    (answer,) = transcribe(listener, ONE_SECOND, [recording], timestamps=True)
    windows = [features for features, _ in listener.asked]
    whole = ONE_SECOND(recording)
    for begin, window in zip((290, 390, 970), windows, strict=True):
        np.testing.assert_array_equal(window[:80], whole[begin : begin + 80])
    assert answer.text == "abcd" and heard_of(noise(3)) == [(0, 300)]
    assert heard_of(np.concatenate([noise(1), silence(1.9), noise(1), silence(1.9)])) == [(0, 580)]
    assert heard_of(np.concatenate([noise(1), silence(2), noise(1), silence(2)])) == [(0, 110), (290, 410)]


def test_nothing_begins_or_ends_in_silence():
    """Times that a model rounds, or guesses, go to where the sound begins or ends; those within it stay."""
    recording = np.concatenate([silence(0.3), noise(0.3), silence(0.3), noise(0.5), silence(0.1), noise(0.5)])
    script = heard("|0|ab|0.8||0.8|c|0.96||0.96|d"), heard("|0|e|0.44||0.48|f|1|"), heard("|0|g|0.02|")
    (answer,) = transcribe(Scripted.of_script(*script), ONE_SECOND, [recording], timestamps=True)
    times = [(round(one.start, 2), round(one.end, 2), one.text) for one in answer.segments]
    assert times[:4] == [(0.3, 0.6, "ab"), (0.9, 0.96, "c"), (0.96, 1.4, "e"), (1.44, 1.96, "f")]


def test_recordings_are_heard_side_by_side():
    """Each goes on by itself; those without timestamps are asked apart from those with."""
    listener = Scripted.of_script(*(heard(f"|0|{letter}|0.2|") for letter in "abcd"), heard("short"))
    answers = transcribe(listener, ONE_SECOND, [noise(1.5), noise(0.5), noise(1.4, seed=1)])
    assert [answer.text for answer in answers] == ["ac", "short", "bd"]
    first, second = (ONE_SECOND(noise(1.5))[:100], ONE_SECOND(noise(1.4, seed=1))[:100])
    np.testing.assert_array_equal([features for features, _ in listener.asked[:2]], [first, second])


def test_languages_and_tasks():
    listener = Scripted.of_script(heard("ab"), heard("cd"), many=True)
    (answer,) = transcribe(listener, ONE_SECOND, [noise(0.5)])
    assert answer.language == "de"
    (answer,) = transcribe(listener, ONE_SECOND, [noise(0.5)], Decoding(language="<|en|>", task="translate"))
    assert answer.language == "en"
    expected = [["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]]
    expected += [["<|startoftranscript|>", "<|en|>", "<|translate|>", "<|notimestamps|>"]]
    assert prompts(listener) == [[IDS[token] for token in prompt] for prompt in expected]
    with pytest.raises(ModelError, match="language='fr': "):
        transcribe(listener, ONE_SECOND, [noise(0.5)], Decoding(language="fr"))
    english = Scripted.of_script(heard("ab"))
    for decoding in (Decoding(language="en"), Decoding(task="translate")):
        with pytest.raises(ModelError, match="this model knows one language"):
            transcribe(english, ONE_SECOND, [noise(0.5)], decoding)
    assert not english.asked


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ModelError, match="expected transcribe or translate"):
        Decoding(task="whisper")
    with pytest.raises(ModelError, match="temperatures="):
        Decoding(temperatures=())
