"""Forward-mode derivatives of every architecture: those of reverse mode, and the limit of differences, in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.model import Model
from tests.models.small_configs import SMALL

pytestmark = pytest.mark.slow

BATCH, LENGTH, STEP = 3, 7, 1e-7
CLASSES = {
    "bert": "BertForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
    "electra": "ElectraForJointPreTraining",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "vit": "ViTForMaskedImageModeling",
    "vit_mae": "ViTMAEForPreTraining",
    "convnext": "ConvNextForImageClassification",
    "cvt": "CvtForImageClassification",
    "levit": "LevitForImageClassification",
    "resnet": "ResNetForImageClassification",
    "detr": "DetrForSegmentation",
    "swin": "SwinForImageClassification",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "segformer": "SegformerForImageClassification",
    "glpn": "GLPNForDepthEstimation",
}
FROZEN = "final_logits_bias", "sinusoids"
"""Parameters that a model gives no gradient, where differences would see one."""

REMAT = {"bert": "dots", "resnet": "full"}
"""Models whose layers are computed again in the backward pass; `jax.linearize` and `jax.jacfwd` are tried on these."""


def inputs_of(model: Model) -> dict[str, jax.Array]:
    """Random ids, the first row ending early, or random images."""
    random, inputs = np.random.default_rng(0), {}
    for name, blank in model.blank().items():
        if name == "pixel_values":
            inputs[name] = jnp.asarray(random.normal(size=(BATCH, *blank.shape[1:])))
        else:
            inputs[name] = jnp.asarray(random.integers(5, 40, (BATCH, LENGTH)), jnp.int32)
    if "attention_mask" in model.inputs:
        inputs["attention_mask"] = jnp.ones((BATCH, LENGTH), jnp.int32).at[0, 5:].set(0)
    return inputs


def noise_like(tree, seed: int, scale: float = 1.0):
    leaves, form = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [scale * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(form, noise)


@pytest.mark.parametrize("model_type", CLASSES)
def test_forward_mode_is_reverse_mode_and_the_limit_of_differences(model_type):
    with jax.enable_x64(True):
        settings = dict(remat=REMAT.get(model_type, "none"), scan_layers=True, dtype="float64", param_dtype="float64")
        if model_type == "detr":
            settings["freeze_batch_norm"] = False  # frozen norms have no gradient, and yet their values count
        config = hub.config_class(model_type).from_json(SMALL[model_type], **settings)
        check_derivatives(hub.model_class(model_type, CLASSES[model_type])(config))


def check_derivatives(model: Model) -> None:
    inputs = inputs_of(model)
    shapes = dict(nn.unbox(jax.eval_shape(functools.partial(model.init, **inputs), jax.random.key(0))))
    params = noise_like(shapes.pop("params"), 1, scale=0.3)
    variables = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    settings = {"batch_axes": ()} if model.batch_statistics else {}
    direction = jax.tree.map_with_path(
        lambda path, x: jnp.zeros_like(x) if path[-1].key in FROZEN else x, noise_like(params, 2)
    )

    @jax.jit
    def loss(params):
        outputs, _ = model.apply({"params": params, **variables}, **inputs, **settings, mutable=["batch_stats"])
        floating = [x for x in jax.tree.leaves(dict(outputs)) if x.dtype == jnp.float64]
        return sum(jnp.sin(x).mean() for x in floating)

    def at(step):
        return jax.tree.map(lambda x, y: x + step * y, params, direction)

    @jax.jit
    def derivatives(params):
        reverse = jax.tree.map(jnp.vdot, jax.grad(loss)(params), direction)
        forward = [jax.jvp(loss, (params,), (direction,))[1]]
        if model.config.remat != "none":
            forward += [jax.linearize(loss, params)[1](direction), jax.jacfwd(lambda step: loss(at(step)))(0.0)]
        return sum(jax.tree.leaves(reverse)), jnp.stack(forward)

    reverse, forward = derivatives(params)
    assert abs(reverse) > 1e-4
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    np.testing.assert_allclose((loss(at(STEP)) - loss(at(-STEP))) / (2 * STEP), reverse, rtol=1e-6)
