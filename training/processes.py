"""Several processes, through `jax.distributed`: where they meet, and how they agree to stop."""

import contextlib
import ctypes
import dataclasses
import hashlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from training.parallel import TrainingError
from training.supervisor import BEAT_SECONDS, BEATS, Place


@dataclasses.dataclass(frozen=True)
class Processes:
    """Several processes: on SLURM, Open MPI, Kubernetes and TPU pods they find one another; elsewhere by these flags.

    Attributes:
        coordinator: host:port of process 0; the port after it is used too.
        processes: how many there are; 1 runs alone, whatever the cluster says.
        process: which of them this one is, from 0.
        wait: seconds to wait for the others.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    wait: float = 300.0

    def place(self) -> Place | None:
        """Where this process belongs; `None` where it is alone.

        Raises:
            TrainingError: only some of the three are known.
        """
        if self.processes == 1:
            return None
        given = (self.coordinator, self.processes, self.process)
        try:
            found = (*given, None) if None not in given else _of_cluster(*given, round(self.wait))
        except Exception as error:
            raise TrainingError(f"the cluster's settings cannot be read ({error}); --processes 1 runs alone") from error
        coordinator, processes, process, _ = found
        if found == (None, None, None, None) or (processes == 1 and self.processes is None):
            return None
        missing = [
            f"--{name}"
            for name, value in zip(("coordinator", "processes", "process"), found, strict=False)
            if value is None
        ]
        if missing:
            raise TrainingError(f"several processes need {' and '.join(missing)} too")
        host, _, port = str(coordinator).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65535:
            raise TrainingError(f"--coordinator {coordinator}: expected host:port, a port from 1 to 65534")
        if not 0 <= int(process) < int(processes):
            raise TrainingError(f"--process {process}: expected a number from 0 to {int(processes) - 1}")
        return Place(str(coordinator), int(processes), int(process), self.wait)


def _of_cluster(coordinator: str | None, processes: int | None, process: int | None, timeout: int):
    """What JAX finds in the environment of SLURM, Open MPI, Kubernetes and TPU pods, for what is not given."""
    from jax._src.clusters import ClusterEnv  # there is no public way to ask before joining

    return ClusterEnv.auto_detect_unset_distributed_params(coordinator, processes, process, None, None, timeout)


def facts(packages: Sequence[str], file: Path | None = None) -> dict[str, str]:
    """What has to be the same in every process: versions, this code, and the experiment's file."""
    root, code = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        code.update(path.read_bytes())
    known = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")}
    known["code"] = code.hexdigest()[:12]
    if file is not None and file.is_file():
        known[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return known


def join(place: Place) -> None:
    """Make this supervised process one of several, before JAX is asked for devices."""
    with contextlib.suppress(AttributeError, OSError):  # Linux: do not outlive the supervisor
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
    threading.Thread(target=_beat, args=(int(os.environ[BEATS]),), daemon=True, name="beats").start()
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        initialization_timeout=max(10, round(place.wait)),
        shutdown_timeout_seconds=3600,
    )


@contextlib.contextmanager
def leave() -> Iterator[None]:
    """End this process as its block ends, without waiting for the others where it ends badly.

    JAX meets the others before a process exits: right where all is done, a hang where one alone has failed.
    """
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        time.sleep(3.0)  # most likely another process is gone, and the supervisor is about to say which
        traceback.print_exc()
        code = 1
    else:
        code = 0
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    jax.distributed.shutdown()


def _beat(feed: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            os.write(feed, b".")
            time.sleep(BEAT_SECONDS)


def agree(values: Mapping[str, str]) -> None:
    """Raise `TrainingError`, in every process, where a value is not the same in all; the names must be."""
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(value.encode()).digest()[:8] for value in values.values()]
    everyones = multihost_utils.process_allgather(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 8))
    for number, name in enumerate(values):
        different = [
            process for process, facts in enumerate(everyones) if (facts[number] != everyones[0][number]).any()
        ]
        if different:
            which = ", ".join(map(str, different))
            raise TrainingError(f"process {which} does not have the same {name} as process 0")


def at_first(value: int) -> int:
    """Process 0's `value`, in every process."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if jax.process_count() > 1 else value
