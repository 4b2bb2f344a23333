"""Compiled XLA programs, read as text: their collectives and their memory traffic, bodies of loops counted as often as run.

XLA's own cost analysis sees the body of a loop once. Here a loop counts as many times as XLA knows that it runs
(`known_trip_count`), or else as its condition compares its counter with. One that ends when its numbers say so, such as
drawing until a draw is accepted, counts once.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota")
"""Operations that move no bytes themselves."""

SLICES = ("dynamic-slice", "slice", "gather")

ARRAY = re.compile(r"\b(pred|token|opaque|[a-z]+[0-9]+\w*)\[([\d,]*)\](\{[^}]*\})?")
NAME = re.compile(r"%([\w.\-]+)")
MEMORY_SPACE = re.compile(r"S\(([1-9]\d*)\)")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as a program names it: element type, dimensions, whether it lies in the main memory (HBM)."""

    dtype: str
    shape: tuple[int, ...]
    in_main_memory: bool = True

    @property
    def bytes(self) -> int:
        bits = BITS.get(self.dtype)
        if bits is None:
            bits = int(re.search(r"\d+", self.dtype).group())
        return math.prod(self.shape) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`name = results operation(operands), attributes`."""

    name: str
    operation: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    text: str

    def called(self, attribute: str) -> str | None:
        """The computation that `attribute` (body, condition, calls, to_apply) names."""
        match = re.search(rf"\b{attribute}=%([\w.\-]+)", self.attributes)
        return match.group(1) if match else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of the program.

    Attributes:
        kind: one of `COLLECTIVES`.
        bytes: of its whole array: the operand of a reduction, the result of an all-gather.
        group: chips that take part together.
        times: how often a step runs it.
        arrays: operands.
    """

    kind: str
    bytes: int
    group: int
    times: int
    arrays: int

    @property
    def moved(self) -> float:
        """Bytes that leave each chip in a step, by the ring algorithm: n - 1 of n parts, for an all-reduce twice."""
        if self.kind == "collective-permute":
            return float(self.bytes * self.times)
        passes = 2 if self.kind == "all-reduce" else 1
        return passes * self.bytes * self.times * (self.group - 1) / self.group


