"""Our generation against `transformers`' `generate`, token by token: tiny T5 (1.0 and 1.1), BART, mBART and Marian models, of
which the text that they read is padded on either side."""

import numpy as np
import pytest

from inference.generation import GenerationConfig, generate
from tests.parity.inference.generation.small_models import ENDS, NEW, PAD, texts
from tests.parity.reference import torch


def compare_writing(writer, padding: str = "right", **settings) -> np.ndarray:
    """The new tokens, after they were found to be theirs."""
    theirs, model, variables = writer
    ids, mask = texts(padding)
    lengths = {} if "max_length" in settings else {"max_new_tokens": NEW}
    expected = theirs.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        return_dict_in_generate=True,
        output_scores=True,
        **{"do_sample": False, **lengths, **settings},
    )
    published = {**model.config.to_json(), **theirs.generation_config.to_dict(), **lengths, **settings}
    ours = generate(model, variables, ids, mask, GenerationConfig.from_json(published))
    sequences = expected.sequences.numpy()
    length = sequences.shape[1]
    np.testing.assert_array_equal(ours.sequences[:, :length], sequences)
    assert (np.asarray(ours.sequences[:, length:]) == PAD).all()
    if settings.get("num_beams", 1) > 1:
        np.testing.assert_allclose(ours.scores, expected.sequences_scores.numpy(), rtol=5e-5, atol=1e-4)
    return sequences[:, 1:]


@pytest.mark.parametrize(("padding", "least"), [("right", 0), ("left", 5)])
def test_greedy_writing(writer, padding, least):
    found = compare_writing(writer, padding, eos_token_id=list(ENDS), min_new_tokens=least)
    assert len({tuple(text) for text in found.tolist()}) > 2
    assert not np.isin(found[:, :least], ENDS).any()


@pytest.mark.parametrize(
    ("padding", "early_stopping", "length_penalty"),
    [("right", True, 1.0), ("left", False, 1.0), ("right", "never", 2.5), ("left", True, -0.7)],
)
def test_writing_with_beams(writer, padding, early_stopping, length_penalty):
    compare_writing(
        writer,
        padding,
        num_beams=3,
        num_return_sequences=2,
        early_stopping=early_stopping,
        length_penalty=length_penalty,
        eos_token_id=list(ENDS[:3]),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 3, "min_length": 9, "max_length": 12, "length_penalty": 2.0, "num_beams": 4},
        {"bad_words_ids": [[PAD], [7], [8], [2]]},
        {"bad_words_ids": [[PAD]], "renormalize_logits": True, "no_repeat_ngram_size": 2, "num_beams": 2},
        {"forced_bos_token_id": 11, "num_beams": 3},
        {"forced_bos_token_id": 11, "forced_eos_token_id": [4], "max_new_tokens": 5},
        {"decoder_start_token_id": 5, "max_new_tokens": 1, "num_beams": 2},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_what_may_not_be_written_and_what_must(writer, settings):
    found = compare_writing(writer, **settings)
    if "forced_bos_token_id" in settings:
        assert (found[:, 0] == settings["forced_bos_token_id"]).all()


def test_settings_of_the_models_config(writer):
    """What a folder without `generation_config.json` says: its forced tokens, and what its texts begin with."""
    theirs, model, variables = writer
    ids, mask = texts("right")
    expected = theirs.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), do_sample=False).numpy()
    found = np.asarray(generate(model, variables, ids, mask).sequences)
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
