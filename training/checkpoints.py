"""Checkpoints: Orbax, asynchronous and atomic; every file's checksum is written beside them and verified on reading."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from training.identity import Identity
from training.parallel import TrainingError
from training.processes import at_first

log = logging.getLogger("lacuna")

UNFINISHED = re.compile(r"\d+\.(unfinished|removed)(\.orbax-checkpoint-tmp.*)?", re.ASCII)
"""Folders that a crash leaves while a checkpoint is written or removed, Orbax's own included."""


def write_json(path: Path, value: Any) -> None:
    """Write atomically: `path` holds the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as file:
            json.dump(value, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def checksums(folder: Path) -> dict[str, str]:
    """{relative path: sha256} of every file under `folder`."""
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            sums[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def digest(value: Any) -> str:
    """sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The checkpoints of a run: the newest ones and the best one are kept.

    A checkpoint is the folder `<step>` with the state, the description of the experiment and the fingerprint of its data.
    `<step>.json` in `sums` holds the checksums of its files, the figure by which it is judged, and a checksum of its own. The
    folder is written under another name and renamed when all of this is there: a crash leaves a whole checkpoint or none.
    Nothing is removed that was not written here: a folder without its `<step>.json` is somebody else's.

    Args:
        identity: what a checkpoint must have been made with; others are refused.
        keep: so many of the newest, at least two.
        measured_on: what the figures are of, as JSON; those with the same value can be compared.
        more_is_better: whether the best figure is the highest, rather than the lowest.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity | None = None,
        keep: int = 2,
        measured_on: Any = None,
        more_is_better: bool = False,
    ):
        self.folder = Path(folder).absolute()
        self.sums = self.folder.with_name(f"{self.folder.name}.sums")
        self.keep = max(2, keep)
        self.identity = identity or Identity()
        self.measured_on, self.more_is_better = measured_on, more_is_better
        self.orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._finishing: threading.Thread | None = None
        self._error: Exception | None = None
        self._step = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sums.mkdir(exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot keep checkpoints in {self.folder}: {error.strerror or error}") from error

    def save(self, state: PyTree, figure: float | None = None) -> None:
        """Begin to save; the `figure` decides which checkpoint is the best.

        Returns once the state is copied from the devices. Raises `TrainingError` where this or the save before failed.
        """
        self.wait()
        step = self._step = int(state.step)
        path, there = self.folder / str(step), False
        if jax.process_index() == 0 and path.exists():
            there = self.damage(step) is None
            if not there:
                self._make_room(step)
        if at_first(there):
            return
        try:
            self._sweep()
            needed, free = sum(x.nbytes for x in jax.tree.leaves(state)), shutil.disk_usage(self.folder).free
            if free < needed:
                raise OSError(errno.ENOSPC, f"No space left: {needed:,} bytes are needed and {free:,} are free")
            self.orbax.save(
                self._unfinished(step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    experiment=ocp.args.JsonSave(dict(self.identity.description)),
                    data=ocp.args.JsonSave({"fingerprint": self.identity.data}),
                ),
            )
        except Exception as error:
            raise self._failure(error) from error
        self._finishing = threading.Thread(target=self._finish, args=(step, figure), name=f"checkpoint {step}")
        self._finishing.start()

    def _finish(self, step: int, figure: float | None) -> None:
        """In the background: wait for Orbax, write the checksums, remove what is no longer kept."""
        try:
            self.orbax.wait_until_finished()
            if jax.process_index() == 0:
                unfinished = self._unfinished(step)
                about = {
                    "step": step,
                    "figure": figure,
                    "more_is_better": self.more_is_better,
                    "measured_on": self.measured_on,
                    "files": checksums(unfinished),
                }
                write_json(self.sums / f"{step}.json", {**about, "sha256": digest(about)})
                os.rename(unfinished, self.folder / str(step))
                written = [step for step in self.steps() if self._is_ours(step)]
                for old in {*written} - {*written[-self.keep :], *self._bests()}:
                    self._remove(old)
        except Exception as error:
            self._error = error

    def _unfinished(self, step: int) -> Path:
        """What the folder of a checkpoint is called until it is whole."""
        return self.folder / f"{step}.unfinished"

    def _is_ours(self, step: int) -> bool:
        """Whether the folder of a step was written here: then its list of checksums was there before it."""
        return (self.sums / f"{step}.json").exists()

    def _sweep(self) -> None:
        """Remove what a crash left half-written or half-removed; what has another name is not ours."""
        if jax.process_index() != 0:
            return
        for path in self.folder.iterdir():
            if UNFINISHED.fullmatch(path.name):
                remove_folder(path)
        for path in self.sums.glob("*.json"):
            if is_step(path.stem) and not (self.folder / path.stem).exists():
                path.unlink(missing_ok=True)

    def _remove(self, step: int) -> None:
        removed = self.folder / f"{step}.removed"
        remove_folder(removed)
        (self.folder / str(step)).rename(removed)
        (self.sums / f"{step}.json").unlink(missing_ok=True)
        remove_folder(removed)

    def _make_room(self, step: int) -> None:
        """Remove a damaged checkpoint whose step is to be written again; move a folder that is not ours out of the way."""
        if self._is_ours(step):
            self._remove(step)
            return
        path = aside = self.folder / str(step)
        number = 0
        while aside.exists():
            number += 1
            aside = path.with_name(f"{step}.set-aside-{number}")
        log.warning("%s is no checkpoint of this run, which is about to write one there: it is now %s", path, aside)
        path.rename(aside)

    def wait(self) -> None:
        """Wait for the save under way."""
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> TrainingError:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reason = reason if len(reason) < 300 else f"{reason[:100]} … {reason[-200:]}"
        whole = [step for step in self.steps() if self.damage(step) is None]
        left = f"the checkpoint of step {whole[-1]} is whole: the run goes on from it" if whole else "there is none yet"
        return TrainingError(
            f"the checkpoint of step {self._step} could not be written to {self.folder}: {reason}; {left}"
        )

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, whole or not, ascending."""
        return sorted(int(path.name) for path in self.folder.glob("*") if path.is_dir() and is_step(path.name))

    def _about(self, step: int) -> dict[str, Any]:
        """What was written of a checkpoint; `ValueError` says in words why that is not known."""
        try:
            about = json.loads((self.sums / f"{step}.json").read_bytes())
            written = about.pop("sha256")
            if about["step"] == step and written == digest(about):
                return about
        except FileNotFoundError as error:
            raise ValueError("its list of checksums is missing") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("its list of checksums is damaged") from error
        raise ValueError("its list of checksums is damaged")

    def damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint, `None` where its files are what was written."""
        try:
            written, actual = self._about(step)["files"], checksums(self.folder / str(step))
        except ValueError as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read ({error.strerror or error})"
        for name in sorted({*written, *actual}):
            if name not in actual:
                return f"{name} is missing"
            if name not in written:
                return f"{name} is not of it"
            if actual[name] != written[name]:
                return f"{name} is not what was written (its checksum differs)"
        return None

    def best(self) -> int | None:
        """Step of the checkpoint with the best figure, of those measured on what the newest one was measured on."""
        return next(reversed(self._bests()), None)

    def _bests(self) -> list[int]:
        """The best checkpoint of each `measured_on`; the last is that of the newest."""
        figures: dict[tuple[str, bool], dict[int, float]] = {}
        for step in self.steps():
            try:
                about = self._about(step)
            except ValueError as error:
                log.warning("checkpoint of step %d in %s is not considered as the best: %s", step, self.folder, error)
                continue
            figure = about.get("figure", about.get("loss"))  # `loss` in checkpoints of before
            if figure is not None:
                on = json.dumps(about.get("measured_on"), sort_keys=True), about.get("more_is_better", False)
                figures[on] = {**figures.pop(on, {}), step: figure}
        return [(max if more else min)(steps, key=steps.__getitem__) for (_, more), steps in figures.items()]

    def restore(
        self, template: PyTree | Callable[[int], PyTree], step: int | None = None
    ) -> tuple[PyTree, dict[str, Any]] | None:
        """The newest whole checkpoint (or that of `step`) and the experiment it belongs to; `None` where there is none.

        Args:
            template: state of the same structure, as `jax.ShapeDtypeStruct` with the shardings wanted; or what gives that of
                a step.

        Damaged ones are passed over with a warning; `TrainingError` where there are some but none is whole.
        """
        steps = self.steps()[::-1] if step is None else [step]
        latest, damaged = -1, []
        for candidate in steps if jax.process_index() == 0 else []:
            damage = self.damage(candidate)
            if damage is None:
                latest = candidate
                break
            damaged.append(f"step {candidate}: {damage}")
            log.warning("checkpoint of step %d in %s passed over: %s", candidate, self.folder, damage)
        latest = at_first(latest)
        if latest >= 0:
            return self._read(latest, template(latest) if callable(template) else template)
        if steps:
            raise TrainingError(
                f"no checkpoint in {self.folder} is whole ({'; '.join(damaged)}); move it away to start again"
            )
        return None

    def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
        path = self.folder / str(step)
        try:
            data = self._json(path, "data")["fingerprint"] if (path / "data").is_dir() else ""
            description = self.identity.check(path, self._json(path, "experiment"), data)
            restored = self.orbax.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore(template)))
        except Exception as error:
            if isinstance(error, TrainingError) or path.exists():
                raise
            raise TrainingError(f"{path} was removed while it was read, by the run that is training there") from error
        return restored["state"], description

    def _json(self, path: Path, item: str) -> dict[str, Any]:
        """One of the JSON items of the checkpoint in `path`."""
        return self.orbax.restore(path, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item]

    def discard_after(self, step: int) -> None:
        """Remove checkpoints of later steps than `step`: damaged ones, which a resumed run is going to write again."""
        for later in self.steps() if jax.process_index() == 0 else []:
            if later > step and self._is_ours(later):
                self._remove(later)

    def close(self) -> None:
        self.wait()
        self.orbax.close()


def is_step(name: str) -> bool:
    """Whether a checkpoint may be called so: a number without leading zeros."""
    return re.fullmatch(r"0|[1-9]\d*", name, re.ASCII) is not None


def remove_folder(path: Path) -> None:
    """Remove a folder, or the link to one; what cannot be removed now, as NFS keeps open files, is left for later."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
