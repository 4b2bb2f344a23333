"""What the picture of a recording shows: masked spans, a frame and its distractors, frequencies where they are."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.show import sounds
from objectives import Contrastive

CONV = dict(conv_kernel=(10, 8, 4, 4), conv_stride=(5, 4, 4, 4))
RATE, STEP = 16_000, 320


def example(samples: int = 16_000) -> dict[str, np.ndarray]:
    objective = Contrastive(**CONV, mask_time_prob=0.5, mask_time_length=5, num_negatives=20)
    given = {
        "input_values": jnp.asarray(np.random.default_rng(0).normal(size=samples), jnp.float32),
        "attention_mask": jnp.ones(samples, jnp.int32),
        "step": jnp.zeros((), jnp.int32),
    }
    return {name: np.asarray(x) for name, x in objective.corrupt(jax.random.key(0), given).items()}


def test_spans_are_the_runs_of_masked_frames():
    mask = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert sounds.spans_of(mask) == [(0, 2), (4, 5), (6, 9)]
    assert sounds.spans_of(~mask) == [(2, 4), (5, 6)] and sounds.spans_of(np.zeros(3, bool)) == []


def test_the_frame_that_is_shown_and_its_distractors_are_masked():
    seen = example()
    masked = set(np.flatnonzero(seen["mask_time_indices"]).tolist())
    frame, others = sounds.candidates(seen, sounds.middle(seen))
    assert frame in masked and len(others) == 20 and set(others.tolist()) <= masked - {frame}


def test_a_tone_is_where_its_frequency_and_its_time_are():
    seconds = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 2_000 * seconds) * (seconds > 0.6)
    powers, frequencies, times = sounds.spectrogram(tone, RATE)
    assert powers.shape == (len(frequencies), len(times) - 1)
    loud = powers > powers.max() - 3
    assert (abs(frequencies[loud.any(axis=1)] - 2_000) <= 40).all()
    assert abs(times[:-1][loud.any(axis=0)].min() - 0.6) < 0.02 and times[-1] < 1


def test_pictures_are_drawn_of_long_and_short_recordings(tmp_path):
    for samples in (16_000, 3_000):
        seen = example(samples)
        sounds.draw(tmp_path / f"{samples}.png", seen["input_values"], seen, RATE, STEP / RATE)
        assert (tmp_path / f"{samples}.png").stat().st_size > 5_000
    plain = {"input_values": seen["input_values"]}
    sounds.draw(tmp_path / "plain.png", seen["input_values"][:300], plain, RATE, STEP / RATE)
