"""The owner of a run's folder: the one process that trains in it."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path

from training.parallel import TrainingError

log = logging.getLogger("lacuna")

LOCK = "owner.lock"
PATIENCE = 3.0
"""Seconds that a process which was killed may take to let go."""
BUSY = (errno.EAGAIN, errno.EACCES)


class Owner:
    """Within it, no other process that asks for the same folder trains there, on this host or, over NFS, on another.

    The lock is the kernel's (`flock` of `owner.lock`, which Linux passes on to an NFS server): it goes with the process
    that holds it, however that ends. The file says who that is. Where the file system has no locks, a warning says so;
    where the folder cannot be written, whoever writes there first says so.

    Raises:
        TrainingError: another process holds the folder; who, where and since when.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / LOCK
        self.file: int | None = None

    def __enter__(self) -> "Owner":
        self.file = self._open()
        if self.file is not None and not self._lock(self.file):
            self._close()
        if self.file is not None:
            os.register_at_fork(after_in_child=self._close)  # a child that outlives this process must not keep the lock
            about = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
                "command": sys.argv,
            }
            self._write(json.dumps(about).encode())
        return self

    def __exit__(self, *_: object) -> None:
        self._write(b"")
        self._close()

    def _open(self) -> int | None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # somebody else's file may be one to read alone
            with contextlib.suppress(OSError):
                return os.open(self.path, flags, 0o666)
        return None

    def _lock(self, file: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in BUSY:
                    log.warning(
                        "%s is on a file system without locks (%s): no second run may be started there",
                        self.folder,
                        error,
                    )
                    return False
            if time.monotonic() > deadline:
                who = self._who(file)
                self._close()
                raise TrainingError(
                    f"another process is training in {self.folder}{who}: wait for its end, or choose another folder with"
                    " --folder"
                )
            time.sleep(0.1)

    def _who(self, file: int) -> str:
        try:
            about = json.loads(os.pread(file, 1 << 16, 0))
            return f" (process {about['pid']} on {about['host']}, since {about['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _write(self, content: bytes) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, content, 0)

    def _close(self) -> None:
        if self.file is not None:
            file, self.file = self.file, None
            os.close(file)
