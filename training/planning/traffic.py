"""What a layout of the parameters must send between chips at the least, by the ring algorithm."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jaxtyping import PyTree


def lower_bound(mesh: Mesh | AbstractMesh, params: PyTree, shardings: PyTree, compute_dtype: str) -> float:
    """Bytes that leave each chip in a step, for parameters and gradients alone.

    A parameter that every chip of `data × fsdp` = n holds: an all-reduce of its gradient, 2 (n-1)/n of its bytes. One that
    f chips of `fsdp` share: its gradient reduce-scattered, (f-1)/f, the shards all-reduced over `data`, and the parameter
    gathered once in the compute dtype, (f-1)/f. What `tensor` sends comes on top: activations, not parameters.

    Args:
        params: shapes of the whole parameters.
        shardings: of each (`NamedSharding` on `mesh`).
    """
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    compute = jnp.dtype(compute_dtype).itemsize

    def of(param: jax.ShapeDtypeStruct, sharding: NamedSharding) -> float:
        held = math.prod(sharding.shard_shape(param.shape))
        size = held * param.dtype.itemsize
        axes = {axis for entry in sharding.spec for axis in (entry if isinstance(entry, tuple) else (entry,))}
        if "fsdp" not in axes:
            n = data * fsdp
            return 2 * size * (n - 1) / n
        gather = held * min(compute, param.dtype.itemsize) * (fsdp - 1)
        return size * (fsdp - 1) + gather + 2 * size * (data - 1) / data

    return float(sum(jax.tree.leaves(jax.tree.map(of, params, shardings))))
