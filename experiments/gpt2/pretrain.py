"""GPT-2 pretraining: the next token.

Radford, Wu, Child, Luan, Amodei, Sutskever: "Language Models are Unsupervised Multitask Learners", 2019, OpenAI report.

    lacuna train experiments/gpt2/pretrain.py              minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/gpt2/pretrain.py:small        124 M parameters, on TFDS c4/webtextlike

| zero-shot (table 3 of the report) | small | medium | large | xl |
|---|---|---|---|---|
| LAMBADA perplexity | 35.13 | 15.60 | 10.87 | 8.63 |
| WikiText-2 perplexity | 29.41 | 22.76 | 19.93 | 18.34 |
| WikiText-103 perplexity | 37.50 | 26.37 | 22.05 | 17.48 |

Published are the data (WebText, 40 GB, which was never released), the batch of 512 × 1,024 tokens and the tokenizer; not the
learning rate, nor anything else of the recipe. What stands here in their place are the settings of Karpathy's nanoGPT, which
reproduces the small model on OpenWebText: a validation loss of about 2.85 after 600,000 steps of 480 sequences, about four
days on 8 A100 of 40 GB (its README); OpenAI's own weights reach 3.12 there.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import LENGTH, VOCABULARY, sibling
from models.gpt2 import GPT2Config
from objectives import CausalLM
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small GPT-2; what its siblings share and why is said in experiments/small.py."""
    return sibling(
        "gpt2",
        "GPT2LMHeadModel",
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=128,
            n_layer=4,
            n_head=4,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        ),
        CausalLM(),
        kind="byte_bpe",
    )


def small() -> Experiment:
    """GPT-2 small, by nanoGPT's recipe."""
    return Experiment(
        name="gpt2-small",
        architecture="GPT2LMHeadModel",
        model=GPT2Config.small(dtype="bfloat16", scan_layers=True, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
        objective=CausalLM(),
        data=Text(source="c4/webtextlike", kind="byte_bpe"),
        optimizer=AdamW(
            learning_rate=6e-4, warmup_steps=2_000, decay="cosine", final_share=0.1, b2=0.95, eps=1e-8, weight_decay=0.1
        ),
        batch_size=480,
        steps=600_000,
        phases=(Phase(1.0, TextForm(1_024)),),
        log_every=100,
    )


def _larger(name: str) -> Experiment:
    """A larger GPT-2 with the published batch of 512 sequences."""
    model = GPT2Config.variant(
        name, dtype="bfloat16", scan_layers=True, remat="dots", embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0
    )
    return dataclasses.replace(small(), name=f"gpt2-{name}", model=model, batch_size=512)


def medium() -> Experiment:
    """GPT-2 medium, by the recipe of the small one."""
    return _larger("medium")


def large() -> Experiment:
    """GPT-2 large, by the recipe of the small one."""
    return _larger("large")


def xl() -> Experiment:
    """GPT-2 xl, by the recipe of the small one."""
    return _larger("xl")
