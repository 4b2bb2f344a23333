"""What every model says of itself is true of it: tried on every class of every architecture, at a size of a few numbers."""

import jax
import jax.numpy as jnp
import pytest

from models import hub
from models.config import ModelError
from models.model import Model
from tests.models.small_configs import SMALL

LABELS = tuple("abcde")
EVERY = [(model_type, name) for model_type in hub.model_types() for name in hub.model_classes(model_type)]

DETECTORS = ("detr", "mask2former")
"""Types of models that have one logit more, for no object."""
FROZEN = ("detr",)
"""Types of models whose batch norms are frozen: they have statistics, and no step changes them."""


def published(model_type: str, name: str) -> Model:
    """The class with the config that it has by default, but five labels; nothing of it is computed."""
    config = hub.config_class(model_type)
    labels = {"labels": LABELS} if config.labels else {}
    return hub.model_class(model_type, name)(config(**labels, scan_layers=True))


def outputs(model: Model, **inputs: jax.Array) -> dict[str, tuple[int, ...]]:
    """Shapes by name, of blank inputs or of these."""
    given = inputs or model.blank()
    found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), **given)[0])
    return {name: x.shape for name, x in found.items() if isinstance(x, jax.ShapeDtypeStruct)}


@pytest.mark.parametrize(("model_type", "name"), EVERY)
def test_what_a_model_says_of_itself(model_type, name):
    model = published(model_type, name)
    given, blank = outputs(model), model.blank()
    assert blank.keys() <= set(model.inputs) and "dropout_keys" not in model.inputs
    assert all(x.shape[0] == 1 for x in blank.values())
    if model.labelled:
        logits = given.get("logits") or given["class_queries_logits"]
        assert logits[-1] == len(LABELS) + (model_type in DETECTORS)
    else:
        assert len(LABELS) not in {shape[-1] for output, shape in given.items() if "logits" in output}
    if model.generates:
        assert "past_key_values" in model.inputs and given["logits"] == (1, 2, model.config.vocab_size)
    if model.choices:
        assert given["logits"] == (1, 2) == blank["input_ids"].shape[:2]
    assert model.batch_statistics == ("batch_stats" in model.boxed_shapes() and model_type not in FROZEN)
    assert (model.members == (model,) and model.joined is None) or name == "ElectraForJointPreTraining"


@pytest.mark.parametrize(("model_type", "name"), [one for one in EVERY if one[0] in ("bert", "gpt2", "bart")])
def test_as_many_tokens_as_there_is_room_for(model_type, name):
    model = published(model_type, name)
    for taken in ("input_ids", "decoder_input_ids"):
        if taken not in model.inputs:
            continue
        longest, others = model.longest(taken), {other: x for other, x in model.blank().items() if other != taken}
        shape = (*model.blank()[taken].shape[:-1], longest)
        outputs(model, **{taken: jnp.zeros(shape, jnp.int32)}, **others)
        with pytest.raises(ModelError, match=f"{longest + 1} tokens do not fit"):
            outputs(model, **{taken: jnp.zeros((*shape[:-1], longest + 1), jnp.int32)}, **others)
    assert model.longest("attention_mask") is None


def test_bases_are_no_models():
    for module, base in (("bert", "BertHead"), ("gpt2", "GPT2Head"), ("t5", "T5Base"), ("levit", "LevitHead")):
        with pytest.raises(ModelError, match=f"unknown architecture '{base}'"):
            hub.model_class(module, base)


def test_forward_flops_are_those_of_the_class():
    """Two layers, H = 8, I = 16, two texts of 4 tokens; every head adds what its equations have, and only that."""
    hidden, vocabulary, texts, tokens = 8, 30, 2, 8
    shape = dict(num_hidden_layers=2, hidden_size=hidden, num_attention_heads=2, intermediate_size=16, labels=LABELS)
    config = hub.config_class("bert")(vocab_size=vocabulary, **shape)
    encoder = tokens * 2 * (8 * hidden**2 + 4 * hidden * 16 + 4 * hidden * 4)
    pooler, square = 2 * texts * hidden**2, 2 * hidden**2
    heads = {
        "BertModel": pooler,
        "BertForMaskedLM": tokens * (square + 2 * hidden * vocabulary),
        "BertForPreTraining": pooler + tokens * (square + 2 * hidden * vocabulary) + texts * 4 * hidden,
        "BertForSequenceClassification": pooler + texts * 2 * hidden * len(LABELS),
        "BertForTokenClassification": tokens * 2 * hidden * len(LABELS),
    }
    for name, head in heads.items():
        model = hub.model_class("bert", name)(config)
        assert model.forward_flops({"input_ids": (2, 4), "index": (2,)}) == encoder + head, name


def test_forward_flops_of_convolutions_and_loops():
    """One stage of two blocks behind 2 x 2 patches, each block a depthwise 7 x 7, and two projections."""
    shape = dict(num_stages=1, hidden_sizes=(6,), depths=(2,), patch_size=2, labels=LABELS)
    pixels, places, features = {"pixel_values": (3, 8, 6, 3)}, 3 * 4 * 3, 6
    wanted = places * (2 * 12 * features + 2 * (2 * 49 * features + 16 * features**2)) + 3 * 2 * features * len(LABELS)
    for scanned in (True, False):
        config = hub.config_class("convnext")(**shape, scan_layers=scanned)
        assert hub.model_class("convnext", "ConvNextForImageClassification")(config).forward_flops(pixels) == wanted


@pytest.mark.parametrize(("model_type", "name"), [("gpt2", "GPT2Model"), ("bart", "BartModel"), ("vit", "ViTModel")])
def test_a_call_takes_its_settings_and_no_others(model_type, name):
    model = hub.model_class(model_type, name)(hub.config_class(model_type).from_json(SMALL[model_type]))
    variables = model.init(jax.random.key(0), **model.blank())
    assert {"dropout_keys", "output_hidden_states", "output_attentions"} <= set(model.settings)
    outputs = model.apply(variables, **model.blank(), output_attentions=True)
    assert any("attentions" in name for name in outputs) and not any("hidden_states" in name for name in outputs)
    with pytest.raises(TypeError, match="output_attention'"):
        model.apply(variables, **model.blank(), output_attention=True)
