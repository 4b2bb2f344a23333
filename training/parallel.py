"""How a step is spread over devices: a setting, the step itself being the same.

`pmap` replicates the state and gives each device its part of the batch. `jit` lays state and batch over a mesh
`(data, fsdp, tensor)` by the logical axis names of the parameters. Either way what goes to a checkpoint is one global
array per parameter, so that a run goes on under the other.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange
from jax._src import distributed as jax_distributed  # there is no public barrier that is not a collective
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

RULES: tuple[tuple[str, str | tuple[str, ...]], ...] = (
    ("batch", ("data", "fsdp")),
    ("vocab", "tensor"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("embed", "fsdp"),
)
"""Logical axis of a parameter or activation → axes of the mesh; every other axis is whole on each chip."""


class TrainingError(ValueError):
    """A run that cannot start or go on, explained in one sentence."""


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How to spread a step.

    Attributes:
        kind: `pmap` (replicated data parallel) or `jit` (sharded over a mesh).
        fsdp: chips that share the parameters among them (jit only).
        tensor: chips that share each matrix product among them (jit only).
        devices: how many devices to use; all where `None`.
        micro_batches: parts that a batch is cut into, one after the other, their gradients added.
    """

    kind: Literal["pmap", "jit"] = "pmap"
    fsdp: int = 1
    tensor: int = 1
    devices: int | None = None
    micro_batches: int = 1

    def mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """`devices` (all of this machine where `None`) as `(data, fsdp, tensor)`."""
        devices = jax.devices() if devices is None else devices
        if self.devices is not None:
            if not 1 <= self.devices <= len(devices):
                raise TrainingError(f"parallel.devices={self.devices}: there are {len(devices)} device(s)")
            if jax.process_count() > 1 and self.devices < len(devices):
                raise TrainingError(f"parallel.devices={self.devices}: several processes use all of their devices")
            devices = devices[: self.devices]
        model_parallel = self.fsdp * self.tensor
        if self.kind == "pmap" and model_parallel != 1:
            raise TrainingError("parallel.fsdp and parallel.tensor need parallel.kind=jit; pmap replicates parameters")
        if len(devices) % model_parallel:
            raise TrainingError(
                f"parallel.fsdp={self.fsdp} × parallel.tensor={self.tensor} does not divide {len(devices)} device(s)"
            )
        return Mesh(np.array(devices).reshape(-1, self.fsdp, self.tensor), ("data", "fsdp", "tensor"))

    def check_batch(self, batch_size: int, devices: Sequence[jax.Device] | None = None) -> None:
        """Raise where a batch does not divide into micro-batches and devices."""
        mesh = self.mesh(devices)
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        if self.micro_batches < 1 or batch_size % (self.micro_batches * shards):
            raise TrainingError(
                f"batch_size={batch_size} does not divide into {self.micro_batches} micro-batch(es)"
                f" × {shards} device(s): make it a multiple of {max(1, self.micro_batches) * shards}"
            )

    def spread(self, logical_axes: PyTree, devices: Sequence[jax.Device] | None = None) -> "Spread":
        """The way to run steps whose state has these logical axes (a tree of `PartitionSpec` names)."""
        return (Replicated if self.kind == "pmap" else Sharded)(self.mesh(devices), logical_axes)


