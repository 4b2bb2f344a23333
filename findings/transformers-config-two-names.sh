#!/usr/bin/env bash
# One would guess: a config that names a field twice, by its published name and by the common one (n_embd and hidden_size of GPT-2),
# with two values is refused; and that feed_forward_proj decides what T5 derives from it.
# What happens: the common name wins without a word, whatever the published one says; and a file's dense_act_fn and is_gated_act,
# which T5 derives from feed_forward_proj, win over it.
# Whom it hurts: whoever edits a config.json by hand, or writes one with another library: the model has another width, or another
# activation, than the field says that everybody reads.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0
"$place/venv/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version

from transformers import GPT2Config, T5Config

gpt2 = GPT2Config(n_embd=64, hidden_size=32)
t5 = T5Config(feed_forward_proj="gated-gelu", dense_act_fn="silu", is_gated_act=False)
print("transformers", version("transformers"))
print("GPT2Config(n_embd=64, hidden_size=32).n_embd:", gpt2.n_embd)
print("T5Config(feed_forward_proj='gated-gelu', dense_act_fn='silu', is_gated_act=False):", t5.dense_act_fn, t5.is_gated_act)
assert gpt2.n_embd == 32 and (t5.dense_act_fn, t5.is_gated_act) == ("silu", False), "this has changed"
PYTHON
