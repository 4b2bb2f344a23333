"""Files that other processes may be making at the same time, or that a killed process may have left half made."""

import contextlib
import difflib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db")
"""What operating systems leave in folders."""


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: `.git`, `._text.txt`, `.ipynb_checkpoints`, `LITTER`."""
    return name.startswith(".") or name in LITTER


def files_below(folder: Path | str, suffixes: Sequence[str]) -> list[str]:
    """The files in a folder or deeper whose names end so in any case, relative to it with `/`, sorted.

    Hidden files and folders are passed over. Links are followed, but a folder is not entered again inside itself. A link to
    nothing is listed: whoever reads it says so.
    """
    names: list[str] = []
    suffixes = tuple(suffixes)

    def walk(path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        state = os.stat(path)
        place = (state.st_dev, state.st_ino)
        if place in above:
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if hidden(entry.name):
                    continue
                if entry.is_dir():
                    walk(entry.path, f"{prefix}{entry.name}/", (*above, place))
                elif entry.name.lower().endswith(suffixes) and (entry.is_file() or not os.path.exists(entry.path)):
                    names.append(prefix + entry.name)

    walk(os.fspath(folder), "", ())
    return sorted(names)


def on_disk(path: Path, more: str = "") -> str:
    """What is called nearly as a path that is not there, in words, with `more` behind; empty for nothing."""
    missing = next((place for place in (*reversed(path.parents), path) if not place.exists()), path)
    try:
        names = [entry.name for entry in missing.parent.iterdir() if not hidden(entry.name)]
    except OSError:
        return ""
    match = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.7)
    return f"the nearest on disk is {str(missing.parent / match[0])!r}{more}" if match else ""


def state_of(path: Path | str) -> tuple[int, int, int]:
    """Size, time of the last change of the content and of the entry, by which it is seen that a file changed; zeros
    where there is none."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return 0, 0, 0
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process of this host at a time inside, for one `path`; the lock goes with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(path)
        except OSError:  # another host, which no lock of ours reaches, may have been first
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
