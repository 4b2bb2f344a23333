"""Hundreds of damages to the files of checkpoints: the exact state comes back, or a sentence, never other numbers.

There are two checkpoints, of steps 1 and 2. A case damages one to three things, drawn from the seed of its group, of
either: bytes of any file or of its list of checksums, files and folders that are gone, swapped, older, or too many.
"""

import collections
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.test_checkpoints import IDENTITY, equal, state, template_of
from training.checkpoints import Checkpoints
from training.parallel import TrainingError

LOSSES = {1: 2.0, 2: 1.0}
GROUPS, CASES = 10, 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder / "checkpoints", identity=IDENTITY)
    for step, loss in LOSSES.items():
        checkpoints.save(state(step), loss)
    checkpoints.close()
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def any_file(rng: random.Random, folder: Path) -> Path | None:
    found = files(folder)
    return rng.choice(found) if found else None


def flip(rng: random.Random, folder: Path, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(rng: random.Random, folder: Path, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(max(1, path.stat().st_size))])


def empty(rng: random.Random, folder: Path, path: Path) -> None:
    path.write_bytes(b"")


def zeros(rng: random.Random, folder: Path, path: Path) -> None:
    """As a file system may leave what was not on the disk when the power went."""
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content) + 1)
    content[begin:] = bytes(len(content) - begin)
    path.write_bytes(content)


def lengthen(rng: random.Random, folder: Path, path: Path) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))


def remove(rng: random.Random, folder: Path, path: Path) -> None:
    path.unlink()


def swap(rng: random.Random, folder: Path, path: Path) -> None:
    other = rng.choice(files(folder))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def of_the_other(rng: random.Random, folder: Path, path: Path) -> None:
    """The file of the same name of the other checkpoint: well-formed, but not what belongs here."""
    place = path.relative_to(folder)
    other = {"1": "2", "2": "1", "1.json": "2.json", "2.json": "1.json"}
    twin = folder / Path(*(other.get(part, part) for part in place.parts))
    if twin.is_file():
        path.write_bytes(twin.read_bytes())


def add(rng: random.Random, folder: Path, path: Path) -> None:
    (path.parent / rng.choice((f"{path.name}.copy", "manifest.ocdbt", "_METADATA", "x"))).write_bytes(path.read_bytes())


def remove_folder(rng: random.Random, folder: Path, path: Path) -> None:
    shutil.rmtree(path.parent)


def half_written(rng: random.Random, folder: Path, path: Path) -> None:
    """A third checkpoint of which some files are there, under a name that a crash may leave or a hand may give."""
    source = folder / "checkpoints" / rng.choice("12")
    target = (
        folder / "checkpoints" / rng.choice(("3", "3.unfinished", "3.unfinished.orbax-checkpoint-tmp", "1.removed"))
    )
    for file in files(source):
        if rng.random() < 0.7:
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))


def list_under_another_name(rng: random.Random, folder: Path, path: Path) -> None:
    source = folder / "checkpoints.sums" / f"{rng.choice('12')}.json"
    if source.is_file():
        content = source.read_bytes()
        source.with_name(f"{rng.choice('123')}.json").write_bytes(content)


def exchange_folders(rng: random.Random, folder: Path, path: Path) -> None:
    one, two = folder / "checkpoints/1", folder / "checkpoints/2"
    if one.is_dir() and two.is_dir():
        one.rename(folder / "checkpoints/0")
        two.rename(one)
        (folder / "checkpoints/0").rename(two)


DAMAGES: tuple[Callable[[random.Random, Path, Path], None], ...] = (
    flip, flip, flip, truncate, truncate, empty, zeros, lengthen, remove, swap, of_the_other, add, remove_folder,
    half_written, list_under_another_name, exchange_folders,
)  # fmt: skip


def content(folder: Path, step: int) -> dict[str, bytes]:
    """All that belongs to a checkpoint, by name."""
    own = [*files(folder / "checkpoints" / str(step)), folder / "checkpoints.sums" / f"{step}.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in own if path.is_file()}


@pytest.mark.parametrize("group", range(GROUPS))
def test_the_exact_state_or_a_sentence(saved, tmp_path, group):
    rng = random.Random(group)
    outcomes = collections.Counter()
    folder = tmp_path / "run"
    checkpoints = Checkpoints(folder / "checkpoints", identity=IDENTITY)
    for _ in range(CASES):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        done = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            path, damage = any_file(rng, folder), rng.choice(DAMAGES)
            if path is not None:
                damage(rng, folder, path)
                done.append((damage.__name__, str(path.relative_to(folder))))
        whole = [step for step in (2, 1) if content(folder, step) == content(saved, step)]
        best = checkpoints.best()
        assert best is None or best in whole or checkpoints.damage(best) is not None, done
        try:
            found = checkpoints.restore(template_of(state(0)))
        except TrainingError as error:
            assert not whole and "is whole" in str(error), (done, str(error))
            outcomes["a sentence"] += 1
        else:
            if found is None:
                assert not checkpoints.steps(), done
                outcomes["none there"] += 1
            else:
                step = int(found[0].step)
                assert step == whole[0], done
                assert equal(found[0], state(step)), done
                outcomes[f"step {step}"] += 1
    checkpoints.close()
    assert outcomes["a sentence"] and outcomes["step 1"] and outcomes["step 2"], outcomes


def test_a_run_goes_on_over_what_a_crash_left(saved, tmp_path):
    """Half-written folders are removed, and a folder that no list of checksums knows is moved out of the way."""
    shutil.copytree(saved, tmp_path / "run")
    folder = tmp_path / "run/checkpoints"
    for name in ("3", "3.unfinished", "3.unfinished.orbax-checkpoint-tmp", "2.removed"):
        shutil.copytree(folder / "1", folder / name)
    checkpoints = Checkpoints(folder, identity=IDENTITY)
    restored, _ = checkpoints.restore(template_of(state(0)))
    assert equal(restored, state(2))
    checkpoints.discard_after(2)
    checkpoints.save(state(3))
    checkpoints.wait()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "3.set-aside-1"]
    assert len(files(folder / "3.set-aside-1")) == len(files(saved / "checkpoints/1"))
    assert sorted(path.name for path in checkpoints.sums.iterdir()) == ["2.json", "3.json"]
    assert equal(checkpoints.restore(template_of(state(0)))[0], state(3))
    checkpoints.close()


def test_looking_at_a_run_that_is_saving_takes_nothing_away(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(state(step))
        onlooker = Checkpoints(tmp_path / "checkpoints")
        onlooker.steps()
        onlooker.close()
    checkpoints.close()
    assert checkpoints.steps() == [2, 3] and checkpoints.damage(3) is None
