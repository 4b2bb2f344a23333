"""Learning rates held against the formulas of the papers that they come from."""

import numpy as np

from training.optimizers import LAMB, SGD, AdamW, Polynomial, Stepwise, Triangular, TriStage


def test_inverse_square_root_is_the_schedule_of_the_transformer():
    """Vaswani et al. (2017, equation 3): d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5), the first step being 1."""
    width, warmup = 512, 40
    optimizer = AdamW(learning_rate=(width * warmup) ** -0.5, warmup_steps=warmup, decay="inverse_sqrt")
    expected = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, 201)]
    np.testing.assert_allclose(optimizer.rates(200), expected, rtol=1e-6)
    np.testing.assert_array_equal(optimizer.rates(100), optimizer.rates(200)[:100])


def test_warmup_and_floor_are_those_of_convnext_and_levit():
    """`cosine_scheduler` of ConvNeXt, `numpy.linspace` and a cosine, both ends of which are steps; here the first is left out."""
    peak, first, last, warmup, steps = 4e-3, 1e-6, 1e-5, 20, 200
    optimizer = AdamW(
        learning_rate=peak, warmup_steps=warmup, warmup_init=first, decay="cosine", final_share=last / peak
    )
    rising = np.linspace(first, peak, warmup + 1)[1:]
    falling = [
        last + 0.5 * (peak - last) * (1 + np.cos(np.pi * i / (steps - warmup))) for i in range(1, steps - warmup + 1)
    ]
    np.testing.assert_allclose(optimizer.rates(steps), [*rising, *falling], rtol=1e-5)


def test_all_warmed_optimizers_have_the_same_rates():
    settings = dict(learning_rate=0.03, warmup_steps=5, decay="cosine", warmup_init=0.001)
    for kind in (SGD, LAMB):
        np.testing.assert_array_equal(kind(**settings).rates(50), AdamW(**settings).rates(50))


def test_three_stages_are_those_of_fairseq():
    """`tri_stage_lr_scheduler`: linear, constant, then `peak · exp(log(final) · n / decay steps)`; the first step is the first
    of the warm-up."""
    peak, final, warmup, hold, steps = 3e-5, 0.05, 10, 40, 100
    optimizer = TriStage(learning_rate=peak, warmup_steps=warmup, hold_steps=hold, final_share=final)
    expected = [peak * (i + 1) / warmup for i in range(warmup)] + [peak] * hold
    expected += [
        peak * np.exp(np.log(final) * n / (steps - warmup - hold)) for n in range(1, steps - warmup - hold + 1)
    ]
    np.testing.assert_allclose(optimizer.rates(steps), expected, rtol=1e-5)


def test_up_and_down_is_that_of_glpn():
    """Its loop: the first step is step 1, and the second half of the run is a fall as steep as the rise."""
    least, peak, steps = 3e-5, 1e-4, 60
    optimizer = Triangular(learning_rate=peak, warmup_init=least, power=0.9)
    expected = []
    for step in range(1, steps + 1):
        done = step / (steps / 2)
        rising = (peak - least) * done**0.9 + least
        expected.append(rising if done <= 1 else (least - peak) * (done - 1) ** 0.9 + peak)
    np.testing.assert_allclose(optimizer.rates(steps), expected, rtol=1e-5)
    assert optimizer.rates(steps).argmax() == 29 and optimizer.rates(steps)[-1] == np.float32(least)


def test_rates_fall_at_points_of_the_run():
    optimizer = Stepwise(learning_rate=1e-4, drops=(0.5, 0.8), warmup_steps=2)
    expected = [5e-5] + [1e-4] * 4 + [1e-5] * 3 + [1e-6] * 2
    np.testing.assert_allclose(optimizer.rates(10), expected, rtol=1e-6)
    np.testing.assert_allclose(Stepwise().rates(300)[[0, 199, 200, 299]], [1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-6)


def test_a_power_of_what_is_left_of_the_run():
    rates = Polynomial(learning_rate=1e-4, power=0.9).rates(200)
    np.testing.assert_allclose(rates[[0, 50, 199]], 1e-4 * np.array([1, 0.75, 0.005]) ** 0.9, rtol=1e-5)
