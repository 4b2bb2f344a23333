"""Post-processing of masks against live `transformers`: the same segments, numbers, scores and order, ties but for.

Pictures are wider than high and no multiples of the masks, and some masks overlap, are empty or lose to others.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from inference import segments
from tests.parity.reference import torch, transformers

CLASSES, QUERIES, SIZE = 70, 12, (53, 91)


def predictions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, half of whose queries are sure of a class."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(QUERIES, CLASSES + 1))
    scores[np.arange(QUERIES), random.integers(0, 4, QUERIES)] += random.choice([3.0, 9.0], QUERIES)
    scores[0, -1] += 20  # no object
    rows, columns = np.mgrid[:16, :24] / 16
    middles, radii = random.random((QUERIES, 2)) * [1, 1.5], random.uniform(0.05, 0.6, QUERIES)
    far = np.hypot(rows - middles[:, :1, None], columns - middles[:, 1:, None])
    masks = 12 * (radii[:, None, None] - far) + random.normal(size=far.shape) * 0.3
    masks[1] = -5  # nowhere
    return scores.astype(np.float32), masks.astype(np.float32)


def processor():
    return transformers.Mask2FormerImageProcessor()


def outputs(scores, masks):
    return SimpleNamespace(
        class_queries_logits=torch.tensor(scores)[None], masks_queries_logits=torch.tensor(masks)[None]
    )


def same(found: segments.Segmentation, expected: dict) -> None:
    listed = [(x["id"], x["label_id"], x["was_fused"]) for x in expected["segments_info"]]
    assert [(x.number, x.label, x.fused) for x in found.segments] == listed
    scores = [x["score"] for x in expected["segments_info"]]
    np.testing.assert_allclose([x.score for x in found.segments], scores, atol=2e-6)
    assert (found.numbers == expected["segmentation"].numpy()).mean() > 0.9995  # but where two are equally likely


@pytest.mark.parametrize("seed", range(6))
def test_semantic(seed):
    scores, masks = predictions(seed)
    (expected,) = processor().post_process_semantic_segmentation(outputs(scores, masks), target_sizes=[SIZE])
    assert (segments.semantic(scores, masks, SIZE) == expected.numpy()).mean() > 0.9995


@pytest.mark.parametrize("threshold", [0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_instances(seed, threshold):
    scores, masks = predictions(seed)
    (expected,) = processor().post_process_instance_segmentation(
        outputs(scores, masks), threshold=threshold, target_sizes=[SIZE]
    )
    found = segments.instances(scores, masks, SIZE, threshold=threshold)
    assert len(found.segments) > 1
    same(found, expected)


@pytest.mark.parametrize(("threshold", "overlap"), [(0.5, 0.8), (0.3, 0.2)])
@pytest.mark.parametrize("seed", range(4))
def test_panoptic(seed, threshold, overlap):
    scores, masks = predictions(seed)
    settings = dict(threshold=threshold, overlap_mask_area_threshold=overlap)
    (expected,) = processor().post_process_panoptic_segmentation(
        outputs(scores, masks), target_sizes=[SIZE], **settings
    )
    found = segments.panoptic(scores, masks, SIZE, threshold=threshold, overlap=overlap)
    assert len(found.segments) > 1
    same(found, expected)


def quarters(labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A query for each of four columns of the picture."""
    scores = np.full((4, CLASSES + 1), -10, np.float32)
    scores[np.arange(4), labels] = 10
    masks = np.full((4, 16, 16), -10, np.float32)
    for query in range(4):
        masks[query, :, 4 * query : 4 * query + 4] = 10 + query  # so that no pixel is as likely one as the other
    return scores, masks


def test_fused_segments_have_one_number():
    scores, masks = quarters([3, 5, 5, 3])
    (expected,) = processor().post_process_panoptic_segmentation(
        outputs(scores, masks), label_ids_to_fuse={3}, target_sizes=[SIZE]
    )
    found = segments.panoptic(scores, masks, SIZE, fused={3})
    assert [x.number for x in found.segments] == [1, 2, 3, 1]
    same(found, expected)


def test_no_two_segments_share_a_number_after_a_fused_one():
    """There the fourth column, of another class, gets the number of the second."""
    scores, masks = quarters([3, 5, 3, 7])
    (expected,) = processor().post_process_panoptic_segmentation(
        outputs(scores, masks), label_ids_to_fuse={3}, target_sizes=[SIZE]
    )
    found = segments.panoptic(scores, masks, SIZE, fused={3})
    assert [x["id"] for x in expected["segments_info"]] == [1, 2, 1, 2]
    assert [x.number for x in found.segments] == [1, 2, 1, 3]


def test_nothing_is_found():
    scores, masks = predictions(0)
    scores[:, -1] = 50
    for task in ("panoptic", "instance"):
        (expected,) = getattr(processor(), f"post_process_{task}_segmentation")(
            outputs(scores, masks), target_sizes=[SIZE]
        )
        found = (segments.panoptic if task == "panoptic" else segments.instances)(scores, masks, SIZE)
        assert not found.segments
        np.testing.assert_array_equal(found.numbers, expected["segmentation"].numpy())
