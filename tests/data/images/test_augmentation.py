"""Augmentation against slow, obvious oracles, its rates within binomial bounds, and shares of mixtures that are true."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import DataError
from data.images.augmentation import Augmentation, erased_box, jittered, pasted_box

HEIGHT, WIDTH, COUNT = 12, 16, 2_000
PLAIN = dict(flip=0.0, image_mean=(0.0,) * 3, image_std=(1.0,) * 3, rescale_factor=1.0)


def within(successes: int, trials: int, rate: float, sigmas: float = 5.0) -> bool:
    """Whether a count is as binomial chance would have it."""
    return abs(successes - trials * rate) <= sigmas * np.sqrt(trials * rate * (1 - rate))


def picture(seed: int, channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def seen(augmentation: Augmentation, example: dict, count: int = COUNT, training: bool = True) -> dict[str, np.ndarray]:
    """The same example as it looks each of `count` times."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(count))
    example = jax.tree.map(jnp.asarray, example)
    return jax.device_get(jax.jit(jax.vmap(lambda key: augmentation(key, example, training)))(keys))


def two(first: float, second: float) -> dict:
    """An evenly coloured picture and another."""
    values = {"pixel_values": first, "other_pixel_values": second}
    example = {name: np.full((HEIGHT, WIDTH, 3), value, np.uint8) for name, value in values.items()}
    return {**example, "labels": np.int32(3), "other_labels": np.int32(5), "index": np.uint32(7)}


