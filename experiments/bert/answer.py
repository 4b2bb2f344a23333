"""BERT fine-tuned to answer questions by a span of a text.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805, sections 4.2, 4.3 and A.3; windows and lengths as in the released `run_squad.py`.

    lacuna train experiments/bert/answer.py --data.source FOLDER --initial-model FOLDER             minutes on a laptop
    lacuna train experiments/bert/answer.py:questions --data.source FILE --initial-model FOLDER
    lacuna train experiments/bert/answer.py:squad --initial-model google-bert/bert-base-uncased
    lacuna train experiments/bert/answer.py:squad2 --initial-model google-bert/bert-large-uncased
    lacuna predict question-answering QUESTION CONTEXT --model FOLDER

A context that is longer than an example is read in windows, which are scored together, as
`lacuna predict … --ranking logits --max-seq-len 384 --doc-stride 128 --max-question-len 64 --max-answer-len 30` does. A head that
a checkpoint lacks is initialised from the seed. Rates that fall from layer to layer: `--optimizer.layer-decay 0.9`.

| | base | large |
|---|---|---|
| SQuAD 1.1, dev EM / F1 (table 2) | 80.8 / 88.5 | 84.1 / 90.9 |
| SQuAD 1.1, dev EM / F1 of the released script | 81.25 / 88.41 | 84.39 / 90.87 |
| SQuAD 2.0, dev EM / F1 (table 3) | | 78.7 / 81.9 |
"""

import dataclasses

from data.forms import SpanForm
from data.text.annotated.questions import Questions
from evaluation.evaluation import Best, Evaluation
from evaluation.metrics.squad import Squad
from experiments.experiment import Experiment, Phase
from models.bert import BertConfig
from objectives import AnswerSpan
from training.optimizers import AdamW


def pages() -> Experiment:
    """Spans of Wikipedia pages (`experiments/material/questions.py` makes the folder), with a model of the shape of MiniLM-L6.

    Some minutes on two CPU cores. A question is what stands around the answer in its sentence, some words left out.
    """
    base = questions()
    return dataclasses.replace(
        base,
        name="bert-pages",
        model=BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536),
        data=Questions(source="questions"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=2e-4, warmup_steps=50, bias_correction=True),
        batch_size=16,
        steps=400,
        phases=(Phase(1.0, SpanForm(160, stride=32, question=24, buckets=8)),),
        evaluate_every=200,
        evaluation_examples=2_000,
        checkpoint_every=200,
        log_every=1,
    )


def questions() -> Experiment:
    """Questions of any source with BERT base; wants `--data.source`. The best checkpoint has the best F1.

    Set `--steps` to some two epochs. `evaluation_examples` must be no fewer than the windows that are held out: a question of
    which one is missing is left out.
    """
    return Experiment(
        name="bert-questions",
        architecture="BertForQuestionAnswering",
        model=BertConfig.base(),
        objective=AnswerSpan(),
        data=Questions(source="questions", held_out=0.1),
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=100, bias_correction=False),
        batch_size=12,
        steps=1_000,
        phases=(Phase(1.0, SpanForm(384, stride=128, question=64, buckets=8)),),
        evaluate_every=500,
        evaluation_examples=16_000,
        evaluations=(Evaluation(metrics=(Squad(),)),),
        best=Best("f1", more_is_better=True),
        checkpoint_every=500,
    )


def squad() -> Experiment:
    """SQuAD 1.1 (`squad/v1.1` of TFDS) as released: two epochs of its 87,599 questions in batches of 12, a tenth warm-up.

    The paper's choice: batches of 32, rate 5e-5, three epochs.
    """
    return dataclasses.replace(
        questions(),
        name="bert-squad",
        data=Questions(source="squad/v1.1"),
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=1_460, bias_correction=False),
        steps=14_600,
        evaluate_every=3_650,
        checkpoint_every=3_650,
    )


def squad2() -> Experiment:
    """SQuAD 2.0 (`squad/v2.0` of TFDS) with BERT large as published: two epochs of its 130,319 questions in batches of 48.

    There is no answer where the logits of [CLS] are above the best span's by more than a threshold, `best_threshold` of the
    result, which is chosen on the held-out questions for the best F1.
    """
    return dataclasses.replace(
        squad(),
        name="bert-squad2",
        model=BertConfig.large(),
        data=Questions(source="squad/v2.0"),
        optimizer=AdamW(learning_rate=5e-5, warmup_steps=543, bias_correction=False),
        batch_size=48,
        steps=5_430,
        evaluations=(Evaluation(metrics=(Squad(impossible=True),)),),
        best=Best("best_f1", more_is_better=True),
        evaluate_every=1_810,
        checkpoint_every=1_810,
    )
