"""Subtitles of chunks, as players read them."""

from inference.speech.subtitles import subtitles
from inference.tasks.automatic_speech_recognition import AutomaticSpeechRecognition

CHUNKS = [
    {"text": " One --> two.", "timestamp": (0.0, 1.5)},
    {"text": " Three.", "timestamp": (3_661.0049, 3_662.9996)},
]


def test_srt():
    expected = "1\n00:00:00,000 --> 00:00:01,500\nOne -> two.\n\n2\n01:01:01,005 --> 01:01:03,000\nThree.\n"
    assert subtitles(CHUNKS, "srt") == expected


def test_vtt():
    expected = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nOne -> two.\n\n01:01:01.005 --> 01:01:03.000\nThree.\n"
    assert subtitles(CHUNKS, "vtt") == expected


def test_what_is_printed():
    answer = {"text": " One, zwölf.", "chunks": CHUNKS[:1]}
    assert AutomaticSpeechRecognition(form="text").printed(answer) == "One, zwölf."
    assert AutomaticSpeechRecognition(form="srt").printed(answer) == subtitles(CHUNKS[:1], "srt")
    assert '"text": " One, zwölf."' in AutomaticSpeechRecognition().printed(answer)
