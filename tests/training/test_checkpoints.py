"""Checkpoints: exact, verified, the newest and the best kept, and nothing lost by a failed write."""

import json
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training.checkpoints import Checkpoints, digest
from training.identity import Identity
from training.parallel import TrainingError
from training.state import TrainState

DESCRIPTION = {"seed": 0, "model": {"hidden_size": 8}}
IDENTITY = Identity(description=DESCRIPTION)


def state(step: int) -> TrainState:
    params = {"a": jax.random.normal(jax.random.key(step), (5, 7)), "b": jnp.arange(3, dtype=jnp.bfloat16)}
    return TrainState(jnp.int32(step), params, {"mu": jax.tree.map(jnp.ones_like, params), "count": jnp.int32(step)})


def template_of(state):
    """Shapes, dtypes and shardings of a state, for `Checkpoints.restore`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.fixture
def checkpoints(tmp_path):
    found = Checkpoints(tmp_path / "checkpoints", keep=2, identity=IDENTITY)
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


def test_more_may_be_better(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, identity=IDENTITY, more_is_better=True)
    for step, f1 in [(1, 0.5), (2, 0.9), (3, 0.7), (4, None), (5, 0.6)]:
        checkpoints.save(state(step), f1)
    checkpoints.wait()
    assert checkpoints.best() == 2 and checkpoints.steps() == [2, 4, 5]
    checkpoints.close()


def test_losses_of_before_are_read(checkpoints):
    """Checkpoints once held a `loss`, of which less is better, and said nothing of more."""
    for step, loss in [(1, 1.0), (2, 3.0)]:
        checkpoints.save(state(step), loss)
        checkpoints.wait()
        path = checkpoints.sums / f"{step}.json"
        about = json.loads(path.read_text())
        del about["sha256"], about["more_is_better"]
        about["loss"] = about.pop("figure")
        path.write_text(json.dumps({**about, "sha256": digest(about)}))
    checkpoints.save(state(3), 2.0)
    checkpoints.wait()
    assert checkpoints.best() == 1 and checkpoints.steps() == [1, 2, 3]


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
    other = Checkpoints(checkpoints.folder, identity=Identity(description={"seed": 0, "model": {"hidden_size": 16}}))
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


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_it_did_not_write_is_neither_removed_nor_in_the_way(checkpoints):
    """A copy to keep, notes, a number that is no step, a link, a checkpoint that was put there by hand."""
    checkpoints.save(state(1))
    checkpoints.wait()
    folder = checkpoints.folder
    for name in ("1.keep-for-paper", "007", "²", "99", "5"):
        shutil.copytree(folder / "1", folder / name)
    shutil.copytree(folder / "1", folder.parent / "elsewhere")
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    (folder / "notes.txt").write_text("the run of March")
    (folder / "3.unfinished.txt").write_text("")
    (checkpoints.sums / "notes.json").write_text("{}")
    others = {name for name in names(folder) if name.split("/")[0] != "1"}
    for step in (2, 3, 4, 5, 6):
        checkpoints.discard_after(step - 1)
        checkpoints.save(state(step), 10.0 - step)
    checkpoints.wait()
    moved = {f"5.set-aside-1{name[1:]}" if name.startswith("5/") else name for name in others}
    assert moved <= names(folder)
    assert (folder / "link").is_symlink() and names(folder.parent / "elsewhere")
    assert (checkpoints.sums / "notes.json").exists()
    assert [step for step in checkpoints.steps() if checkpoints.damage(step) is None] == [5, 6]
    assert equal(checkpoints.restore(template_of(state(0)))[0], state(6))


def test_a_checkpoint_that_lies_elsewhere_by_a_link_is_let_go_of(checkpoints):
    checkpoints.save(state(1))
    checkpoints.wait()
    elsewhere = checkpoints.folder.parent / "elsewhere"
    (checkpoints.folder / "1").rename(elsewhere)
    (checkpoints.folder / "1").symlink_to(elsewhere)
    assert equal(checkpoints.restore(template_of(state(0)))[0], state(1))
    for step in (2, 3):
        checkpoints.save(state(step))
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3] and names(elsewhere)


def of_data(checkpoints: Checkpoints, data: str, **settings) -> Checkpoints:
    return Checkpoints(checkpoints.folder, identity=Identity(data=data, **{"description": DESCRIPTION, **settings}))


def test_other_data_are_refused_or_gone_on_with_knowingly(checkpoints, caplog):
    before, after = of_data(checkpoints, "before"), of_data(checkpoints, "after")
    before.save(state(1))
    before.close()
    with pytest.raises(TrainingError, match=r"data are not those .* step 1 .*before there, after here.*--data-changed"):
        after.restore(template_of(state(0)))
    knowingly = of_data(checkpoints, "after", data_may_differ=True)
    assert equal(knowingly.restore(template_of(state(0)))[0], state(1))
    assert "--data-changed go-on says to go on" in caplog.text
    knowingly.save(state(2))
    knowingly.close()
    assert equal(after.restore(template_of(state(0)))[0], state(2))
    after.close()


def test_the_same_data_may_lie_elsewhere_and_one_may_look_more_often(checkpoints):
    described = {"seed": 0, "data": {"source": "here", "tokenizer": "a.json", "held_out": 0.1}, "log_every": 1}
    moved = {"seed": 0, "data": {"source": "there", "tokenizer": "b.json", "held_out": 0.1}, "log_every": 9}
    of_before = of_data(checkpoints, "", description=described)  # a checkpoint of before holds no fingerprint
    of_before.save(state(1))
    of_before.close()
    looked = of_data(checkpoints, "same", description={**described, "log_every": 9}, ignored=["log_every"])
    assert equal(looked.restore(template_of(state(0)))[0], state(1))
    with pytest.raises(TrainingError, match=r"data.source: 'here' there, 'there' here; data.tokenizer"):
        of_data(checkpoints, "same", description=moved, ignored=["log_every"]).restore(template_of(state(0)))
    looked.save(state(2))
    looked.close()
    found = of_data(checkpoints, "same", description=moved, ignored=["log_every"]).restore(template_of(state(0)))
    assert equal(found[0], state(2))


def test_a_checkpoint_from_before_there_was_a_field_has_its_default(checkpoints):
    checkpoints.save(state(1))
    checkpoints.wait()
    described = {**DESCRIPTION, "model": {"hidden_size": 8, "new": {"part": 3}}}
    now = of_data(checkpoints, "", description=described, at_default=["model.new.part", "model.hidden_size"])
    assert equal(now.restore(template_of(state(0)))[0], state(1))
    now.close()
    for other in (
        {"at_default": []},
        {"at_default": ["model.hidden_size"], "description": {**DESCRIPTION, "model": {}}},
    ):
        with pytest.raises(TrainingError, match="another experiment"):
            of_data(checkpoints, "", **{"description": described, **other}).restore(template_of(state(0)))


def test_the_best_is_chosen_among_those_measured_on_the_same(checkpoints):
    """Few examples may be lucky: their loss is no reason to prefer a checkpoint, nor to remove the best of before."""
    for step, loss, examples in [(1, 2.0, 100), (2, 2.5, 100), (3, 1.0, 3), (4, 1.5, 3), (5, 1.4, 3)]:
        checkpoints.measured_on = {"examples": examples}
        checkpoints.save(state(step), loss)
        checkpoints.wait()
        assert checkpoints.best() == (1 if step < 3 else 3)
    assert checkpoints.steps() == [1, 3, 4, 5]


def test_a_checkpoint_that_goes_while_it_is_read_is_a_sentence(checkpoints, monkeypatch):
    checkpoints.save(state(1))
    checkpoints.wait()
    monkeypatch.setattr(Checkpoints, "damage", lambda self, step: shutil.rmtree(self.folder / str(step)))
    with pytest.raises(TrainingError, match=r"removed while it was read"):
        checkpoints.restore(template_of(state(0)))
