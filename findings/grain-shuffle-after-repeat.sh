#!/usr/bin/env bash
# One would guess: MapDataset.repeat().shuffle(seed) shuffles each epoch, or all of them, so that every item comes once in as
# many draws as there are items, as shuffle(seed).repeat() gives them.
# What happens: repeat() makes a data set of 2^63 - 1 places, over which shuffle permutes: items come as if drawn with replacement,
# some thrice before others come once.
# Whom it hurts: whoever counts epochs, or evaluates on «one epoch» of such a pipeline: in one epoch's draws a third of the
# data is not there.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18
"$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import grain

items = grain.MapDataset.range(1000)
after, before = items.repeat().shuffle(seed=1), items.shuffle(seed=1).repeat()
seen = {name: len({ds[i] for i in range(1000)}) for name, ds in (("repeat().shuffle()", after), ("shuffle().repeat()", before))}
print("grain", version("grain"), "different items among the first 1000 of 1000:", seen, "length", len(after))
assert seen["shuffle().repeat()"] == 1000 and 580 < seen["repeat().shuffle()"] < 690, "this has changed"
PYTHON
