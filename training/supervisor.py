"""Watches over one process of several, so that a job starts when all are there and ends when one of them is gone.

`jax.distributed` aborts a process whose peer is missing, and does not say which. So beside each training process stands
this one, which needs nothing of JAX and therefore lives when that is killed, hangs, or is aborted. The supervisors meet at
process 0, on the port after the coordinator's, and tell one another in lines of JSON: who is there, that they are alive,
how they ended.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from training.parallel import TrainingError

BEAT_SECONDS = 5.0
"""Between two signs of life of a training process."""
SILENCE_SECONDS = 40.0
"""Without one for so long, it counts as gone."""
LEAVING_SECONDS = 60.0
"""For the others to end, once one has ended in good order."""

PLACE, BEATS = "LACUNA_PROCESS", "LACUNA_BEATS"
"""Environment of a supervised process: its `Place`, and the file descriptor that its signs of life go to."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Which process of how many this is, and where they meet.

    Attributes:
        coordinator: host:port of process 0; the supervisors meet on the port after it.
        processes: how many there are.
        process: which of them this one is, from 0.
        wait: seconds to wait for the others.
    """

    coordinator: str
    processes: int
    process: int
    wait: float = 300.0

    @property
    def meeting(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port) + 1

    @classmethod
    def of_environment(cls) -> "Place | None":
        """That of this process, where it is a supervised one."""
        return cls(**json.loads(os.environ[PLACE])) if PLACE in os.environ else None


def supervise(place: Place, command: Sequence[str], facts: Mapping[str, str]) -> int:
    """Run `command` as one process of several and return its exit code; 1 where another process ended the job.

    Args:
        facts: what must be the same everywhere, by name.

    Raises:
        TrainingError: not all processes came, or they disagree.
    """
    return asyncio.run(_supervise(place, command, dict(facts)))


async def _supervise(place: Place, command: Sequence[str], facts: dict[str, str]) -> int:
    meeting = Meeting(place)
    if place.process == 0:
        await meeting.open()
    try:
        reader, writer = await _connect(place)
        _tell(writer, hello=place.process, of=place.processes, host=socket.gethostname(), pid=os.getpid(), facts=facts)
        try:
            answer = await asyncio.wait_for(_hear(reader), place.wait + 10)
        except TimeoutError:
            answer = None
        if not answer or "go" not in answer:
            raise TrainingError((answer or {}).get("refused") or _lost(place))
        code = await Watch(place, reader, writer).run(command)
        if in_order(code):
            meeting.patience = LEAVING_SECONDS
        return code
    finally:
        await meeting.close()


def in_order(code: int) -> bool:
    """Whether a process with this exit code was done, or left when it was asked to (128 + signal)."""
    return code == 0 or code > 128


def _tell(writer: asyncio.StreamWriter, **message: Any) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def _hear(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; `None` where the other side is gone."""
    try:
        return json.loads(await reader.readline() or "null")
    except (OSError, ValueError):
        return None


def _lost(place: Place) -> str:
    return f"process 0 at {place.coordinator}, where the processes meet, does not answer any more"


