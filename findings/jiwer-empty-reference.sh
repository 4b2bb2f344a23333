#!/usr/bin/env bash
# One would guess: the character error rate of a text against an empty reference is 1, or an error, as with a word error rate
# of one word.
# What happens: jiwer returns the number of insertions, undivided: cer("", "hello") is 5.
# Whom it hurts: whoever averages rates over utterances some of which are silent: one of them outweighs a hundred others.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jiwer==4.0.0
"$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import jiwer

seen = {
    'cer("", "hello")': jiwer.cer("", "hello"),
    'wer("", "hello")': jiwer.wer("", "hello"),
    'wer("", "one two three")': jiwer.wer("", "one two three"),
    'cer("a", "hello")': jiwer.cer("a", "hello"),
}
print("jiwer", version("jiwer"), seen)
assert list(seen.values()) == [5, 1, 3, 5.0], "this has changed"
PYTHON
