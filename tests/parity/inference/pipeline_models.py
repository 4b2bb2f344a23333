"""Small random models with a tokenizer, and 200 real inputs, for every pipeline."""

import functools
import random
import re
import unicodedata
from pathlib import Path
from pydoc_data.topics import topics

import flax.linen as nn
import jax

from data.text.tokenizers import train_tokenizer
from models import bart, bert, distilbert, hub

ROOM = 48
"""Tokens that the models have room for."""

SHAPE = dict(vocab_size=400, max_position_embeddings=ROOM, initializer_range=0.4)
LAYERS = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
BART = dict(
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=ROOM,
    vocab_size=400,
    init_std=0.4,
)
CLASSES = ("contradiction", "neutral", "entailment")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")

MODELS = {
    "masked": lambda: bert.BertForMaskedLM(bert.BertConfig(**SHAPE, **LAYERS)),
    "classifier": lambda: bert.BertForSequenceClassification(bert.BertConfig(**SHAPE, **LAYERS, labels=CLASSES)),
    "tagger": lambda: bert.BertForTokenClassification(bert.BertConfig(**SHAPE, **LAYERS, labels=TAGS)),
    "answerer": lambda: bert.BertForQuestionAnswering(bert.BertConfig(**SHAPE, **LAYERS)),
    "encoder": lambda: bert.BertModel(bert.BertConfig(**SHAPE, **LAYERS)),
    "distilled-tagger": lambda: distilbert.DistilBertForTokenClassification(
        distilbert.DistilBertConfig(**SHAPE, dim=32, hidden_dim=48, n_layers=2, n_heads=4, labels=TAGS)
    ),
    "bart-masked": lambda: bart.BartForConditionalGeneration(bart.BartConfig(**BART)),
    "bart-classifier": lambda: bart.BartForSequenceClassification(bart.BartConfig(**BART, labels=CLASSES)),
    "bart-answerer": lambda: bart.BartForQuestionAnswering(bart.BartConfig(**BART)),
}
BYTES = ("bart-masked", "bart-classifier", "bart-answerer")
"""Those with a vocabulary of bytes; the others have wordpieces."""


def write(root: Path, name: str) -> Path:
    """The folder of a model."""
    folder = root / name
    if not folder.exists():
        kind = "byte_bpe" if name in BYTES else "wordpiece"
        tokenizer = root / kind / "tokenizer.json"
        if not tokenizer.exists():
            tokenizer.parent.mkdir(parents=True)
            train_tokenizer([topics[topic] for topic in sorted(topics)[:12]], kind=kind, vocab_size=400, path=tokenizer)
        model = MODELS[name]()
        hub.save(folder, model, nn.unbox(model.init(jax.random.key(1), **model.blank())), tokenizer=tokenizer)
    return folder


ODD = [
    "",
    " ",
    "\n\t",
    "Café, naïve façade – “quoted” … ½ ﬁne",
    "東京で猫を見た。 Москва не сразу строилась.",
    "👩‍👩‍👧 emoji \U0001f600 and z̶a̶l̶g̶o̶",
    "e\u0301 and \u00e9; \u200b zero width; \u00a0 no-break",
    "a" * 300,
    "[CLS] [SEP] [PAD] <s> </s> are words here",
    "don't stop-me now: it's 3.14 (or so)!",
    "العربية من اليمين إلى اليسار",
    "x",
]


@functools.cache
def texts() -> list[str]:
    """200 texts: odd ones, sentences, and prose that is far too long."""
    prose = [re.sub(r"\s+", " ", topics[topic]).strip() for topic in sorted(topics)]
    chosen = random.Random(0)
    found = []
    while len(found) < 200 - len(ODD):
        topic = chosen.choice(prose)
        begin = chosen.randrange(max(1, len(topic) - 200))
        found.append(topic[begin : begin + (chosen.randrange(3, 70) if len(found) % 4 else 900)])
    return [*ODD, *found]


def questions() -> list[tuple[str, str]]:
    """200 questions with contexts, of which many are far longer than the models."""
    found = [text for text in texts() if unicodedata.normalize("NFKC", text).strip(" \n\t\u200b")]
    asked = [("what is it?", "who says so, and why", "x", "Où est le café?")[n % 4] for n in range(len(found))]
    return list(zip(asked, found, strict=True))