class Program:
    """The computations of a compiled program, from `jax.stages.Compiled.as_text()`."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.roots: dict[str, Instruction] = {}
        self.entry = ""
        name = None
        for line in text.splitlines():
            header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
            if header:
                name = header.group(2)
                self.computations[name] = {}
                self.entry = name if header.group(1) else self.entry
            elif line.startswith("}"):
                name = None
            elif name is not None and " = " in line:
                instruction = parse_instruction(line)
                self.computations[name][instruction.name] = instruction
                if line.lstrip().startswith("ROOT "):
                    self.roots[name] = instruction
        if not self.entry:
            raise ValueError("no ENTRY computation: this is not the text of a compiled XLA program")

    @functools.cached_property
    def times(self) -> dict[str, int]:
        """How often each computation runs in a step, those within fusions left out."""
        times: collections.Counter[str] = collections.Counter()

        def visit(name: str, count: int) -> None:
            times[name] += count
            for instruction in self.computations[name].values():
                for called, factor in self._calls(instruction):
                    visit(called, count * factor)

        visit(self.entry, 1)
        return dict(times)

    def _calls(self, instruction: Instruction) -> Iterator[tuple[str, int]]:
        if instruction.operation == "while":
            trips = self.trips(instruction)
            yield instruction.called("body"), trips
            yield instruction.called("condition"), trips + 1
        elif instruction.operation == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
            names = NAME.findall(branches.group(1)) if branches else []
            names += [instruction.called(side) for side in ("true_computation", "false_computation")]
            yield from ((name, 1) for name in names if name)
        elif instruction.operation in ("call", "async-start"):
            called = instruction.called("to_apply") or instruction.called("calls")
            if called:
                yield called, 1

    def trips(self, loop: Instruction) -> int:
        """How often the body of a `while` runs; 1 where its numbers decide, and nothing is sent between chips.

        Raises:
            ValueError: the program does not tell.
        """
        known = re.search(r"known_trip_count\W+n\W+(\d+)", loop.attributes)
        if known:
            return int(known.group(1))
        condition = self.computations[loop.called("condition")]
        limits = [
            int(re.search(r"constant\((-?\d+)\)", x.text).group(1))
            for x in condition.values()
            if x.operation == "constant" and x.results[0].dtype.startswith(("s", "u"))
        ]
        if not limits and not self._sends(loop.called("body")) and not self._sends(loop.called("condition")):
            return 1
        if len(limits) != 1:
            raise ValueError(f"loop {loop.name}: cannot tell how often it runs")
        return limits[0]

    def _sends(self, computation: str) -> bool:
        """Whether it, or one that it calls, holds a collective."""
        return any(
            x.operation.removesuffix("-start") in COLLECTIVES
            or any(self._sends(name) for name in NAME.findall(x.attributes) if name in self.computations)
            for x in self.computations[computation].values()
        )

    def collectives(self) -> list[Collective]:
        """All collectives of a step, asynchronous ones (`-start`) too; those among a single chip left out."""
        every = []
        for name, count in self.times.items():
            for instruction in self.computations[name].values():
                every += self._collectives(name, instruction, count)
        return [collective for collective in every if collective.group > 1]

    def _collectives(self, computation: str, instruction: Instruction, times: int) -> list[Collective]:
        kind = instruction.operation.removesuffix("-start")
        if instruction.operation == "fusion":
            # The TPU compiler makes a reduce-scatter of an all-reduce and a slice, fused under this name.
            inner = self.computations.get(instruction.called("calls") or "", {})
            scatters = "all-reduce-scatter" in (instruction.called("calls") or "")
            fused = [c for x in inner.values() for c in self._collectives(instruction.called("calls"), x, times)]
            return [dataclasses.replace(c, kind="reduce-scatter") if scatters else c for c in fused]
        if kind not in COLLECTIVES:
            return []
        operands = [a for x in instruction.operands for a in self._results(computation, x)]
        size = sum(array.bytes for array in operands)
        if kind == "all-reduce":  # a TPU may take narrow operands to wide results
            size = max(size, sum(array.bytes for array in instruction.results))
        group = group_size(instruction.attributes)
        return [Collective(kind, size * group if kind == "all-gather" else size, group, times, len(operands))]

    def _results(self, computation: str, name: str) -> tuple[Array, ...]:
        return self.computations[computation][name].results

    def traffic(self) -> float:
        """Bytes that a step reads from and writes to the main memory: operands and results of every operation.

        Of an array that a fusion only slices, or updates in place, the slice counts.
        """
        return float(
            sum(
                times * self._bytes(name, instruction)
                for name, times in self.times.items()
                for instruction in self.computations[name].values()
                if instruction.operation not in FREE and not instruction.operation.endswith("-done")
            )
        )

    def _bytes(self, computation: str, instruction: Instruction) -> int:
        operands = [self._results(computation, name) for name in instruction.operands]
        read = [sum(a.bytes for a in arrays if a.in_main_memory) for arrays in operands]
        written = sum(a.bytes for a in instruction.results if a.in_main_memory)
        if instruction.operation in ("copy-start", "slice-start"):
            # The results name source, destination and a flag; what moves is the destination.
            arrays = [a for a in instruction.results if a.bytes > 4] or list(instruction.results)
            moved = min(a.bytes for a in arrays)
            return moved * sum(a.in_main_memory for a in (arrays[0], arrays[-1]))
        if instruction.operation in SLICES:
            return 2 * written
        if instruction.operation in ("dynamic-update-slice", "scatter"):
            return 2 * sum(read[1:])
        if instruction.operation == "fusion":
            return self._fusion_bytes(instruction, read, written)
        return sum(read) + written

    def _fusion_bytes(self, fusion: Instruction, read: list[int], written: int) -> int:
        called = fusion.called("calls")
        if called not in self.computations:
            return sum(read) + written
        read = [size and self._read(called, self._parameter(called, n), size) for n, size in enumerate(read)]
        root = self.roots[called]
        roots = root.operands if root.operation == "tuple" else (root.name,)
        results = zip(roots, fusion.results, strict=False)
        return sum(read) + sum(min(self._written(called, x), a.bytes) for x, a in results if a.in_main_memory)

    def _parameter(self, computation: str, number: int) -> str:
        inside = self.computations[computation].values()
        return next(x.name for x in inside if x.operation == "parameter" and f"parameter({number})" in x.text)

    def _read(self, computation: str, name: str, size: int) -> int:
        """Bytes of an array of `size` bytes that a fused computation, which knows it as `name`, reads."""
        total = 0
        for x in self.computations[computation].values():
            if name not in x.operands:
                continue
            if x.operation in SLICES and x.operands[0] == name:
                total += x.results[0].bytes
            elif x.operation == "bitcast":
                total += self._read(computation, x.name, size)
            elif x.operation == "fusion":
                called = x.called("calls")
                places = [n for n, operand in enumerate(x.operands) if operand == name]
                total += sum(self._read(called, self._parameter(called, n), size) for n in places)
            elif x.operation != "dynamic-update-slice" or x.operands[0] != name:
                return size
        return min(total, size)

    def _written(self, computation: str, name: str) -> int:
        """Bytes that a fused computation writes of its result `name`: of one updated in place, the update."""
        x = self.computations[computation][name]
        if x.operation == "bitcast":
            return self._written(computation, x.operands[0])
        if x.operation == "dynamic-update-slice":
            return sum(array.bytes for array in self._results(computation, x.operands[1]))
        if x.operation == "fusion":
            called = x.called("calls")
            return self._written(called, self.roots[called].name)
        return sum(array.bytes for array in x.results)

    def largest(self, dtype: str) -> Array | None:
        """The largest array of a type that the program holds in main memory: results of operations that a step runs."""
        arrays = [
            array
            for name in self.times
            for instruction in self.computations[name].values()
            for array in instruction.results
            if array.dtype == dtype and array.in_main_memory
        ]
        return max(arrays, key=lambda array: array.bytes, default=None)


def parse_instruction(line: str) -> Instruction:
    """A line of a computation."""
    text = re.sub(r"/\*.*?\*/", "", line).strip().removeprefix("ROOT ")
    name, _, rest = text.partition(" = ")
    end = closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    results, rest = rest[:end], rest[end:].lstrip()
    begin = rest.index("(")
    end = closing(rest, begin)
    return Instruction(
        name.lstrip("%"),
        rest[:begin],
        tuple(
            Array(dtype, tuple(int(n) for n in shape.split(",") if n), not MEMORY_SPACE.search(layout))
            for dtype, shape, layout in ARRAY.findall(results)
        ),
        tuple(NAME.findall(rest[begin:end])),
        rest[end + 1 :],
        text,
    )


def closing(text: str, begin: int) -> int:
    """Where the bracket at `begin` closes."""
    depth = 0
    for place in range(begin, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise ValueError(f"no closing bracket in {text[:100]!r}")


def group_size(attributes: str) -> int:
    """Chips of each group of a collective, from any of the forms that XLA writes."""
    if "source_target_pairs=" in attributes:
        return 2
    groups = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    if groups:
        return len(groups.group(1).split(","))
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes)
    if iota:
        return int(iota.group(2))
    axes = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes)
    if axes:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes.group(1)))
        named = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", axes.group(2))
        return math.prod(int(part or sizes[name]) for name, part in named)
    raise ValueError(f"a collective without replica groups: {attributes[:200]!r}")
