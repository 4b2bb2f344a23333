#!/usr/bin/env bash
# One would guess: where a folder holds a tokenizer.json, AutoTokenizer gives what that file says.
# What happens: of a BERT folder whose tokenizer.json says lowercase: false, and whose settings say nothing of it, transformers 5
# lower-cases, that being BertTokenizer's default: a cased model reads lower-case words.
# Whom it hurts: whoever exports a cased BERT with its tokenizer.json alone; `tokenizers` reads one thing and `transformers` another.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - "$place" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

folder = Path(sys.argv[1]) / "cased"
folder.mkdir()
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the"]
tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text('{"model_type": "bert"}')
alone, opened = tokenizer.encode("The").tokens, AutoTokenizer.from_pretrained(folder).tokenize("The")
print("transformers", version("transformers"), "tokenizers", version("tokenizers"))
print("the file alone:", alone, "AutoTokenizer of its folder:", opened)
assert (alone, opened) == (["The"], ["the"]), "this has changed"
PYTHON
