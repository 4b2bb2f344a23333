"""`automatic-speech-recognition`: what is said in recordings."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from data.audio.log_mel import SAMPLING_RATE
from data.audio.reading import length_of
from data.errors import DataError
from inference.readers.sound import SoundReader
from inference.speech import Decoding, Transcript, transcribe
from inference.speech.subtitles import subtitles
from inference.task import Output, Task
from models.model import Model


@dataclasses.dataclass(frozen=True)
class AutomaticSpeechRecognition(Decoding, Task):
    """For each recording, of any length, its text; with timestamps also its chunks with their times in seconds.

    Attributes:
        return_timestamps: whether chunks are wanted: segments (True), or each `word`.
        form: what is printed: `json`, the `text` alone, or subtitles, as `srt` or `vtt`.
        on_progress: called with the seconds of sound that have just been dealt with.
    """

    name = "automatic-speech-recognition"
    reader = SoundReader
    takes = ("input_features", "decoder_input_ids")
    asks = (Output("logits", "targets vocabulary"),)
    fields = ()
    block: ClassVar[int] = 8
    counted: ClassVar[str] = "seconds of audio"
    example = "lacuna predict automatic-speech-recognition RECORDING --model {model}"

    return_timestamps: Literal[False, True, "word"] = False
    form: Literal["json", "text", "srt", "vtt"] = "json"
    on_progress: Annotated[Callable[[float], Any] | None, tyro.conf.Suppress] = None

    def suited_to(self, model: Model) -> Task:
        if "input_values" not in model.inputs:
            return self
        from inference.speech.spelled import SpelledSpeechRecognition

        return SpelledSpeechRecognition(**vars(self))

    def answers(self, reader: SoundReader, given: Sequence[Any], first: int = 0) -> list[dict[str, Any]]:
        stamped = self.return_timestamps or self.form in ("srt", "vtt")
        settings = dict(timestamps=stamped, first=first, on_progress=self.on_progress)
        transcripts = transcribe(reader.listener, reader.extractor, reader.read(given), self, **settings)
        return [self.answered(transcript, stamped) for transcript in transcripts]

    def answered(self, transcript: Transcript, stamped: bool | str) -> dict[str, Any]:
        """An answer as `transformers` has it."""
        parts = transcript.segments
        if stamped == "word":
            parts = [word for segment in parts for word in segment.words]
        chunks = [{"text": part.text, "timestamp": (round(part.start, 2), round(part.end, 2))} for part in parts]
        language = {"language": transcript.language} if transcript.language else {}
        return {"text": transcript.text, **language, **({"chunks": chunks} if stamped else {})}

    def size(self, given: Any) -> float:
        """Seconds, where the header of a file says how long it is."""
        with contextlib.suppress(DataError):  # which reading it says in its turn
            if isinstance(given, str | Path):
                return (length_of(given, str(given), SAMPLING_RATE) or 0) / SAMPLING_RATE
        return 0.0

    def watched(self, on_progress: Callable[[float], Any]) -> Task:
        return dataclasses.replace(self, on_progress=on_progress)

    def printed(self, answer: dict[str, Any]) -> str:
        if self.form == "text":
            return answer["text"].strip()
        return json.dumps(answer, ensure_ascii=False) if self.form == "json" else subtitles(answer["chunks"], self.form)
