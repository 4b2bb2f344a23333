"""Transcripts as subtitles: SubRip (SRT) and WebVTT."""

from collections.abc import Mapping, Sequence
from typing import Any


def subtitles(chunks: Sequence[Mapping[str, Any]], form: str) -> str:
    """The content of a subtitle file.

    Args:
        chunks: each with `text` and `timestamp` (start and end in seconds).
        form: `srt` or `vtt`.
    """
    point, head, numbered = (",", "", True) if form == "srt" else (".", "WEBVTT\n\n", False)
    blocks = []
    for number, chunk in enumerate(chunks, 1):
        begin, end = (clock(seconds, point) for seconds in chunk["timestamp"])
        text = chunk["text"].strip().replace("-->", "->")
        blocks.append(f"{number}\n" * numbered + f"{begin} --> {end}\n{text}\n")
    return head + "\n".join(blocks)


def clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and thousandths."""
    thousandths = round(seconds * 1_000)
    hours, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1_000:02d}{point}{rest % 1_000:03d}"
