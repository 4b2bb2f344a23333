"""Llama pretraining: the next token.

Touvron et al.: "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv 2302.13971 (1); Touvron et al.: "Llama 2:
Open Foundation and Fine-Tuned Chat Models", 2023, arXiv 2307.09288 (2); Grattafiori et al.: "The Llama 3 Herd of Models",
2024, arXiv 2407.21783 (3); Zhang, Zeng, Wang, Lu: "TinyLlama: An Open-Source Small Language Model", 2024, arXiv 2401.02385.

    lacuna train experiments/llama/pretrain.py             minutes on a laptop, on Wikipedia pages that pip installs
    lacuna train experiments/llama/pretrain.py:llama_7b    1.0 T tokens, on TFDS c4/en

| | hardware, time as published | result as published |
|---|---|---|
| 1, 7B | | BoolQ 76.5, PIQA 79.8, HellaSwag 76.1, WinoGrande 70.1 (zero-shot) |
| 1, 65B | 2,048 A100 of 80 GB, about 21 days | BoolQ 85.3, PIQA 82.8, HellaSwag 84.2, WinoGrande 77.0 (zero-shot) |
| 2, 7B | | MMLU 45.3 (5-shot) |
| 3, 8B | 1.3 M H100-hours | MMLU 66.6 (5-shot, Meta's model card) |
| TinyLlama | 16 A100 of 40 GB, about 90 days | |

The published mixtures (CommonCrawl, C4, GitHub, Wikipedia, books, arXiv, StackExchange, …) are no TFDS data sets; C4 stands
in for them.
"""

import dataclasses

from data.forms import TextForm
from data.text.source import Text
from experiments.experiment import Experiment, Phase
from experiments.small import LENGTH, VOCABULARY, sibling
from models.llama import LlamaConfig
from objectives import CausalLM
from training.optimizers import AdamW


def demo() -> Experiment:
    """A small Llama; what its siblings share and why is said in experiments/small.py."""
    return sibling(
        "llama",
        "LlamaForCausalLM",
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=True,
        ),
        CausalLM(),
        kind="byte_bpe",
    )


def llama_7b() -> Experiment:
    """Llama 1, 7B: 1.0 T tokens in steps of 4 M; cosine to a tenth of the peak."""
    return Experiment(
        name="llama-7b",
        architecture="LlamaForCausalLM",
        model=LlamaConfig.llama_7b(dtype="bfloat16", scan_layers=True, remat="dots"),
        objective=CausalLM(),
        data=Text(source="c4/en", kind="unigram"),
        optimizer=AdamW(
            learning_rate=3e-4, warmup_steps=2_000, decay="cosine", final_share=0.1, b2=0.95, eps=1e-8, weight_decay=0.1
        ),
        batch_size=2_048,
        steps=238_000,
        phases=(Phase(1.0, TextForm(2_048)),),
        log_every=100,
    )


def llama2_7b() -> Experiment:
    """Llama 2, 7B: 2.0 T tokens in steps of 4 M, at length 4,096."""
    parent = llama_7b()
    return dataclasses.replace(
        parent,
        name="llama2-7b",
        model=LlamaConfig.llama2_7b(dtype="bfloat16", scan_layers=True, remat="dots"),
        optimizer=dataclasses.replace(parent.optimizer, eps=1e-5),
        batch_size=1_024,
        steps=476_000,
        phases=(Phase(1.0, TextForm(4_096)),),
    )


def llama3_8b() -> Experiment:
    """Llama 3, 8B at length 8,192, documents apart; batch, peak and warm-up are the 405B's, the 8B's not being published."""
    parent = llama_7b()
    return dataclasses.replace(
        parent,
        name="llama3-8b",
        model=LlamaConfig.llama3_8b(dtype="bfloat16", scan_layers=True, remat="full"),
        objective=CausalLM(across_documents=False),
        data=Text(source="c4/en", kind="byte_bpe"),
        optimizer=dataclasses.replace(parent.optimizer, learning_rate=8e-5, warmup_steps=8_000, final_share=0.01),
        batch_size=512,
        steps=1_200_000,
        phases=(Phase(1.0, TextForm(8_192)),),
    )


def tinyllama() -> Experiment:
    """TinyLlama, 1.1B: 3 T tokens in steps of 1,024 × 2,048."""
    parent = llama_7b()
    return dataclasses.replace(
        parent,
        name="tinyllama",
        model=LlamaConfig.tinyllama(dtype="bfloat16", scan_layers=True, remat="dots"),
        optimizer=dataclasses.replace(parent.optimizer, learning_rate=4e-4),
        batch_size=1_024,
        steps=1_430_000,
    )
