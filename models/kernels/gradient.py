"""Functions with a backward pass written by hand, which forward mode differentiates, too.

`jax.custom_vjp` refuses `jax.jvp`, `jax.jacfwd` and what `jax.linearize` returns. `with_gradient` makes a `jax.custom_jvp`
whose tangent is one primitive: evaluated, it is the derivative of the reference; transposed, as reverse mode does, the backward
pass.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir


def with_gradient(
    reference: Callable,
    forward: Callable[..., tuple[Any, tuple]],
    backward: Callable[..., tuple],
    inputs: Callable[[tuple], tuple] = tuple,
) -> Callable:
    """A function of arrays, of which some may be `None`, and of settings by keyword, which all of these take but `inputs`.

    Args:
        reference: the formula, as JAX differentiates it in forward mode.
        forward: the same values, and the residuals, which the backward pass keeps.
        backward: takes the residuals and the gradient of the result; returns that of each argument, `None` where it has none.
        inputs: the arguments of `reference`, out of the residuals; `None` for one that its derivative does not depend on.
    """

    @functools.wraps(reference)
    def call(*arguments: jax.Array | None, **settings: Any) -> Any:
        function = jax.custom_jvp(lambda *arguments: forward(*arguments, **settings)[0])
        function.defjvp(functools.partial(rule, settings), symbolic_zeros=True)
        return function(*arguments)

    def rule(settings: dict[str, Any], primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        moved = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero | None)]
        blank = [None if primal is None else (primal.shape, primal.dtype) for primal in primals]
        outputs, residuals = forward(*primals, **settings)
        (leaves, form), (kept, kept_form) = jax.tree.flatten(outputs), jax.tree.flatten(residuals)

        def push(kept: list, tangents: list) -> list:
            given = zip(inputs(jax.tree.unflatten(kept_form, kept)), blank, strict=True)
            arguments = [jnp.zeros(*like) if x is None and like else x for x, like in given]
            return jax.tree.leaves(
                _jvp_of_some(functools.partial(reference, **settings), arguments, moved, tangents)[1]
            )

        def pull(kept: list, gradients: list) -> list:
            derivatives = backward(jax.tree.unflatten(kept_form, kept), jax.tree.unflatten(form, gradients), **settings)
            return [derivatives[n] for n in moved]

        shapes = tuple(jax.typeof(leaf).to_tangent_aval() for leaf in leaves)
        along = tangent_p.bind(
            *kept, *(tangents[n] for n in moved), push=push, pull=pull, count=len(kept), shapes=shapes
        )
        return outputs, jax.tree.unflatten(form, along)

    return call


def _jvp_of_some(function: Callable, arguments: list, moved: list[int], tangents: list) -> tuple[Any, Any]:
    """Value and derivative along the tangents of the arguments with the numbers `moved`."""

    def of_moved(*values: jax.Array) -> Any:
        replaced = list(arguments)
        for n, value in zip(moved, values, strict=True):
            replaced[n] = value
        return function(*replaced)

    return jax.jvp(of_moved, [arguments[n] for n in moved], list(tangents))


tangent_p = Primitive("tangent_of_kernel")
"""Takes `count` residuals, then tangents. `push(residuals, tangents)` is linear in these, `pull(residuals, gradients)` its
transpose, and `shapes` are those of the result."""
tangent_p.multiple_results = True


def _evaluate(*values, push, pull, count, shapes):
    return push(list(values[:count]), list(values[count:]))


def _jvp(values, tangents, *, count, push, **params):
    settings = dict(params, count=count, push=push)
    moved = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    if moved[0] < count:
        return _jvp_of_some(functools.partial(_evaluate, **settings), list(values), moved, [tangents[n] for n in moved])
    along = [ad.instantiate_zeros(tangent) for tangent in tangents[count:]]
    return tangent_p.bind(*values, **settings), tangent_p.bind(*values[:count], *along, **settings)


def _transpose(gradients, *values, pull, count, **_):
    derivatives = pull(list(values[:count]), [ad.instantiate_zeros(gradient) for gradient in gradients])
    for value, gradient in zip(values[count:], derivatives, strict=True):
        wanted = value.aval if ad.is_undefined_primal(value) else value
        if (gradient.shape, gradient.dtype) != (wanted.shape, wanted.dtype):
            raise TypeError(f"a backward pass gives {jax.typeof(gradient)} where the argument is {wanted}")
    asked = zip(values[count:], derivatives, strict=True)
    return [None] * count + [gradient if ad.is_undefined_primal(value) else None for value, gradient in asked]


def _batch(axis, values, dims, *, push, pull, count, shapes):
    values = [x if dim is None else jnp.moveaxis(x, dim, 0) for x, dim in zip(values, dims, strict=True)]
    residuals, places = values[:count], [None if dim is None else 0 for dim in dims[:count]]
    tangents = [
        jnp.broadcast_to(x, (axis.size, *x.shape)) if dim is None else x
        for x, dim in zip(values[count:], dims[count:], strict=True)
    ]
    names = dict(axis_name=axis.name, axis_size=axis.size, spmd_axis_name=axis.spmd_name)
    push, pull = (jax.vmap(function, (places, 0), **names) for function in (push, pull))
    shapes = tuple(unmapped_aval(axis.size, 0, shape) for shape in shapes)
    along = tangent_p.bind(*residuals, *tangents, push=push, pull=pull, count=count, shapes=shapes)
    return along, [0] * len(along)


tangent_p.def_impl(_evaluate)
tangent_p.def_abstract_eval(lambda *_, shapes, **__: list(shapes))
ad.primitive_jvps[tangent_p] = _jvp
ad.primitive_transposes[tangent_p] = _transpose
batching.fancy_primitive_batchers[tangent_p] = _batch
mlir.register_lowering(tangent_p, mlir.lower_fun(_evaluate, multiple_results=True))
