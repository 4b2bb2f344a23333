#!/usr/bin/env bash
# One would guess: a synthesiser gives the same samples for the same text and voice, or, as espeak_ng_SetRandSeed is there, does so
# behind a seed.
# What happens: the second time a process says it the samples are others, and not as many; seeded anew, or ended and initialised
# anew, it goes on from what was said before. A fresh process, or a copy of the library that is loaded anew, begins from the start.
# Whom it hurts: whoever makes speech to train or test on: what a sentence sounds like depends on all that was said before it, so
# that workers, hosts and a run that goes on have other data.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check espeakng-loader==0.2.4 numpy==2.4.6
cat > "$place/say.py" <<'PYTHON'
import ctypes
import hashlib
import sys
from importlib.metadata import version

import espeakng_loader
import numpy as np

SYNCHRONOUS, UTF_8, TEXT = 2, 1, b"the river ran past the mill"
parts = []


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
def heard(samples, count, _):
    if samples and count:
        parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
    return 0


library = ctypes.CDLL(espeakng_loader.get_library_path())
library.espeak_Info.restype = ctypes.c_char_p


def start():
    library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    library.espeak_SetSynthCallback(heard)
    library.espeak_SetVoiceByName(b"en-us+m3")


def said():
    library.espeak_ng_SetRandSeed(ctypes.c_long(7))
    parts.clear()
    library.espeak_Synth(TEXT, ctypes.c_size_t(len(TEXT) + 1), 0, 0, 0, UTF_8, None, None)
    samples = np.concatenate(parts)
    return f"{len(samples)} samples {hashlib.sha256(samples.tobytes()).hexdigest()[:8]}"


start()
found = [said(), said()]
library.espeak_Terminate()
start()
found.append(said())
print("espeakng-loader", version("espeakng-loader"), "eSpeak NG", library.espeak_Info(None).decode(), found)
assert len(set(found)) == 3, "this has changed"
PYTHON
first=$("$place/venv/bin/python" "$place/say.py")
second=$("$place/venv/bin/python" "$place/say.py")
echo "$first"
test "$first" = "$second" || { echo "a fresh process says something else: this has changed"; exit 1; }
