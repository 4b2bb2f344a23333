#!/usr/bin/env bash
# One would guess: the log-likelihood of a whole text (loglikelihood_rolling, on which word_perplexity and bits_per_byte rest) puts the
# token that begins texts once before the text, and predicts the text's own tokens.
# What happens: with a tokenizer that puts that token there itself, as those of Llama do, it stands twice, and the second one is
# predicted as if it were a token of the text. add_bos_token=False leaves it out, for all other requests, too.
# Whom it hurts: whoever compares perplexities of Llama with those of GPT-2, or with those of a script of their own: each text has the
# loss of one more token, which no model was trained to predict. Short texts are wrong by the most.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check lm-eval==0.4.13 accelerate==1.14.0 transformers==5.24.0 torch==2.13.0
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = ["<s>", "</s>", "<unk>", "a", "river", "ran", "past", "the", "mill"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(words))
model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=32, initializer_range=1.0)).eval()


def log_likelihood(ids, first):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(first, len(ids)))


text = "a river ran past the mill"
request = [Instance("loglikelihood_rolling", {}, (text,), 0)]
came = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).loglikelihood_rolling(request)[0]
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
guess, twice = log_likelihood([0, *ids], 1), log_likelihood([0, 0, *ids], 1)
print("lm-eval", version("lm-eval"), f"of the text behind one <s>: {guess:.4f}, behind two: {twice:.4f}, came {came:.4f}")
assert abs(came - twice) < 1e-3 < abs(came - guess), "this has changed"
PYTHON
