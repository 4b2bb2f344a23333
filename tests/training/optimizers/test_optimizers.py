"""SGD, LAMB and clipping by units: against optax's where there are no stacks, layer by layer where there are, and spread."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models import hub
from models.config import ModelConfig
from models.layers.axes import axes_of, is_stacked, path_of
from models.layers.linear import dense
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput
from tests.training.optimizers.test_adafactor import assert_close
from training.optimizers import LAMB, SGD, Adafactor, AdamW
from training.parallel import TrainingError
from training.transformations import clip, clip_by_unit, decayed

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


NAMES = {
    **{f"{name}/kernel": axes for name, axes in (("up", ("embed", "mlp")), ("qkv", ("embed", None, "heads")))},
    "conv/kernel": ("height", "width", None, "embed"),
    **{f"{name}/bias": ("embed",) for name in ("up", "qkv", "conv")},
    "layer_scale": ("norm",),
    "norm/scale": ("norm",),
    "attention_biases": (None, None),
    "cls_token": (None, None, "embed"),
    "table/embedding": ("vocab", "embed"),
}
"""The logical axes of one layer, and of what stands around the stack."""
AXES = {f"around/{path}": names for path, names in NAMES.items()}
AXES |= {f"layers/{path}": ("layers", *names) for path, names in NAMES.items()} | {"bias": ("embed",)}
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
    compared(settings.build(4, axes=AXES), optax.lamb(rate, weight_decay=0.1), "kernel")
    adapted = optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(0.1, functools.partial(decayed, axes=NAMES)),
        optax.masked(optax.scale_by_trust_ratio(), functools.partial(decayed, axes=NAMES)),
        optax.scale_by_learning_rate(rate),
    )
    compared(settings.build(4, axes=AXES), adapted, *EVERY)


def test_lamb_moves_a_layer_by_its_own_size_and_takes_what_is_0_for_what_it_is():
    settings = LAMB(learning_rate=0.1, warmup_steps=1, decay="constant", weight_decay=0.0)
    optimizer = settings.build(10, axes={"layers/kernel": ("layers", "embed", "mlp")})
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
    ours = jax.jit(run(settings.build(4, axes=AXES)))(PARAMS, GRADIENTS)
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
    found = compared(step(clip_by_unit(0.5, axes=AXES)), step(optax.adaptive_grad_clip(0.5)), *names)
    free = jax.jit(run(step(optax.identity())))(only(PARAMS, *names), [only(tree, *names) for tree in GRADIENTS])
    assert not any(jax.tree.leaves(jax.tree.map(jnp.array_equal, found["around"], free["around"])))


def test_the_units_of_what_is_no_kernel_are_its_rows():
    """`timm`'s `adaptive_clip_grad`, which LeViT was trained with, written with loops."""
    share = 0.5
    ours, _ = clip_by_unit(share, axes=AXES).update(GRADIENTS[0], optax.EmptyState(), PARAMS)

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
    first = optax.chain(
        clip_by_unit(0.01, axes=AXES), AdamW(**{**vars(settings), "adaptive_clip": None}).build(4, axes=AXES)
    )
    ours, theirs = (jax.jit(run(optimizer))(PARAMS, GRADIENTS) for optimizer in (settings.build(4, axes=AXES), first))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    "settings",
    [SGD(nesterov=True, weight_decay=0.1, clip_norm=1.0), LAMB(), AdamW(adaptive_clip=0.01, layer_decay=0.7)],
    ids=lambda settings: type(settings).__name__,
)
def test_spread_parameters_move_as_those_of_one_device(settings):
    """Also where layers themselves are spread, and rows of matrices."""
    depths = tuple(range(1, LAYERS + 1))
    optimizer = settings.build(4, lambda path: depths if is_stacked(AXES[path]) else 0, AXES)
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("fsdp", "tensor"))

    def spread(path, x):
        spec = [None] * x.ndim
        if is_stacked(AXES[path_of(path)]):
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
        for path, applies in jax.tree_util.tree_leaves_with_path(decayed(PARAMS, AXES))
        if applies
    }
    names = ("up", "qkv", "conv")
    assert found == {f"{place}/{name}/kernel" for place in ("layers", "around") for name in names} | {
        "around/table/embedding"
    }