async def _connect(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = place.meeting
    deadline = asyncio.get_running_loop().time() + place.wait
    while True:
        try:
            return await asyncio.open_connection(host, port)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise TrainingError(
                    f"process 0 did not answer at {host}:{port} for {place.wait:.0f} s ({error.strerror or error}): is it"
                    f" started, are ports {port - 1} and {port} of that host open?"
                ) from error
            await asyncio.sleep(0.2)


class Meeting:
    """At process 0: who is there, and messages passed on to all."""

    def __init__(self, place: Place):
        self.place = place
        self.members: dict[int, tuple[dict[str, Any], asyncio.StreamWriter]] = {}
        self.here: set[int] = set()
        self.server: asyncio.Server | None = None
        self.clock: asyncio.Task[None] | None = None
        self.beats: dict[int, float] = {}
        self.patience = 5.0

    async def open(self) -> None:
        port = self.place.meeting[1]
        try:
            self.server = await asyncio.start_server(self._member, None, port)
        except OSError as error:
            raise TrainingError(
                f"port {port} of this host, where the processes are to meet, cannot be used ({error.strerror or error}):"
                " give another --coordinator"
            ) from error
        self.clock = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Let the others leave first, for `patience` seconds, so that each hears how the job ended."""
        if self.server is None:
            return
        end = asyncio.get_running_loop().time() + self.patience
        while not self.here <= {0} and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        assert self.clock is not None
        self.clock.cancel()
        self.server.close()

    async def _member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await _hear(reader)
        if not hello or "hello" not in hello:
            writer.close()
            return
        process = hello["hello"]
        refusal = self._refusal(hello)
        if refusal:
            self._pass_on(refused=refusal)
            _tell(writer, refused=refusal)
            writer.close()
            return
        self.members[process] = (hello, writer)
        self.here.add(process)
        if len(self.members) == self.place.processes:
            for refusal in filter(None, map(self._disagreement, self.members)):
                self._pass_on(refused=refusal)
                return
            self.beats = dict.fromkeys(self.members, asyncio.get_running_loop().time())
            self._pass_on(go=True)
        ended = False
        with contextlib.suppress(asyncio.CancelledError):  # by the end of the loop
            while message := await _hear(reader):
                self.beats[process] = asyncio.get_running_loop().time()
                if "ended" in message:
                    ended = True
                    self._pass_on(ended=process, code=message["ended"], who=self.who(process), how=message["how"])
        self.here.discard(process)
        self.beats.pop(process, None)
        if not ended and self.beats:
            self._pass_on(ended=process, code=1, who=self.who(process), how="is gone, or its host is")
        writer.close()

    def _refusal(self, hello: dict[str, Any]) -> str:
        process, processes = hello["hello"], hello["of"]
        if processes != self.place.processes:
            return f"process {process} knows of {processes} processes, process 0 of {self.place.processes}"
        if not 0 <= process < processes:
            return f"--process {process}: expected a number from 0 to {processes - 1}"
        if process in self.here:
            return f"two processes say that they are number {process}: {self.who(process)} and one on {hello['host']}"
        return ""

    def _disagreement(self, process: int) -> str:
        other, first = (self.members[number][0]["facts"] for number in (process, 0))
        names = [name for name in sorted({*other, *first}) if other.get(name) != first.get(name)]
        if not names:
            return ""
        what = "; ".join(f"{name}: {other.get(name)} there, {first.get(name)} at process 0" for name in names)
        return f"{self.who(process)} does not agree with process 0 ({what})"

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while len(self.members) < self.place.processes:
            await asyncio.sleep(0.1)
            if loop.time() - begin > self.place.wait:
                missing = [str(number) for number in range(self.place.processes) if number not in self.members]
                self._pass_on(
                    refused=f"process {', '.join(missing)} of {self.place.processes} did not come to"
                    f" {self.place.coordinator} within {self.place.wait:.0f} s"
                )
                return
        while True:
            await asyncio.sleep(1)
            for process, last in list(self.beats.items()):
                if loop.time() - last > SILENCE_SECONDS:
                    del self.beats[process]
                    how = f"has not answered for {SILENCE_SECONDS:.0f} s"
                    self._pass_on(ended=process, code=1, who=self.who(process), how=how)

    def who(self, process: int) -> str:
        hello = self.members[process][0]
        return f"process {process} of {self.place.processes} (host {hello['host']}, pid {hello['pid']})"

    def _pass_on(self, **message: Any) -> None:
        for _, writer in self.members.values():
            if not writer.is_closing():
                _tell(writer, **message)


class Watch:
    """Over the training process of this host."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.place, self.reader, self.writer = place, reader, writer

    async def run(self, command: Sequence[str]) -> int:
        """Start the process and return how it, or the job, ended."""
        beats, feed = os.pipe()
        os.set_blocking(beats, False)
        environment = {**os.environ, PLACE: json.dumps(dataclasses.asdict(self.place)), BEATS: str(feed)}
        child = await asyncio.create_subprocess_exec(*command, env=environment, pass_fds=(feed,), process_group=0)
        os.close(feed)
        loop = asyncio.get_running_loop()
        loop.add_reader(beats, self._beat, beats)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _pass_signal, child, number)
        ended, others = asyncio.create_task(child.wait()), asyncio.create_task(self._others())
        try:
            await asyncio.wait({ended, others}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or await self._grace(ended):
                return await self._leave(ended.result(), others)
            _say(others.result())
            if not ended.done():
                child.kill()
                await ended
            _tell(self.writer, ended=1, how="stopped because another did")
            return 1
        finally:
            others.cancel()
            loop.remove_reader(beats)
            os.close(beats)
            self.writer.close()

    async def _grace(self, ended: asyncio.Task[int]) -> bool:
        """A moment for a process that has just the same to say as the one that ended."""
        await asyncio.wait({ended}, timeout=1.0)
        return ended.done() and ended.result() > 0

    async def _leave(self, code: int, others: asyncio.Task[str]) -> int:
        """Say how the process ended; where its exit code is positive it has done so itself."""
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            if code == -signal.SIGABRT:  # JAX aborts a process when another is gone
                await asyncio.wait({others}, timeout=1.0)
            _say(
                others.result()
                if others.done()
                else f"process {self.place.process} of {self.place.processes} (host {socket.gethostname()}) {how}"
            )
        _tell(self.writer, ended=code, how=how)
        await self.writer.drain()
        return code if code >= 0 else 1

    def _beat(self, beats: int) -> None:
        try:
            if os.read(beats, 1024):
                _tell(self.writer, alive=True)
            else:
                asyncio.get_running_loop().remove_reader(beats)
        except BlockingIOError:
            pass

    async def _others(self) -> str:
        """Until another process ends: why this one has to end, at once or, where that was in good order, a little later."""
        why, timeout = _lost(self.place), None
        with contextlib.suppress(TimeoutError):
            while message := await asyncio.wait_for(_hear(self.reader), timeout):
                if "ended" in message and message["ended"] != self.place.process:
                    why = f"{message['who']} {message['how']}"
                    if not in_order(message["code"]):
                        break
                    timeout = LEAVING_SECONDS
        return why


def _say(why: str) -> None:
    print(f"lacuna: {why}; the job stops, and the same command goes on", file=sys.stderr)


def _pass_signal(child: asyncio.subprocess.Process, number: int) -> None:
    if child.returncode is None:
        child.send_signal(number)
