#!/usr/bin/env bash
# One would guess: max_question_len of the question-answering pipeline (64 where nothing is set) cuts a longer question off, as its
# documentation says, so that the context keeps its room.
# What happens: with a fast tokenizer, which is what AutoTokenizer gives, the setting is read by nobody: the question stays whole.
# Whom it hurts: whoever ports a model or its scores: windows of the context are shorter, and so others, than the settings say; a
# question that is longer than the model is an error instead of a shorter question.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==4.57.6 torch==2.13.0
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast, pipeline

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "ran", "past", "the", "mill", "river", "and", "then"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
roles = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **roles)
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(words))
model = BertForQuestionAnswering(BertConfig(**shape, max_position_embeddings=64, initializer_range=1.0)).eval()
seen = []
model.register_forward_pre_hook(lambda module, arguments, named: seen.append(named["input_ids"][0].tolist()), with_kwargs=True)
ask = pipeline("question-answering", model=model, tokenizer=tokenizer)
question = "who ran past the mill and then who ran past the river"
for most in (3, 64):
    ask(question=question, context="the river ran past the mill", max_question_len=most)
lengths = [ids.index(3) - 1 for ids in seen]
print("transformers", version("transformers"), "tokens of the question with max_question_len=3 and 64:", lengths)
assert lengths == [12, 12], "this has changed"
PYTHON
