"""Checkpoints: exact, verified, the newest and the best kept, and nothing lost by a failed write."""

import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training.checkpoints import Checkpoints, template_of
from training.parallel import TrainingError
from training.step import TrainState

DESCRIPTION = {"seed": 0, "model": {"hidden_size": 8}}


def state(step: int) -> TrainState:
    params = {"a": jax.random.normal(jax.random.key(step), (5, 7)), "b": jnp.arange(3, dtype=jnp.bfloat16)}
    return TrainState(jnp.int32(step), params, {"mu": jax.tree.map(jnp.ones_like, params), "count": jnp.int32(step)})


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.fixture
def checkpoints(tmp_path):
    found = Checkpoints(tmp_path / "checkpoints", keep=2, description=DESCRIPTION)
    yield found
    found.close()


def test_what_is_saved_comes_back(checkpoints):
    checkpoints.save(state(3))
    checkpoints.wait()
    restored, description = checkpoints.restore(template_of(state(0)))
    assert equal(restored, state(3))
    assert description == DESCRIPTION


def test_newest_and_best_are_kept(checkpoints):
    for step, loss in [(1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 2.5)]:
        checkpoints.save(state(step), loss)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best() == 2


def test_without_any_there_is_nothing_to_restore(checkpoints):
    assert checkpoints.restore(template_of(state(0))) is None


def files_of(checkpoints, step):
    return sorted(p for p in (checkpoints.folder / str(step)).rglob("*") if p.is_file())


def test_every_damage_is_seen_and_the_one_before_is_taken(checkpoints):
    for step in (1, 2):
        checkpoints.save(state(step))
    checkpoints.wait()
    rng = random.Random(0)
    whole = checkpoints.folder.with_name("whole")
    shutil.copytree(checkpoints.folder / "2", whole)
    for path in files_of(checkpoints, 2):
        for kind in ("flip", "truncate", "remove"):
            content = path.read_bytes()
            if kind == "flip" and content:
                place = rng.randrange(len(content))
                path.write_bytes(
                    content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
                )
            elif kind == "truncate" and content:
                path.write_bytes(content[: rng.randrange(len(content))])
            elif kind == "remove":
                path.unlink()
            else:
                continue
            restored, _ = checkpoints.restore(template_of(state(0)))
            assert equal(restored, state(1)), (path, kind)
            path.write_bytes(content)
    assert equal(checkpoints.restore(template_of(state(0)))[0], state(2))


def test_damaged_checksums_count_as_damage(checkpoints):
    checkpoints.save(state(1))
    checkpoints.wait()
    (checkpoints.sums / "1.json").write_text('{"files": ')
    with pytest.raises(TrainingError, match=r"no checkpoint .* is whole"):
        checkpoints.restore(template_of(state(0)))


def test_another_experiment_is_refused(checkpoints):
    checkpoints.save(state(1))
    checkpoints.wait()
    other = Checkpoints(checkpoints.folder, description={"seed": 0, "model": {"hidden_size": 16}})
    with pytest.raises(TrainingError, match=r"another experiment \(model.hidden_size: 8 there, 16 here\)"):
        other.restore(template_of(state(0)))
    other.close()


def test_a_failed_write_leaves_the_one_before(checkpoints, monkeypatch):
    checkpoints.save(state(1))
    checkpoints.wait()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.checkpoints.write_json", full)
    checkpoints.save(state(2))
    with pytest.raises(TrainingError, match=r"step 2 could not be written .* No space left .* step 1 is whole"):
        checkpoints.wait()
    monkeypatch.undo()
    assert equal(checkpoints.restore(template_of(state(0)))[0], state(1))


def test_a_folder_that_cannot_be_made_is_a_sentence():
    with pytest.raises(TrainingError, match="cannot keep checkpoints"):
        Checkpoints(Path("/proc/none/checkpoints"))