@dataclasses.dataclass
class Together:
    """A jitted step that no process runs before all have compiled it.

    Compiling may take one host minutes longer than another, and Gloo waits 30 seconds for a peer's first word.
    """

    step: Callable
    met: set = dataclasses.field(default_factory=set)

    MEETINGS: ClassVar[Iterator[int]] = itertools.count()
    HOUR: ClassVar[int] = 3_600_000  # ms: who is gone is noticed by the supervisor

    def lower(self, *arguments: PyTree) -> jax.stages.Lowered:
        return self.step.lower(*arguments)

    def __call__(self, *arguments: PyTree) -> PyTree:
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments))
        if shapes not in self.met:
            self.lower(*arguments).compile()
            # Not `sync_global_devices`, which is itself such a step.
            jax_distributed.global_state.client.wait_at_barrier(f"compiled {next(self.MEETINGS)}", self.HOUR)
            self.met.add(shapes)
        return self.step(*arguments)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Puts state and batches on the devices and compiles steps for them."""

    mesh: Mesh
    logical_axes: PyTree

    def compile(self, step: Callable, donate: bool) -> Callable:
        """`step(tree, batch, axis=…)` over the devices; with `donate` it returns `(tree, …)` in the memory of the old one."""
        compiled = self._compile(step, donate)
        return compiled if jax.process_count() == 1 else Together(compiled)

    def _compile(self, step: Callable, donate: bool) -> Callable:
        raise NotImplementedError

    def put(self, tree: PyTree) -> PyTree:
        """Host (or single-device) arrays → the state as the compiled step wants it."""
        raise NotImplementedError

    def make(self, state: Callable[[], PyTree]) -> PyTree:
        """What `state` returns, a function of no arguments, as the compiled step wants it."""
        raise NotImplementedError

    def put_batch(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process' rows `[micro_batches, rows, ...]` → the batch as the compiled step wants it."""
        raise NotImplementedError

    def shapes(self, tree: PyTree) -> PyTree:
        """Shapes of a state → shapes and shardings of what `put` makes of it, to lower a step without arrays."""
        raise NotImplementedError

    def whole_shapes(self, tree: PyTree) -> PyTree:
        """Shapes of a state → shapes and shardings of what `whole` makes of it, to restore one without arrays."""
        raise NotImplementedError

    def batch_shapes(self, batch: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a global batch `[micro_batches, batch, ...]` → those of what `put_batch` makes of all its shares."""
        raise NotImplementedError

    def whole(self, tree: PyTree) -> PyTree:
        """The state as global arrays, one per parameter, without copying between devices."""
        raise NotImplementedError

    def parts(self, tree: PyTree) -> PyTree:
        """The inverse of `whole`; the memory of `tree` is given away."""
        raise NotImplementedError

    @property
    def share(self) -> tuple[int, int]:
        """Which part (k, n) of each batch this process puts on its devices."""
        shards = self.mesh.devices.reshape(-1, self.mesh.shape["tensor"])
        owned: dict[int, list[int]] = {}
        for number, devices in enumerate(shards):
            for process in {device.process_index for device in devices}:
                owned.setdefault(process, []).append(number)
        parts = sorted({tuple(numbers) for numbers in owned.values()})
        if len(parts) * len(parts[0]) != len(shards):
            raise TrainingError("parallel.tensor: the devices of a process must share batches whole, or not at all")
        return parts.index(tuple(owned[jax.process_index()])), len(parts)

    def gather(self, tree: PyTree) -> PyTree:
        """The state, or a part of it, as numpy arrays, whole in every process; no two arrays are whole on a device at once."""
        return jax.tree.map(everywhere, self.whole(tree))

    def rows(self, outputs: PyTree) -> PyTree:
        """What a compiled step returned of each row of its batch, `[rows, ...]`, as numpy arrays, whole in every process."""
        return jax.tree.map(everywhere, outputs)

    def host(self, metrics: PyTree) -> PyTree:
        """A step's metrics, the same on every device, as numpy values."""
        return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), metrics)


