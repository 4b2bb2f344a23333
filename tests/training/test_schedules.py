"""Learning rates held against the formulas of the papers that they come from."""

import numpy as np

from training.optimizers import AdamW


def test_inverse_square_root_is_the_schedule_of_the_transformer():
    """Vaswani et al. (2017, equation 3): d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5), the first step being 1."""
    width, warmup = 512, 40
    optimizer = AdamW(learning_rate=(width * warmup) ** -0.5, warmup_steps=warmup, decay="inverse_sqrt")
    expected = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, 201)]
    np.testing.assert_allclose(optimizer.rates(200), expected, rtol=1e-6)
    np.testing.assert_array_equal(optimizer.rates(100), optimizer.rates(200)[:100])
