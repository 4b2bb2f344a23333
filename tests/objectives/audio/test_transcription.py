"""What a decoder is fed of a transcript and what it is asked, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.audio.prompted import PromptedVocabulary
from objectives import Transcription
from objectives.losses import IGNORED

VOCABULARY = PromptedVocabulary(20, "", start=11, eos=10, prompt=(12, 13, 14))
LABELS = [12, 13, 14, 3, 4, 10, IGNORED, IGNORED]


@pytest.mark.parametrize("score_prompt, asked", [(False, [IGNORED] * 3), (True, [12, 13, 14])])
def test_the_decoder_reads_its_prompt(score_prompt: bool, asked: list[int]) -> None:
    objective = Transcription(score_prompt=score_prompt).bind(VOCABULARY)
    seen = objective.corrupt(jax.random.key(0), {"labels": jnp.array(LABELS), "input_features": jnp.zeros((4, 2))})
    assert seen["decoder_input_ids"].tolist() == [11, 12, 13, 14, 3, 4, 10, 10]
    assert seen["decoder_attention_mask"].tolist() == [1] * 6 + [0] * 2
    assert seen["labels"].tolist() == [*asked, 3, 4, 10, IGNORED, IGNORED]


def test_the_loss_is_that_of_what_is_asked() -> None:
    objective = Transcription().bind(VOCABULARY)
    seen = objective.corrupt(jax.random.key(0), {"labels": jnp.array(LABELS)})
    logits = np.random.default_rng(0).normal(size=(1, 8, 20)).astype(np.float32)
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    amount, weight = objective.loss({"logits": jnp.asarray(logits)}, {"labels": seen["labels"][None]})[
        "transcription_loss"
    ]
    assert weight == 3
    assert amount == pytest.approx(-sum(logs[0, place, token] for place, token in ((3, 3), (4, 4), (5, 10))), rel=1e-5)
