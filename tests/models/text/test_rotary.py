"""Rotary positions of Llama: distances alone count, wavelengths are scaled as published."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from models import llama
from models.config import ModelError
from models.llama import LlamaConfig, RopeScaling, frequencies
from tests.models.text.decoders import BATCH, LENGTH, LLAMA, ids, variables_of

# ── Rotary positions ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 4.0), RopeScaling("llama3", 8.0, 1.0, 4.0, 32)])
def test_rotary_attention_depends_on_distances_alone(scaling):
    model = llama.LlamaModel(dataclasses.replace(LLAMA, rope_scaling=scaling))
    variables, positions = variables_of(model), jnp.tile(jnp.arange(LENGTH), (BATCH, 1))
    here = model.apply(variables, ids(), position_ids=positions).last_hidden_state
    there = model.apply(variables, ids(), position_ids=positions + 1_000).last_hidden_state
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-3)  # angles of 1,000 radians have rounding errors of 1e-4
    spread = model.apply(variables, ids(), position_ids=positions * 2).last_hidden_state
    assert np.abs(spread - here).max() > 1e-2


def test_llama3_keeps_short_wavelengths_and_divides_long_ones():
    """The published Llama 3.1: of 64 pairs 29 turn more than 4 times in 8,192 tokens, 29 less than once."""
    config = LlamaConfig.llama3_1_8b()
    plain = frequencies(LlamaConfig.llama3_8b(), jnp.array(1))
    turns = 8_192 * np.asarray(plain) / (2 * np.pi)
    ratio = np.asarray(frequencies(config, jnp.array(1)) / plain)
    assert (ratio[turns > 4] == 1).all() and (turns > 4).sum() == 29
    np.testing.assert_allclose(ratio[turns < 1], 1 / 8, rtol=1e-6)
    assert (turns < 1).sum() == 29
    between = ratio[(turns > 1) & (turns < 4)]
    assert (np.diff(between) < 0).all() and ((between > 1 / 8) & (between < 1)).all()


def test_dynamic_angles_change_only_in_long_texts():
    config = dataclasses.replace(LLAMA, rope_scaling=RopeScaling("dynamic", 2.0))
    plain = frequencies(LLAMA, jnp.array(1))
    for longest in (1, 39, 40):
        np.testing.assert_array_equal(frequencies(config, jnp.array(longest)), plain)
    longer = np.asarray(frequencies(config, jnp.array(80)) / plain)
    assert longer[0] == 1 and (np.diff(longer) < 0).all()
    np.testing.assert_allclose(
        longer[-1], 1 / 3, rtol=1e-5
    )  # the longest wavelength grows by factor · 80/40 - (factor - 1)


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "unknown rope_type 'yarn'.* known: default, linear"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling linear with factor=None: expected a number above 0"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": -1}}, "dynamic with factor=-1.0: expected"),
        (
            {"rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 1}},
            "llama3 with high_freq_factor=None",
        ),
        (
            {"rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 4}},
            "expected the first to be smaller",
        ),
        ({"rope_scaling": [2.0]}, r"rope_scaling=\[2.0\]: expected an object"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor is set"),
    ],
)
def test_rotary_positions_of_other_kinds_are_refused(published, message):
    with pytest.raises(ModelError, match=message):
        LlamaConfig.from_json({**LLAMA.to_json(), **published})
