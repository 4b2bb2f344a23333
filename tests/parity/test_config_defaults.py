"""What a `config.json` leaves out, against the live config classes of `transformers`: every field, every class with a head."""

import dataclasses
import json

import numpy as np
import pytest

from models import hub
from models.backbone import read_backbone_config
from tests.models.small_configs import SMALL
from tests.parity.configs import CLASSES, fields_of, published_config
from tests.parity.reference import transformers

NO_NUMBER = {
    "use_cache": "whether `generate` keeps keys and values",
    "chunk_size_feed_forward": "how much of a text a feed-forward layer takes at once",
    "is_encoder_decoder": "which pipeline a folder is for",
    "pretraining_tp": "read by no class since version 4",
}
"""Fields that change no number, and what they are."""

UNREAD = {
    "bert": {"is_decoder", "add_cross_attention", "bos_token_id", "eos_token_id"},
    "electra": {"is_decoder", "add_cross_attention", "bos_token_id", "eos_token_id"},
    "distilbert": {"sinusoidal_pos_embds", "bos_token_id", "eos_token_id"},
    "gpt2": {
        *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
        *("summary_first_dropout", "add_cross_attention"),
    },
    "t5": {"is_decoder", "classifier_dropout"},
    "bart": {"is_decoder", "tie_word_embeddings", "encoder_layerdrop", "decoder_layerdrop"},
    "mbart": {"is_decoder", "tie_word_embeddings", "encoder_layerdrop", "decoder_layerdrop"},
    "marian": {
        *("is_decoder", "tie_word_embeddings", "encoder_layerdrop", "decoder_layerdrop"),
        *("share_encoder_decoder_embeddings", "decoder_vocab_size"),
    },
    "whisper": {
        *("tie_word_embeddings", "encoder_layerdrop", "decoder_layerdrop", "apply_spec_augment"),
        *(f"mask_{axis}_{what}" for axis in ("time", "feature") for what in ("prob", "length", "min_masks")),
    },
    "cvt": {"layer_norm_eps"},
    "segformer": {"layer_norm_eps", "decoder_hidden_size", "classifier_dropout_prob", "semantic_loss_ignore_index"},
    "glpn": {"layer_norm_eps"},
    "detr": {
        *("encoder_layerdrop", "decoder_layerdrop", "num_channels", "auxiliary_loss"),
        *("class_cost", "bbox_cost", "giou_cost", "eos_coefficient"),
        *(f"{name}_loss_coefficient" for name in ("mask", "dice", "bbox", "giou")),
    },
    "mask2former": {
        *("ignore_value", "class_weight", "mask_weight", "dice_weight", "train_num_points", "oversample_ratio"),
        *("importance_sample_ratio", "use_auxiliary_loss", "output_auxiliary_logits"),
    },
    "wav2vec2": {
        *("tdnn_dim", "tdnn_kernel", "tdnn_dilation", "xvector_output_dim", "add_adapter", "adapter_attn_dim"),
        *("adapter_kernel_size", "adapter_stride", "num_adapter_layers", "output_hidden_size"),
    },
}
"""Fields without one of ours: at their defaults they ask for nothing that is not done, and what else they say is refused or
concerns no class here (`test_config_fields.py`)."""


def plain(value):
    """Lists for tuples and mappings for configs, as in a file."""
    return json.loads(json.dumps(value, default=lambda config: config.to_dict()))


@pytest.mark.parametrize("model_type", SMALL)
def test_every_field_left_out_is_the_live_default(model_type):
    live = transformers.AutoConfig.for_model(model_type)
    config = hub.config_class(model_type).from_json({"model_type": model_type})
    ours = config.to_json()
    shapes = {"num_key_value_heads": "key_value_heads", "head_dim": "head_size", "num_decoder_layers": "decoder_layers"}
    implied = {name: getattr(config, value) for name, value in shapes.items() if hasattr(config, value)}
    if model_type == "vit":
        implied["pooler_output_size"] = config.hidden_size  # where it is null
    if model_type == "llama":
        implied["rope_parameters"] = {"rope_theta": config.rope_theta, "rope_type": "default"}
        assert config.rope_scaling is None
    if hasattr(live, "backbone_config"):
        assert read_backbone_config(plain(live.backbone_config)) == config.backbone_config
        implied["backbone_config"] = live.backbone_config
    found = {name: implied.get(name, ours.get(name)) for name in fields_of(live)}
    left = NO_NUMBER.keys() | UNREAD.get(model_type, set())
    assert left.isdisjoint(ours.keys() - {"is_encoder_decoder"})
    differ = {
        name: (found[name], getattr(live, name))
        for name in found.keys() - left
        if plain(found[name]) != plain(getattr(live, name))
    }
    assert not differ, differ
    if config.labels:
        assert dict(enumerate(config.labels)) == live.id2label
    assert getattr(live, "scale_decoder_outputs", None) == ours.get("scale_decoder_outputs")


@pytest.mark.parametrize("labels", [None, 5])
@pytest.mark.parametrize(("model_type", "architecture"), CLASSES, ids=lambda x: x)
def test_every_tensor_has_the_shape_of_the_live_class(model_type, architecture, labels, tmp_path):
    """With a `config.json` that names no labels, or only counts them."""
    if labels is not None and (architecture.endswith("QuestionAnswering") or "For" not in architecture):
        pytest.skip("this class has no labels, or two")
    counted = {} if labels is None else {"num_labels": labels}
    live = getattr(transformers, architecture)(published_config(model_type, **counted))
    published = {"model_type": model_type, "architectures": [architecture], **SMALL[model_type], **counted}
    (tmp_path / "config.json").write_text(json.dumps(published))
    model = hub.outline(tmp_path)
    shapes = hub.shapes_of(model)
    table = hub.names_of(model.config)
    base, names = table.is_base(shapes), table.by_ours(shapes)
    expected = {table.today(name, base): tuple(x.shape) for name, x in live.state_dict().items()}
    found = {}
    for path, name in names.items():
        shape = shapes[path].shape
        parts = [name.of_layer(i) for i in range(shape[0])] if name.layered else [name.published]
        array = np.zeros(shape[1:] if name.layered else shape)
        found |= dict.fromkeys(parts, name.publish(array).shape)
    assert found == {name: expected.get(name) for name in found}
    missing = {name for name in expected.keys() - found.keys() if not table.is_ignored(name, base)}
    assert not {name for name in missing if not name.endswith("embed_positions.weight")}  # Marian's sinusoids


@pytest.mark.parametrize("model_type", SMALL)
def test_every_field_is_written_back(model_type):
    """Their config as ours, written by us and read by them: the same in every field that has one of ours."""
    live = published_config(model_type, num_labels=4)
    config = hub.config_class(model_type)
    again = type(live).from_dict(plain(config.from_json(plain(live.to_dict())).to_json()))
    left = NO_NUMBER.keys() | UNREAD.get(model_type, set())
    differ = {
        name: (getattr(again, name), getattr(live, name))
        for name in set(fields_of(live)) - left
        if plain(getattr(again, name)) != plain(getattr(live, name))
    }
    assert not differ, differ
    assert again.num_labels == 4 or "labels" not in {field.name for field in dataclasses.fields(config)}
