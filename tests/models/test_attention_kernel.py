"""Models whose attention the kernel computes give what they give by the reference, outputs and gradients."""

import dataclasses
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.bert import BertConfig, BertForMaskedLM
from models.config import ModelError
from models.gpt2 import GPT2Config, GPT2LMHeadModel
from models.kernels.platform import attention_version
from models.llama.config import LlamaConfig
from models.llama.model import LlamaForCausalLM
from models.t5.config import T5Config
from models.t5.model import T5ForConditionalGeneration
from models.vit import ViTConfig, ViTForImageClassification
from tests.models.small_configs import SMALL

IDS = jnp.arange(18, dtype=jnp.int32).reshape(2, 9)
MASK = jnp.ones((2, 9), jnp.int32).at[0, 5:].set(0)
PACKED = dict(input_ids=IDS, attention_mask=MASK, segment_ids=IDS // 5)
HEADS = dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=64, intermediate_size=64)
MODELS = {
    "bert": (BertForMaskedLM, BertConfig(vocab_size=20, **HEADS), dict(input_ids=IDS, attention_mask=MASK)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=20, n_embd=96, n_layer=2, n_head=3), PACKED),
    "llama": (LlamaForCausalLM, LlamaConfig(vocab_size=20, num_key_value_heads=1, **HEADS), PACKED),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(vocab_size=20, d_model=64, d_kv=32, num_heads=2, num_layers=2, num_decoder_layers=2, d_ff=64),
        dict(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS[:, :6]),
    ),
    "vit": (
        ViTForImageClassification,
        ViTConfig(image_size=16, patch_size=8, **HEADS),
        dict(pixel_values=jnp.linspace(0, 1, 2 * 16 * 16 * 3).reshape(2, 16, 16, 3)),
    ),
}


def outputs_and_gradients(name, **execution):
    kind, config, inputs = MODELS[name]
    model = kind(dataclasses.replace(config, **execution))
    variables = nn.unbox(kind(config).init(jax.random.key(0), **kind(config).blank()))
    keys = jax.random.split(jax.random.key(1), 2)

    def loss(variables):
        logits = model.apply(variables, **inputs, dropout_keys=keys).logits
        return (logits**2).mean(), logits

    return jax.jit(jax.grad(loss, has_aux=True))(variables)


def programs(name, **execution):
    kind, config, inputs = MODELS[name]
    model = kind(dataclasses.replace(config, **execution))
    variables = nn.unbox(model.boxed_shapes())
    return str(jax.make_jaxpr(lambda variables: model.apply(variables, **inputs))(variables))


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        pytest.param("bert", dict(scan_layers=True, remat="dots")),
        *(
            pytest.param(name, execution, marks=pytest.mark.slow)
            for name, execution in [
                ("bert", dict(remat="full")),
                ("bert", dict(scan_layers=True)),
                ("gpt2", dict()),
                ("llama", dict(scan_layers=True, remat="full")),
                ("t5", dict(scan_layers=True, remat="dots")),
                ("vit", dict(remat="dots")),
            ]
        ),
    ],
)
def test_the_kernel_changes_no_number(name, execution):
    expected, found = outputs_and_gradients(name), outputs_and_gradients(name, attention="kernel", **execution)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_attention_of_a_model_is_the_kernels(name):
    assert "pallas_call" not in programs(name)
    program = programs(name, attention="kernel")
    assert "pallas_call" in program
    kind, config, inputs = MODELS[name]
    model = kind(dataclasses.replace(config, attention="kernel"))
    asked = model.apply(
        nn.unbox(kind(config).init(jax.random.key(0), **kind(config).blank())), **inputs, output_attentions=True
    )
    assert any(x is not None for key, x in asked.items() if key.endswith("attentions"))


def test_what_is_outside_the_kernels_limits_takes_the_reference_and_says_so():
    config = dataclasses.replace(MODELS["bert"][1], num_attention_heads=4, attention="kernel")
    model = BertForMaskedLM(config)
    with pytest.warns(UserWarning, match="takes the reference, not the kernel, which does not take heads of 16"):
        program = jax.make_jaxpr(lambda v: model.apply(v, IDS, MASK))(nn.unbox(model.boxed_shapes()))
    assert "pallas_call" not in str(program)


def test_the_kernel_runs_again_where_remat_keeps_less():
    def calls(remat):
        model = BertForMaskedLM(
            dataclasses.replace(MODELS["bert"][1], attention="kernel", remat=remat, scan_layers=True)
        )
        loss = jax.grad(lambda v: (model.apply(v, IDS, MASK).logits ** 2).mean())
        program = str(jax.make_jaxpr(loss)(nn.unbox(model.boxed_shapes())))
        return program.count("name=attention_forward") + program.count("attention_forward for")

    assert calls("dots") == calls("full") == 2 * calls("none") > 0


def test_auto_is_the_kernel_on_the_tpus_that_it_is_compiled_for():
    class Device:
        def __init__(self, device_kind):
            self.device_kind = device_kind

    kinds = {"TPU v5 lite": "kernel", "TPU v6 lite": "kernel", "TPU v3": "reference", "cpu": "reference"}
    assert {kind: attention_version("auto", Device(kind)) for kind in kinds} == kinds
    assert attention_version("auto") == "reference" and attention_version("kernel", Device("cpu")) == "kernel"
    with pytest.raises(ModelError, match="attention='flash': expected reference, kernel, auto"):
        BertConfig(attention="flash")


@pytest.mark.parametrize("model_type", SMALL)
def test_a_config_says_whether_there_is_a_kernel(model_type):
    config = hub.config_class(model_type).from_json(SMALL[model_type])
    if not config.attention_kernel:
        with pytest.raises(ModelError, match=f"attention='kernel': {model_type} has none"):
            dataclasses.replace(config, attention="kernel")
        return
    model = hub.model_class(model_type, next(iter(hub.model_classes(model_type))))(
        dataclasses.replace(config, attention="kernel")
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), **model.blank()))
    # These heads are smaller than the kernel's smallest; it was asked, and said so.
    assert any("which does not take heads of" in str(one.message) for one in said)
