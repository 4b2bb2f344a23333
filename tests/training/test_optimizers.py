"""SGD, LAMB and clipping by units: against optax's where there are no stacks, layer by layer where there are, and spread."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models import hub
from tests.training.test_adafactor import assert_close
from training.layer_rates import layer_rates
from training.optimizers import LAMB, SGD, Adafactor, AdamW, clip, clip_by_unit, decayed
from training.parallel import TrainingError
from training.stacks import axes_of, is_stack, names_of, stack_of

LAYERS = 4


def trees(seed: int) -> dict:
    """Parameters of a stack and of what stands around it, of very different sizes."""
    random = np.random.default_rng(seed)
    shapes = {"up": (16, 8), "qkv": (16, 3, 8), "conv": (3, 3, 4, 8)}
    scales = 10.0 ** np.arange(LAYERS)

    def stacked(*shape: int):
        return random.normal(size=(LAYERS, *shape)) * scales.reshape(-1, *[1] * len(shape))

    layers = {name: {"kernel": stacked(*shape), "bias": stacked(8)} for name, shape in shapes.items()}
    layers |= {"layer_scale": stacked(8), "attention_biases": stacked(2, 6), "norm": {"scale": stacked(8)}}
    around = {name: {"kernel": random.normal(size=shape)} for name, shape in shapes.items()}
    around |= {"cls_token": random.normal(size=(1, 1, 8)), "table": {"embedding": random.normal(size=(12, 8))}}
    return jax.tree.map(jnp.float32, {"layers": layers, "around": around, "bias": random.normal(size=8)})


def only(tree: dict, *wanted: str) -> dict:
    """The parameters whose last name is one of these."""
    kept = {
        name: only(value, *wanted) if isinstance(value, dict) else value
        for name, value in tree.items()
        if isinstance(value, dict) or name in wanted
    }
    return {name: value for name, value in kept.items() if not (isinstance(value, dict) and not value)}


PARAMS, GRADIENTS = trees(0), [trees(seed) for seed in range(1, 5)]
EVERY = "kernel", "bias", "embedding", "scale", "layer_scale", "attention_biases", "cls_token"


def run(optimizer: optax.GradientTransformation):
    """Parameters and gradients of several steps → parameters after them."""

    def moved(params, gradients):
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return moved


def compared(ours: optax.GradientTransformation, theirs: optax.GradientTransformation, *names: str) -> dict:
    """The parameters as `ours` moves them: each layer of the stack, and what stands around it, as `theirs` moves it alone."""
    params, gradients = only(PARAMS, *names), [only(gradient, *names) for gradient in GRADIENTS]
    found = jax.jit(run(ours))(params, gradients)
    wanted = {
        "layers": jax.jit(jax.vmap(run(theirs)))(params["layers"], [gradient["layers"] for gradient in gradients]),
        "around": jax.jit(run(theirs))(params["around"], [gradient["around"] for gradient in gradients]),
    }
    for number in range(LAYERS):
        layer = [jax.tree.map(lambda x, number=number: x[number], tree["layers"]) for tree in (found, wanted)]
        assert_close(*layer)
    assert_close(found["around"], wanted["around"])
    return found


def test_lamb_is_that_of_optax_layer_by_layer():
    settings = LAMB(learning_rate=0.05, warmup_steps=2, weight_decay=0.1, clip_norm=None)
    rate = settings.schedule(4)
    compared(settings.build(4), optax.lamb(rate, weight_decay=0.1), "kernel")
    adapted = optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(0.1, decayed),
        optax.masked(optax.scale_by_trust_ratio(), decayed),
        optax.scale_by_learning_rate(rate),
    )
    compared(settings.build(4), adapted, *EVERY)


def test_lamb_moves_a_layer_by_its_own_size_and_takes_what_is_0_for_what_it_is():
    settings = LAMB(learning_rate=0.1, warmup_steps=1, decay="constant", weight_decay=0.0)
    optimizer = settings.build(10)
    params = {"layers": {"kernel": jnp.stack([jnp.zeros((2, 2)), jnp.ones((2, 2)), 100 * jnp.ones((2, 2))])}}
    gradient = {"layers": {"kernel": jnp.ones((3, 2, 2)).at[1].set(0.0)}}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    moved = np.asarray(updates["layers"]["kernel"])
    np.testing.assert_allclose(moved[0], -0.1, rtol=1e-4)  # no size to go by: Adam's step
    assert (moved[1] == 0).all()
    np.testing.assert_allclose(moved[2], -0.1 * 100, rtol=1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_loop_that_it_is(nesterov):
    settings = SGD(learning_rate=0.1, warmup_steps=3, nesterov=nesterov, weight_decay=0.01, decay="cosine")
    ours = jax.jit(run(settings.build(4)))(PARAMS, GRADIENTS)
    rates = settings.rates(4)

    def moved(path, x, *gradients):
        x, speed = np.asarray(x, np.float64), 0.0
        for rate, gradient in zip(rates, gradients, strict=True):
            gradient = gradient + (0.01 * x if path[-1].key in ("kernel", "embedding") else 0)
            speed = 0.9 * speed + gradient
            x = x - rate * (gradient + 0.9 * speed if nesterov else speed)
        return x

    assert_close(ours, jax.tree_util.tree_map_with_path(moved, PARAMS, *GRADIENTS))


def step(clipping: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(clipping, optax.sgd(1.0))


@pytest.mark.parametrize("norm", [1e-3, 1.0, 1e9])
def test_clipping_is_that_of_optax(norm):
    gradients = [*GRADIENTS, jax.tree.map(jnp.zeros_like, PARAMS)]
    ours, theirs = (jax.jit(run(step(by)))(PARAMS, gradients) for by in (clip(norm), optax.clip_by_global_norm(norm)))
    assert_close(ours, theirs)
    free = jax.jit(run(step(clip(None))))(PARAMS, gradients)
    assert jnp.array_equal(free["bias"], ours["bias"]) == (norm == 1e9)


def test_clipping_by_units_is_that_of_optax_layer_by_layer():
    names = "kernel", "bias", "scale", "layer_scale", "cls_token"
    found = compared(step(clip_by_unit(0.5)), step(optax.adaptive_grad_clip(0.5)), *names)
    free = jax.jit(run(step(optax.identity())))(only(PARAMS, *names), [only(tree, *names) for tree in GRADIENTS])
    assert not any(jax.tree.leaves(jax.tree.map(jnp.array_equal, found["around"], free["around"])))


def test_the_units_of_what_is_no_kernel_are_its_rows():
    """`timm`'s `adaptive_clip_grad`, which LeViT was trained with, written with loops."""
    share = 0.5
    ours, _ = clip_by_unit(share).update(GRADIENTS[0], optax.EmptyState(), PARAMS)

    def clipped(row, gradient):
        most = share * max(np.linalg.norm(row), 1e-3)
        size = np.linalg.norm(gradient)
        return gradient if size < most else gradient * most / max(size, 1e-6)

    for path in (("layers", "attention_biases"), ("around", "table", "embedding")):
        found, rows, gradients = ours, PARAMS, GRADIENTS[0]
        for name in path:
            found, rows, gradients = found[name], rows[name], gradients[name]
        rows, gradients = (np.asarray(x).reshape(-1, x.shape[-1]) for x in (rows, gradients))
        wanted = [clipped(row, gradient) for row, gradient in zip(rows, gradients, strict=True)]
        np.testing.assert_allclose(np.asarray(found).reshape(rows.shape), wanted, rtol=1e-5)