def box_of(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """top, bottom, left, right of the only box that is true in `mask`; `None` where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    box = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    assert mask[box[0] : box[1], box[2] : box[3]].all() and mask.sum() == (box[1] - box[0]) * (box[3] - box[2])
    return box


def test_without_training_pictures_are_rescaled_and_normalised_alone():
    augmentation = Augmentation(color_jitter=0.4, erasing=1.0, mixup=0.8, cutmix=1.0)
    example = {"pixel_values": picture(0), "labels": np.int32(1)}
    found = seen(augmentation, example, 4, training=False)
    assert set(found) == set(example) and found["pixel_values"].dtype == np.float32
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for view in found["pixel_values"]:
        np.testing.assert_allclose(view, (example["pixel_values"] / 255 - mean) / std, atol=1e-6)


def test_half_of_the_pictures_are_seen_in_a_mirror():
    original = picture(0)
    views = seen(Augmentation(**{**PLAIN, "flip": 0.3}), {"pixel_values": original})["pixel_values"]
    same = (views == original).all(axis=(1, 2, 3))
    mirrored = (views == original[:, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all() and within(int(mirrored.sum()), COUNT, 0.3)


def jittered_slowly(original: np.ndarray, factors, order) -> np.ndarray:
    values = original.astype(int).tolist()

    def grey(pixel) -> int:
        return (
            round((19_595 * pixel[0] + 38_470 * pixel[1] + 7_471 * pixel[2]) / 2**16) if len(pixel) == 3 else pixel[0]
        )

    for which in order:
        greys = [grey(pixel) for row in values for pixel in row]
        mean = int(sum(greys) / len(greys) + 0.5)
        for row in values:
            for pixel in row:
                dull = {0: 0, 1: mean, 2: grey(pixel)}[which]
                pixel[:] = [min(max(int(dull + factors[which] * (value - dull)), 0), 255) for value in pixel]
    return np.array(values)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_as_the_formulas_say(order, channels):
    original, factors = picture(1, channels), (1.25, 0.75, 1.375)  # of which no product is rounded
    found = jittered(jnp.asarray(original), jnp.asarray(factors), jnp.asarray(order))
    np.testing.assert_array_equal(found, jittered_slowly(original, factors, order))


def test_factors_of_colours_are_drawn_evenly():
    """Of an even grey only brightness changes, and contrast and saturation of a coloured picture, too."""
    settings = {**PLAIN, "color_jitter": 0.4}
    brightness = seen(Augmentation(**settings), {"pixel_values": np.full((4, 4, 3), 100, np.uint8)})["pixel_values"]
    assert (brightness == brightness[:, :1, :1, :1]).all()
    factors = (brightness[:, 0, 0, 0] + 0.5) / 100
    counts = np.histogram(factors, 8, (0.6, 1.4))[0]
    assert counts.sum() == COUNT
    assert all(within(int(count), COUNT, 1 / 8) for count in counts)
    colours = seen(Augmentation(**settings), {"pixel_values": picture(2)}, 200)["pixel_values"]
    assert len({view.tobytes() for view in colours}) == 200 and colours.min() >= 0 and colours.max() <= 255


def test_erased_boxes_have_their_area_and_aspect_and_hold_noise():
    size, original = 32, picture(0, height=32, width=32)
    original = np.maximum(original, 50)  # noise does not reach it
    views = seen(Augmentation(**{**PLAIN, "erasing": 0.25}), {"pixel_values": original})["pixel_values"]
    changed = (views != original).all(axis=-1)
    assert ((views != original).any(axis=-1) == changed).all()
    boxes = [box for box in map(box_of, changed) if box is not None]
    assert within(len(boxes), COUNT, 0.25)
    for top, bottom, left, right in boxes:
        high, wide = bottom - top, right - left
        area = size * size
        assert (high + 0.5) * (wide + 0.5) >= 0.02 * area and (high - 0.5) * (wide - 0.5) <= area / 3
        assert (high + 0.5) / (wide - 0.5) >= 0.3 and (high - 0.5) / (wide + 0.5) <= 1 / 0.3
    noise = views[changed]
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size) and abs(noise.std() - 1) < 5 / np.sqrt(noise.size)


def test_erased_boxes_lie_anywhere_and_some_are_high_and_some_wide():
    keys = jax.random.split(jax.random.key(1), COUNT)
    boxes = [box_of(mask) for mask in np.asarray(jax.jit(jax.vmap(lambda key: erased_box(key, 20, 20)))(keys))]
    assert None not in boxes, "none of ten boxes fitted"
    tall = sum(bottom - top > right - left for top, bottom, left, right in boxes)
    even = sum(bottom - top == right - left for top, bottom, left, right in boxes)
    assert within(tall, COUNT - even, 0.5)
    up = sum(top < 20 - bottom for top, bottom, _, _ in boxes)
    middle = sum(top == 20 - bottom for top, bottom, _, _ in boxes)
    assert within(up, COUNT - middle, 0.5)
    assert {box[0] for box in boxes} >= {0, 10} and max(box[1] for box in boxes) == 20 == max(box[3] for box in boxes)


def pasted_slowly(share: float, row: int, column: int, height: int, width: int) -> np.ndarray:
    side = float(np.sqrt(np.float32(1) - np.float32(share)))
    high, wide = int(np.float32(side) * height) // 2, int(np.float32(side) * width) // 2
    mask = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            mask[y, x] = row - high <= y < row + high and column - wide <= x < column + wide
    return mask


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.5, 0.93, 1.0])
def test_pasted_boxes_are_those_of_the_released_code(share):
    """`rand_bbox` draws a middle; every box must be that of one, and all the boxes there are must come up."""
    keys = jax.random.split(jax.random.key(2), 600)
    masks = np.asarray(jax.jit(jax.vmap(lambda key: pasted_box(key, jnp.float32(share), 6, 8)))(keys))
    possible = {pasted_slowly(share, row, column, 6, 8).tobytes() for row in range(6) for column in range(8)}
    assert {mask.tobytes() for mask in masks} == possible


def test_what_is_mixed_is_mixed_in_the_share_that_is_told():
    augmentation = Augmentation(**PLAIN, mixup=0.8)
    found = seen(augmentation, two(0, 100))
    assert (found["labels"] == 3).all() and (found["other_labels"] == 5).all() and "other_pixel_values" not in found
    expected = 100 * (1 - found["mix"])[:, None, None, None]
    np.testing.assert_allclose(found["pixel_values"], np.broadcast_to(expected, found["pixel_values"].shape), atol=1e-4)
    assert found["mix"].min() >= 0 and found["mix"].max() <= 1


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_shares_of_mixtures_have_the_beta_distribution(alpha):
    mix = seen(Augmentation(**PLAIN, mixup=alpha), two(0, 100), 8_000)["mix"]
    draws = np.random.default_rng(0).beta(alpha, alpha, 1_000_000)
    for edge in (0.0101, 0.1, 0.3, 0.5, 0.8, 0.99):
        assert within(int((mix < edge).sum()), len(mix), float((draws < edge).mean()))
    assert abs(mix.mean() - 0.5) < 5 * draws.std() / np.sqrt(len(mix))


def test_what_is_pasted_has_the_share_that_is_told():
    found = seen(Augmentation(**PLAIN, cutmix=1.0), two(0, 100))
    pasted = found["pixel_values"] == 100
    assert ((found["pixel_values"] == 0) | pasted).all()
    boxes = list(map(box_of, pasted[..., 0]))
    assert sum(box is not None for box in boxes) > COUNT / 2
    np.testing.assert_allclose(found["mix"], 1 - pasted[..., 0].mean(axis=(1, 2)), atol=1e-6)
    assert 0 < found["mix"].mean() - 0.5 < 0.25, "what is cut off at the edges leaves more of the first picture"


def test_some_are_left_alone_some_mixed_and_some_pasted():
    settings = dict(mixup=0.8, cutmix=1.0, mix_probability=0.6, switch_probability=0.3)
    found = seen(Augmentation(**PLAIN, **settings), two(0, 100))
    low, high = found["pixel_values"].min(axis=(1, 2, 3)), found["pixel_values"].max(axis=(1, 2, 3))
    blended = (low == high) & (low > 0) & (low < 100)
    boxed = low < high
    alone = high == 0
    assert (found["mix"][alone] > 1 - 1e-5).all()
    np.testing.assert_allclose(found["pixel_values"].mean(axis=(1, 2, 3)), 100 * (1 - found["mix"]), atol=1e-3)
    assert within(int(blended.sum()), COUNT, 0.6 * 0.7)
    small = np.random.default_rng(0).random(100_000)  # shares of which so little is pasted that nothing is
    side = np.sqrt(1 - small)
    seen_at_all = ((side * HEIGHT).astype(int) // 2 > 0) & ((side * WIDTH).astype(int) // 2 > 0)
    assert within(int(boxed.sum()), COUNT, 0.6 * 0.3 * float(seen_at_all.mean()))


def test_the_second_picture_has_chances_of_its_own():
    augmentation = Augmentation(**{**PLAIN, "flip": 0.5}, mixup=1.0)
    first, second = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    first[:, 0], second[:, 0] = 100, 200
    found = seen(augmentation, {"pixel_values": first, "other_pixel_values": second})
    left, share = found["pixel_values"][:, 0, 0, 0], found["mix"]
    kinds = [0 * share, 100 * share, 200 * (1 - share), 100 * share + 200 * (1 - share)]
    clear = (np.abs(share - 2 / 3) > 0.05) & (share > 0.05) & (share < 0.95)
    nearest = np.abs(np.stack(kinds) - left[None]).argmin(axis=0)[clear]
    assert all(within(int((nearest == kind).sum()), int(clear.sum()), 0.25) for kind in range(4))


@pytest.mark.slow
def test_an_example_is_the_same_to_the_bit_whatever_its_batch():
    augmentation = Augmentation(color_jitter=0.4, erasing=0.5, mixup=0.8, cutmix=1.0)
    pictures = jnp.asarray(np.stack([picture(i) for i in range(8)]))
    batch = {"pixel_values": pictures, "other_pixel_values": pictures[::-1]}
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(8))
    each = jax.jit(jax.vmap(lambda key, example: augmentation(key, example, True)))
    together = each(keys, batch)
    for size in (1, 2):
        for begin in range(0, 8, size):
            alone = each(*jax.tree.map(lambda x, at=slice(begin, begin + size): x[at], (keys, batch)))
            for name in together:
                np.testing.assert_array_equal(together[name][begin : begin + size], alone[name])


def test_shapes_are_static():
    augmentation = Augmentation(color_jitter=0.4, erasing=0.5, mixup=0.8, cutmix=1.0)
    shapes = jax.eval_shape(lambda key, x: augmentation(key, x, True), jax.random.key(0), two(1, 2))
    assert shapes["pixel_values"].shape == (HEIGHT, WIDTH, 3) and shapes["pixel_values"].dtype == jnp.float32
    assert shapes["mix"].shape == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": 1.5},
        {"color_jitter": -0.1},
        {"erasing": 2.0},
        {"mixup": -1.0},
        {"image_std": (0.0, 1.0, 1.0)},
        {"image_mean": (0.5,)},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(DataError):
        Augmentation(**settings)


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"1 channel.*image_mean"):
        Augmentation()(jax.random.key(0), {"pixel_values": picture(0, 1)}, True)
    with pytest.raises(DataError, match="no second picture"):
        Augmentation(mixup=0.2)(jax.random.key(0), {"pixel_values": picture(0)}, True)
