"""`faster-whisper`, in an interpreter of its own that need have nothing else: it is asked for one recording after the other.

    python -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install faster-whisper==1.2.1

`FasterWhisper` starts this file there, which imports only numpy and faster-whisper.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import numpy as np


@dataclasses.dataclass
class FasterWhisper:
    """A process that transcribes on so many threads, in float32.

    Attributes:
        python: the interpreter.
        model: folder of a CTranslate2 model.
        settings: of `WhisperModel.transcribe`.
        silence: pad a window with the spectrogram's floor, as the authors' silence is, and not with 0.0.
    """

    python: Path
    model: Path
    settings: dict[str, Any]
    threads: int = 2
    silence: bool = False

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory()
        about = {"model": str(self.model), "threads": self.threads, "silence": self.silence, "settings": self.settings}
        command = [str(self.python), __file__, json.dumps(about)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.folder.cleanup()

    def __call__(self, waveform: np.ndarray) -> dict[str, Any]:
        """`text`, `segments` of (start, end, text, tokens), and the `seconds` that it took."""
        path = Path(self.folder.name) / "waveform.npy"
        np.save(path, waveform)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(
                f"{self.python} has stopped with {self.process.wait()}: is faster-whisper installed there?"
            )
        return json.loads(line)


def serve(about: dict[str, Any]) -> None:
    """Transcribe what is asked for, a path a line."""
    import faster_whisper
    from faster_whisper import transcribe

    options = {"device": "cpu", "compute_type": "float32", "cpu_threads": about["threads"]}
    model = faster_whisper.WhisperModel(about["model"], **options)
    if about["silence"]:
        pad_with_silence(model, transcribe)
    for line in sys.stdin:
        waveform = np.load(line.strip())
        begin = time.perf_counter()
        segments = list(model.transcribe(waveform, language="en", **about["settings"])[0])
        seconds = time.perf_counter() - begin
        rows = [(one.start, one.end, one.text, one.tokens) for one in segments]
        answer = {"text": "".join(one.text for one in segments), "segments": rows, "seconds": seconds}
        print(json.dumps(answer), flush=True)


def pad_with_silence(model: Any, module: Any) -> None:
    """Have windows padded with the floor of their recording, 8 powers of ten below its loudest value, in place of 0.0."""
    extract, floor = model.feature_extractor, {}

    class Extractor(type(extract)):
        def __call__(self, *given: Any, **settings: Any) -> np.ndarray:
            features = super().__call__(*given, **settings)
            floor["value"] = features.max() - 2
            return features

    extract.__class__ = Extractor

    def padded(features: np.ndarray, length: int = 3_000) -> np.ndarray:
        features = features[..., :length]
        behind = length - features.shape[-1]
        return np.pad(features, [(0, 0), (0, behind)], constant_values=floor["value"])

    module.pad_or_trim = padded


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