def test_adamw_clips_by_units_before_anything_else():
    settings = AdamW(learning_rate=0.1, clip_norm=None, weight_decay=0.0, adaptive_clip=0.01, warmup_steps=1)
    first = optax.chain(clip_by_unit(0.01), AdamW(**{**vars(settings), "adaptive_clip": None}).build(4))
    ours, theirs = (jax.jit(run(optimizer))(PARAMS, GRADIENTS) for optimizer in (settings.build(4), first))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    "settings",
    [SGD(nesterov=True, weight_decay=0.1, clip_norm=1.0), LAMB(), AdamW(adaptive_clip=0.01, layer_decay=0.7)],
    ids=lambda settings: type(settings).__name__,
)
def test_spread_parameters_move_as_those_of_one_device(settings):
    """Also where layers themselves are spread, and rows of matrices."""
    optimizer = settings.build(4)
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("fsdp", "tensor"))

    def spread(path, x):
        spec = [None] * x.ndim
        if is_stack(path):
            spec[0] = "fsdp"
        if x.shape[-1] % 2 == 0:
            spec[-1] = "tensor"
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

    move = jax.jit(run(optimizer))
    spread_out = [jax.tree_util.tree_map_with_path(spread, tree) for tree in (PARAMS, *GRADIENTS[:2])]
    found = jax.device_get(move(spread_out[0], spread_out[1:]))
    assert_close(found, move(PARAMS, GRADIENTS[:2]))


def test_weight_decay_is_for_kernels_and_tables():
    """As ConvNeXt, DeiT, LeViT and big_vision have it: nothing of one axis, no class token, no biases of attention."""
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, applies in jax.tree_util.tree_leaves_with_path(decayed(PARAMS))
        if applies
    }
    names = ("up", "qkv", "conv")
    assert found == {f"{place}/{name}/kernel" for place in ("layers", "around") for name in names} | {
        "around/table/embedding"
    }


