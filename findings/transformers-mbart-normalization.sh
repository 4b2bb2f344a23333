#!/usr/bin/env bash
# One would guess: AutoTokenizer of an mBART folder with a sentencepiece.bpe.model gives the ids that sentencepiece gives.
# What happens: transformers 5 takes the pieces of the model and not its normalisation: a ligature («ﬁne»), which sentencepiece reads as
# two letters, becomes unknown; and mBART-50's makes a token of a space at the end, which sentencepiece drops.
# Whom it hurts: whoever translates or fine-tunes with text that was made with ligatures, full-width letters or loose spaces (PDF
# extracts, Japanese): the model reads tokens that it was not trained on.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - "$place" 2>/dev/null <<'PYTHON'
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path

import sentencepiece
from transformers import AutoTokenizer

written = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["fine river mill cat."] * 50),
    model_writer=written,
    vocab_size=40,
    hard_vocab_limit=False,
    minloglevel=2,
)
pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
print(*(f"{name} {version(name)}" for name in ("transformers", "tokenizers", "sentencepiece")))
same = {}
for kind, text in (("MBartTokenizer", "ﬁne river"), ("MBart50Tokenizer", "river mill "), ("MBartTokenizer", "fine river")):
    folder = Path(sys.argv[1]) / kind
    folder.mkdir(exist_ok=True)
    (folder / "sentencepiece.bpe.model").write_bytes(written.getvalue())
    (folder / "config.json").write_text('{"model_type": "mbart"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    came, expected = AutoTokenizer.from_pretrained(folder).tokenize(text), pieces.encode(text, out_type=str)
    same[kind, text] = came == expected
    print(kind, repr(text), "transformers", came, "sentencepiece", expected)
assert list(same.values()) == [False, False, True], "this has changed"
PYTHON
