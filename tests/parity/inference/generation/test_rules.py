"""The rules of generation, each and all at once, and its settings against those of `transformers`."""

import dataclasses

import numpy as np
import pytest

from inference.generation import GenerationConfig, generate
from inference.generation.config import HARMLESS, UNHEEDED
from tests.parity.inference.generation.small_models import ENDS, NEW, PAD, gpt2, texts
from tests.parity.reference import torch, transformers

RULES = {
    "repetition": {"repetition_penalty": 1.7},
    "repetition wanted": {"repetition_penalty": 0.6},
    "source": {"encoder_repetition_penalty": 3.0},
    "source's pairs": {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 3.0},
    "source's tokens": {"encoder_no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": [*range(3, 20), 77], "begin_suppress_tokens": [21, 22, 23, 24, 25]},
    "suppressed at first": {"begin_suppress_tokens": [2, *range(3, 30)]},
    "bias": {"sequence_bias": [[[7], 4.0], [[9], -9.0], [[21, 22], 12.0], [[5, 6, 7], 20.0]], "num_beams": 2},
    "words": {"bad_words_ids": [[PAD], [7], [2], [9, 9], [30, 30], [11, 12, 13]], "num_beams": 2},
    "decay": {"exponential_decay_length_penalty": [3, 1.4], "eos_token_id": [2, 5, 8]},
    "lengths": {"max_length": 12, "min_length": 11, "eos_token_id": list(ENDS)},
    "long decay": {"exponential_decay_length_penalty": (0, 1e30), "min_new_tokens": 4},
    "all": {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "sequence_bias": [[[9], 2.0], [[9, 9], -3.0]],
        "exponential_decay_length_penalty": [4, 1.2],
        "suppress_tokens": [13, 14],
        "begin_suppress_tokens": [15, 9],
        "min_new_tokens": 3,
        "num_beams": 3,
        "eos_token_id": [2, 5],
    },
}

OF_WHISPER = {"return_timestamps", "no_timestamps_token_id", "max_initial_timestamp_index"}
"""Settings that only Whisper's published files have."""


def compare_rules(pair, settings, read: int | None, matters: bool = True) -> None:
    """Each text alone, as `generate` takes it, and all together here: padding counts for nothing, and rules matter.

    Args:
        read: places of `generate`'s answer that are no new tokens; those of the prompt where `None`.
        matters: whether some text must come out otherwise than without the rules.
    """
    theirs, model, variables = pair
    ids, mask = texts("left" if read is None else "right")  # learned positions of an encoder count padding on the left
    lengths = {} if "max_length" in settings else {"max_new_tokens": NEW}
    published = {**theirs.generation_config.to_dict(), **lengths, **settings}
    ours = np.asarray(generate(model, variables, ids, mask, GenerationConfig.from_json(published)).sequences)
    without = {name: settings[name] for name in ("num_beams", "eos_token_id") if name in settings}
    new, plain = [], []
    for row in range(len(ids)):
        prompt = torch.tensor(ids[row][mask[row] > 0][None])
        begun = len(prompt[0]) if read is None else read
        new.append(theirs.generate(prompt, do_sample=False, **lengths, **settings)[0, begun:].tolist())
        plain.append(theirs.generate(prompt, do_sample=False, max_new_tokens=NEW, **without)[0, begun:].tolist())
        our = ours[row, ids.shape[1] if read is None else read :].tolist()
        assert our[: len(new[-1])] == new[-1] and set(our[len(new[-1]) :]) <= {PAD}
    assert new != plain or not matters


@pytest.mark.parametrize("models", [gpt2], indirect=True, ids=["gpt2"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_prompts(models, rule):
    compare_rules(models, RULES[rule], None)


@pytest.mark.parametrize("writer", ["bart"], indirect=True)
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_texts_that_are_read(writer, rule):
    compare_rules(writer, RULES[rule], 1, matters=rule != "source's tokens")  # this one writes none of them


@pytest.mark.parametrize("writer", ["t5", "mbart"], indirect=True)
def test_all_rules_at_once(writer):
    compare_rules(writer, RULES["all"], 1)


def test_every_published_setting_is_implemented_harmless_or_named(caplog):
    """No field of the live class is left to chance; what is said of each is one of the three."""
    live = transformers.GenerationConfig()
    fields = {name for name in vars(live) if not name.startswith("_")} - {"bos_token_id"}
    fields |= set(live._get_default_generation_params())
    implemented = {field.name for field in dataclasses.fields(GenerationConfig)}
    for name in fields:
        assert (name in implemented) + (name in HARMLESS) + (name in UNHEEDED) == 1, name
    assert implemented <= fields | OF_WHISPER, implemented - fields
    for name in fields & set(UNHEEDED):
        caplog.clear()
        GenerationConfig.from_json({name: 7})
        (record,) = caplog.records
        assert record.levelname == "WARNING" and f"{name}=7" in record.getMessage()
    caplog.clear()
    GenerationConfig.from_json({name: 1 for name in HARMLESS})
    GenerationConfig.from_json(live._get_default_generation_params())
    assert not caplog.records


def test_defaults_are_those_of_generate():
    live = transformers.GenerationConfig()._get_default_generation_params()
    ours = GenerationConfig(do_sample=True)
    for field in dataclasses.fields(GenerationConfig):
        if field.name in live and field.name not in ("max_length", "do_sample"):
            assert (getattr(ours, field.name) or None) == (live[field.name] or None), field.name
    assert GenerationConfig().do_sample == live["do_sample"] and ours.new_tokens(3, None) == live["max_length"]