class Replicated(Spread):
    """`jax.pmap`: the state once on each device, a leading device axis on everything."""

    @property
    def stacked(self) -> NamedSharding:
        return NamedSharding(Mesh(self.mesh.devices.reshape(-1), ("data",)), PartitionSpec("data"))

    def _compile(self, step, donate):
        devices = list(self.mesh.devices.reshape(-1))
        mapped = functools.partial(step, axis="data")
        return jax.pmap(mapped, axis_name="data", devices=devices, donate_argnums=(0,) if donate else ())

    def put(self, tree):
        devices = self.mesh.devices.size

        def replicate(x):
            x = np.asarray(x)
            return jax.make_array_from_callback((devices, *x.shape), self.stacked, lambda _: x[None])

        return jax.tree.map(replicate, tree)

    def make(self, state):
        return self.put(jax.device_get(jax.jit(state)()))

    def put_batch(self, batch):
        devices = len(self.mesh.local_devices)

        def place(x):
            rows = rearrange(x, "micro (device row) ... -> device micro row ...", device=devices)
            return jax.make_array_from_process_local_data(self.stacked, rows)

        return {name: place(x) for name, x in batch.items()}

    def shapes(self, tree):
        devices = self.mesh.devices.size
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype, sharding=self.stacked), nn.unbox(tree)
        )

    def batch_shapes(self, batch):
        devices = self.mesh.devices.size

        def place(x):
            micro, rows, *rest = x.shape
            return jax.ShapeDtypeStruct((devices, micro, rows // devices, *rest), x.dtype, sharding=self.stacked)

        return {name: place(x) for name, x in batch.items()}

    def host(self, metrics):
        return jax.tree.map(lambda x: x[0], super().host(metrics))

    def rows(self, outputs):
        def gather(x):
            if jax.process_count() > 1:  # what `pmap` returns has this process' devices alone
                x = multihost_utils.process_allgather(np.asarray(x), tiled=True)
            return np.asarray(x).reshape(-1, *x.shape[2:])

        return jax.tree.map(gather, outputs)

    def whole(self, tree):
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def unstack(x):
            parts = [shard.data.reshape(x.shape[1:]) for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], sharding, parts)

        return jax.tree.map(unstack, tree)

    def whole_shapes(self, tree):
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), nn.unbox(tree))

    def parts(self, tree):
        def stack(x):
            shards = [shard.data[None] for shard in x.addressable_shards]
            stacked = jax.make_array_from_single_device_arrays((self.mesh.devices.size, *x.shape), self.stacked, shards)
            jax.block_until_ready(stacked)
            x.delete()  # else all of the state is there twice before the first array goes
            return stacked

        return jax.tree.map(stack, tree)


class Sharded(Spread):
    """`jax.jit` over a mesh: parameters and their moments by logical axis, the batch over `data` and `fsdp`."""

    @property
    def shardings(self) -> PyTree:
        return nn.logical_to_mesh_sharding(self.logical_axes, self.mesh, RULES)

    @property
    def batch_sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(None, ("data", "fsdp")))

    def _compile(self, step, donate):
        @functools.wraps(step)
        def on_mesh(*arguments):
            with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh), nn.logical_axis_rules(RULES):
                return step(*arguments)

        if not donate:
            return jax.jit(on_mesh)
        return jax.jit(on_mesh, donate_argnums=0, out_shardings=(self.shardings, None))

    def put(self, tree):
        return jax.tree.map(
            lambda x, sharding: jax.make_array_from_callback(np.shape(x), sharding, lambda index: np.asarray(x)[index]),
            tree,
            self.shardings,
        )

    def make(self, state):
        return jax.jit(state, out_shardings=self.shardings)()  # no device ever holds all of it

    def put_batch(self, batch):
        return {name: jax.make_array_from_process_local_data(self.batch_sharding, x) for name, x in batch.items()}

    def shapes(self, tree):
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            nn.unbox(tree),
            self.shardings,
        )

    def batch_shapes(self, batch):
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.batch_sharding) for name, x in batch.items()}

    def host(self, metrics):
        return jax.tree.map(everywhere, metrics)  # one that is no scalar may lie sharded

    def whole(self, tree):
        return tree

    def whole_shapes(self, tree):
        return self.shapes(tree)

    def parts(self, tree):
        return tree


def everywhere(x: jax.Array) -> np.ndarray:
    """An array of all processes, whole in each."""
    if x.is_fully_replicated or x.is_fully_addressable:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def logical_axes(boxed: Any) -> PyTree:
    """The logical axes of a state whose parameters still carry them (`flax.linen` metadata)."""
    return nn.get_partition_spec(boxed)
