"""BERT fine-tuned to label words: entities, parts of speech.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805, section 5.3 and appendix A.3.

    lacuna train experiments/bert/tag.py --data.source FOLDER/tags --initial-model FOLDER          minutes on a laptop
    lacuna train experiments/bert/tag.py:words --data.source FILE.conll --initial-model FOLDER
    lacuna train experiments/bert/tag.py:conll2003 --initial-model google-bert/bert-base-cased
    lacuna predict token-classification TEXT --model FOLDER

The first token of a word is asked for its label, the others are not; `--data.label-all` asks all. Labels are named by the data.
Of a checkpoint with a head for other labels the head is left out, and one for these is initialised from the seed. Without
`--initial-model` the same model is trained from scratch. Rates that fall from layer to layer: `--optimizer.layer-decay 0.9`; the
head alone: `--phases.0.trainable '^(?!bert/)'`.

| | base | large |
|---|---|---|
| CoNLL-2003 NER F1, dev (table 7) | 96.4 | 96.6 |
| the same, test | 92.4 | 92.8 |
"""

import dataclasses

from data.forms import TextForm
from data.text.annotated.tagged import TaggedText
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.tags import Entities, WordAccuracy
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import Classification
from training.optimizers import AdamW


def brown() -> Experiment:
    """Base classes of Brown's tags (`experiments/material/brown.py` makes the folder), with a model of the shape of MiniLM-L6.

    Some minutes on two CPU cores: a fifth of the sentences once. Batches have one of eight lengths, so that little is padding.
    """
    base = words()
    return dataclasses.replace(
        base,
        name="bert-brown-tags",
        model=BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536),
        data=TaggedText(source="tags"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-4, warmup_steps=50, bias_correction=True),
        batch_size=32,
        steps=300,
        phases=(Phase(1.0, TextForm(96, buckets=8)),),
        evaluate_every=150,
        evaluation_examples=6_000,
        checkpoint_every=150,
        log_every=1,
    )


def words() -> Experiment:
    """Words of any labels with BERT base; wants `--data.source`. The best checkpoint has the most words right.

    One of the published choices of batch and rate (16 or 32; 5e-5, 3e-5 or 2e-5), for 1,000 steps: set `--steps` to some three
    epochs.
    """
    return Experiment(
        name="bert-words",
        architecture="BertForTokenClassification",
        model=BertConfig.base(),
        objective=Classification(),
        data=TaggedText(source="words", held_out=0.1),
        optimizer=AdamW(learning_rate=5e-5, warmup_steps=100, bias_correction=False),
        batch_size=32,
        steps=1_000,
        phases=(Phase(1.0, TextForm(128, buckets=8)),),
        evaluate_every=200,
        evaluation_examples=4_096,
        evaluations=(Evaluation(metrics=(WordAccuracy(),)),),
        best=Best("word_accuracy", more_is_better=True),
        checkpoint_every=200,
    )


def conll2003() -> Experiment:
    """Entities of CoNLL-2003 (`conll2003` of TFDS), three epochs of its 14,042 sentences in batches of 32, with the cased model.

    The paper gives each sentence the document around it, which TFDS does not keep: expect some tenths less. The score of the
    test split: `lacuna evaluate experiments/bert/tag.py:conll2003 --data.held-out-split test --data-changed go-on`.
    """
    return dataclasses.replace(
        words(),
        name="bert-conll2003",
        model=BertConfig.base(vocab_size=28_996),
        data=TaggedText(source="conll2003", features=("tokens", "ner"), held_out_split="dev", lowercase=False),
        optimizer=AdamW(learning_rate=5e-5, warmup_steps=132, bias_correction=False),
        steps=1_317,
        phases=(Phase(1.0, TextForm(192, buckets=8)),),
        evaluate_every=439,
        evaluation_examples=8_000,
        evaluations=(Evaluation(metrics=(Entities(), WordAccuracy())),),
        best=Best("f1", more_is_better=True),
        checkpoint_every=439,
    )