def test_what_a_parameter_is_called_says_nothing():
    """Vectors called kernel, of one layer and of a stack; T5's biases of attention, called embedding; a matrix called bias."""
    params = {"kernel": jnp.ones(8), "layers": {"kernel": jnp.ones((LAYERS, 8))}, "bias": jnp.ones((4, 8))}
    params |= {"blocks": {"kernel": jnp.ones((LAYERS, 8))}, "relative": {"embedding": jnp.ones((32, 4))}}
    axes = {"kernel": ("embed",), "layers/kernel": (None, "embed"), "bias": ("embed", "mlp")}
    axes |= {"blocks/kernel": ("layers", "embed"), "relative/embedding": ("bucket", "head")}
    applies = {path_of(path): applies for path, applies in jax.tree_util.tree_leaves_with_path(decayed(params, axes))}
    assert {path for path, one in applies.items() if one} == {"bias"}


@pytest.mark.parametrize("model_type", hub.model_types())
def test_stacks_and_kernels_of_every_model_are_known_by_their_axes(model_type):
    """As they are called in the models here: a stack `layers` or by its stage, what decays `kernel` or `embedding`, or `v`,
    a kernel's direction."""
    for kind in hub.model_classes(model_type).values():
        boxed = kind(hub.config_class(model_type)(scan_layers=True)).boxed_shapes()["params"]
        axes, params = axes_of(boxed), nn.unbox(boxed)
        for path, applies in jax.tree_util.tree_leaves_with_path(decayed(params, axes)):
            *modules, name = path_of(path).split("/")
            called = any(re.fullmatch(r"layers|stage_\d+(_rest|_pairs)?", module) for module in modules)
            assert is_stacked(axes[path_of(path)]) == called, (kind.__name__, path)
            assert applies == (name in ("kernel", "embedding", "v") and "relative_attention_bias" not in modules), path


@dataclasses.dataclass(frozen=True)
class TowerConfig(ModelConfig):
    num_channels: int = 4


class Floor(nn.Module):
    config: TowerConfig

    @nn.compact
    def __call__(self, x, number, shared):
        return x + jnp.tanh(dense(self.config, 4, "up", ("embed", "mlp"))(x)), None


class Tower(Model):
    """Somebody else's model of pictures, whose stack is called as they like."""

    config: TowerConfig
    called: str

    @nn.compact
    def __call__(self, pixel_values, *, dropout_keys=None) -> ModelOutput:
        x = dense(self.config, 4, "layers_before", ("embed", "mlp"))(pixel_values.mean(axis=(1, 2)))
        x, _ = stack(Floor, self.config, 3, self.called)(x, jnp.arange(3), None)
        return ModelOutput(logits=dense(self.config, 2, "embedding", ("embed", "head_out"))(x))


@pytest.mark.parametrize(
    "settings",
    [
        AdamW(adaptive_clip=0.01, layer_decay=0.7, weight_decay=0.1),
        LAMB(),
        SGD(weight_decay=0.1, clip_norm=0.1),
        Adafactor(factored_from=2),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_a_stack_called_blocks_moves_as_one_called_layers(settings):
    """Clipped, scaled, decayed and sized layer by layer; what lies before and behind it is called to mislead."""
    found, first = {}, Tower(TowerConfig(), "layers")
    initial = nn.unbox(first.init(jax.random.key(0), **first.blank())["params"])
    for called in ("layers", "blocks"):
        model = Tower(TowerConfig(), called)
        params = {called if name == "layers" else name: value for name, value in initial.items()}
        gradients = [jax.tree.map(lambda x, k=k: jnp.sin(k + x.size * x), params) for k in range(3)]
        optimizer = settings.build(4, model.depth, axes_of(model.boxed_shapes()["params"]))
        found[called] = jax.jit(run(optimizer))(params, gradients)
        found[called]["layers"] = found[called].pop(called)
        assert [model.depth(f"{name}/kernel") for name in ("layers_before", f"{called}/up", "embedding")] == [
            *(0, (1, 2, 3), 4)
        ]
    jax.tree.map(np.testing.assert_array_equal, found["layers"], found["blocks"])


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