def test_what_is_called_a_kernel_and_is_none_is_not_decayed():
    """A vector, a vector for each layer of a stack, and T5's biases of attention, which lie in a table of embeddings."""
    params = {"around": {"kernel": jnp.ones(8)}, "layers": {"kernel": jnp.ones((LAYERS, 8))}}
    params |= {"blocks": {"kernel": jnp.ones((LAYERS, 8))}, "relative": {"embedding": jnp.ones((32, 4))}}
    axes = {"blocks/kernel": ("layers", "embed"), "relative/embedding": ("bucket", "head")}
    assert not any(jax.tree.leaves(decayed(params, axes)))
    table = {"relative_attention_bias": {"embedding": jnp.ones((32, 4))}, "words": {"embedding": jnp.ones((32, 4))}}
    assert decayed(table) == {"relative_attention_bias": {"embedding": False}, "words": {"embedding": True}}


def boxed_model(model) -> dict:
    return jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))["params"]


@pytest.mark.parametrize("model_type", hub.model_types())
def test_stacks_are_known_by_their_axes_and_by_their_names(model_type):
    """Without axes `training.stacks` must find what `models.layers.stack.stack` has stacked, and nothing else, in every model."""
    for kind in hub.model_classes(model_type).values():
        boxed = boxed_model(kind(hub.config_class(model_type)(scan_layers=True)))
        axes = axes_of(boxed)
        for path, _ in jax.tree_util.tree_leaves_with_path(nn.unbox(boxed)):
            stacked = axes["/".join(names_of(path))][0] == "layers"
            assert is_stack(path, axes) == is_stack(path) == stacked, (kind.__name__, jax.tree_util.keystr(path))
            assert stack_of(path, axes) == stack_of(path)


def renamed(tree: dict) -> dict:
    """The same with a stack that nobody here calls so."""
    return {"blocks" if name == "layers" else name: value for name, value in tree.items()}


AXES = {
    "/".join(names_of(path)): ("layers" if place == "blocks" else None, *[None] * (x.ndim - 1))
    for place, part in renamed(PARAMS).items()
    for path, x in jax.tree_util.tree_leaves_with_path({place: part})
}


@pytest.mark.parametrize(
    "settings",
    [
        AdamW(adaptive_clip=0.01, layer_decay=0.7, weight_decay=0.1),
        LAMB(),
        SGD(weight_decay=0.1),
        Adafactor(factored_from=2),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_a_stack_of_another_name_is_a_stack(settings):
    """Its layers move as those of one that is called `layers`, and not as those of one matrix."""
    gradients = GRADIENTS[:2]
    ours = jax.jit(run(settings.build(4, axes=AXES)))(renamed(PARAMS), [renamed(tree) for tree in gradients])
    jax.tree.map(np.testing.assert_array_equal, ours, renamed(jax.jit(run(settings.build(4)))(PARAMS, gradients)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = nn.with_partitioning(nn.initializers.ones, ("embed", "mlp"))
        return x @ self.param("kernel", kernel, (4, 4)), None


class Tower(nn.Module):
    """Somebody else's model: a stack called `blocks` between two others, which are no stacks."""

    @nn.compact
    def __call__(self, x):
        x, _ = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(name="blocks")(Block(name="layers")(x)[0])
        return Block(name="head")(x)[0]


def test_the_stack_of_another_model_is_found_by_its_axes():
    boxed = jax.eval_shape(lambda: Tower().init(jax.random.key(0), jnp.zeros((2, 4))))["params"]
    axes, params = axes_of(boxed), nn.unbox(boxed)
    stacks = {stack_of(path, axes) for path, _ in jax.tree_util.tree_leaves_with_path(params) if is_stack(path, axes)}
    assert stacks == {"blocks"}
    rates = layer_rates(jax.tree.map(lambda x: jnp.zeros(x.shape), params), 0.5, axes=axes)
    np.testing.assert_array_equal(rates["blocks"]["kernel"], [0.125, 0.25, 0.5])


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        *[(AdamW, {"learning_rate": x}) for x in (0.0, -1e-3, float("nan"), float("inf"))],
        *[(kind, {"learning_rate": float("nan")}) for kind in (LAMB, SGD, Adafactor)],
        (AdamW, {"weight_decay": -0.1}),
        (AdamW, {"b2": 1.0}),
        (AdamW, {"warmup_steps": -1}),
        (LAMB, {"clip_norm": 0.0}),
        (SGD, {"momentum": float("nan")}),
    ],
    ids=str,
)
def test_numbers_that_no_optimizer_can_work_with_are_refused(kind, setting):
    (name,) = setting
    with pytest.raises(TrainingError, match=rf"optimizer.{name}=.*: expected a finite number"):
        kind(**setting)
