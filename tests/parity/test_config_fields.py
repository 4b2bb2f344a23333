"""Each field of the live config classes of `transformers`, set to something else: our numbers follow, or we refuse by name.

A small live model with the field changed is saved and loaded here: the outputs agree to 1e-4, or the folder is refused with a
sentence that names the field. Settings of training alone are compared as values. `REFUSED` lists what is still refused.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.config import ModelConfig, ModelError
from tests.models.small_configs import SMALL
from tests.parity.configs import fields_of, published_config
from tests.parity.reference import difference, perturbed, tensors, torch, transformers

ARCHITECTURES = {
    "bert": "BertForPreTraining",
    "electra": "ElectraForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "marian": "MarianMTModel",
    "whisper": "WhisperForConditionalGeneration",
    "vit": "ViTForImageClassification",
    "vit_mae": "ViTMAEForPreTraining",
    "convnext": "ConvNextForImageClassification",
    "resnet": "ResNetForImageClassification",
    "detr": "DetrForObjectDetection",
    "levit": "LevitForImageClassification",
    "swin": "SwinForImageClassification",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "cvt": "CvtForImageClassification",
    "segformer": "SegformerForImageClassification",
    "glpn": "GLPNForDepthEstimation",
    "wav2vec2": "Wav2Vec2ForCTC",
}
OTHERS = {
    ("electra", "summary_type"): "ElectraForMultipleChoice",
    ("electra", "summary_use_proj"): "ElectraForMultipleChoice",
    ("electra", "summary_activation"): "ElectraForMultipleChoice",
    ("gpt2", "pad_token_id"): "GPT2ForSequenceClassification",
    ("llama", "pad_token_id"): "LlamaForSequenceClassification",
    ("bart", "eos_token_id"): "BartForSequenceClassification",
    ("mbart", "eos_token_id"): "MBartForSequenceClassification",
    ("whisper", "use_weighted_layer_sum"): "WhisperForAudioClassification",
    ("whisper", "classifier_proj_size"): "WhisperForAudioClassification",
    ("vit", "pooler_act"): "ViTModel",
    ("vit", "pooler_output_size"): "ViTModel",
    ("vit", "encoder_stride"): "ViTForMaskedImageModeling",
    ("wav2vec2", "use_weighted_layer_sum"): "Wav2Vec2ForSequenceClassification",
}
"""The class that reads a field, where it is not the architecture's in `ARCHITECTURES`."""

TRAINING = re.compile(r"drop|init|_std$|norm_pix_loss|^(bos|decoder_start|forced_eos)_token_id$|suppress|median")
"""Fields that only training or generation reads: their values are compared, and what they do there has tests of its own."""

ROPE = dict(rope_theta=10_000.0, factor=2.0)
MIX = {
    "num_encoder_blocks": [3],
    "sr_ratios": [[4, 2, 1, 1]],
    "patch_sizes": [[5, 3, 1, 3]],
    "strides": [[2, 2, 2, 2]],
    "mlp_ratios": [[1, 2, 2, 3]],
}
VALUES: dict[str, dict[str, list[Any]]] = {
    "electra": {"summary_type": ["last", "mean"]},
    "gpt2": {"summary_type": ["last"], "summary_activation": ["tanh"]},
    "llama": {
        "rope_parameters": [
            {"rope_type": "default", "rope_theta": 50.0},
            {**ROPE, "rope_type": "linear"},
            {**ROPE, "rope_type": "dynamic"},
            {
                **ROPE,
                **dict(rope_type="llama3", low_freq_factor=1.0, high_freq_factor=4.0),
                "original_max_position_embeddings": 8,
            },
            {**ROPE, "rope_type": "yarn", "original_max_position_embeddings": 8},
            {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 0.5},
        ],
        "head_dim": [12],
        "pretraining_tp": [2],
        "eos_token_id": [7, [7, 8], None],
    },
    "t5": {
        "feed_forward_proj": ["gated-gelu", "gated-silu", "quick_gelu"],
        "relative_attention_num_buckets": [8, 9],
        "relative_attention_max_distance": [20],
        "dense_act_fn": ["silu"],
        "is_gated_act": [True],
        "scale_decoder_outputs": [False],
        "tie_word_embeddings": [False],
        "decoder_start_token_id": [3],
    },
    "marian": {"decoder_vocab_size": [64]},
    "vit": {"pooler_output_size": [12]},
    "vit_mae": {"mask_ratio": [0.5]},
    "convnext": {"layer_scale_init_value": [0.5, 0.0]},
    "resnet": {"layer_type": ["basic"]},
    "detr": {"position_embedding_type": ["learned"]},
    "mask2former": {"no_object_weight": [0.3], "common_stride": [8], "feature_strides": [[8, 8, 16, 32]]},
    "swin": {"mlp_ratio": [2.0], "encoder_stride": [16]},
    "levit": {
        "kernel_size": [5],
        "padding": [2],
        "stride": [1],
        "patch_size": [8],
        "mlp_ratio": [[1, 2, 3]],
        "attention_ratio": [[1, 2, 3]],
        "drop_path_rate": [1],
    },
    "cvt": {
        "patch_sizes": [[5, 3, 3]],
        "patch_stride": [[2, 2, 2]],
        "patch_padding": [[3, 1, 1]],
        "mlp_ratio": [[2.0, 3.0, 1.5]],
        "attention_drop_rate": [[0.1, 0.2, 0.3]],
        "drop_rate": [[0.1, 0.2, 0.3]],
        "drop_path_rate": [[0.1, 0.2, 0.3]],
        "qkv_bias": [[False, True, False]],
        "cls_token": [[False, False, False], [False, True, True]],
        "qkv_projection_method": [["avg", "dw_bn", "dw_bn"]],
        "kernel_qkv": [[3, 3, 5]],
        "padding_kv": [[1, 1, 0]],
        "stride_kv": [[1, 2, 2]],
        "padding_q": [[1, 1, 2]],
        "stride_q": [[1, 1, 2]],
    },
    "segformer": MIX,
    "glpn": dict(MIX, decoder_hidden_size=[16], max_depth=[80], head_in_index=[2, -3]),
    "wav2vec2": {
        "feat_extract_norm": ["layer"],
        "num_codevector_groups": [4],
        "adapter_attn_dim": [16],
        "ctc_loss_reduction": ["mean"],
        "contrastive_logits_temperature": [0.2],
        "num_negatives": [5],
        "diversity_loss_weight": [0.2],
        "mask_time_prob": [0.0, 0.5],
        "mask_feature_prob": [0.1],
        "mask_time_length": [3],
        "mask_time_min_masks": [3],
        "mask_feature_length": [3],
        "mask_feature_min_masks": [3],
    },
}
"""Values of fields for which `others` has none."""

ALONG = {
    ("levit", "kernel_size"): {"padding": 2},
    ("levit", "padding"): {"kernel_size": 5},
    ("levit", "stride"): {"patch_size": 1, "image_size": 8},
    ("cvt", "kernel_qkv"): {"padding_q": [1, 1, 2], "padding_kv": [1, 1, 2]},
}
"""What must change along with a field for there to be such a model."""

REFUSED = {
    "mask2former": {"pre_norm": "True", "common_stride": "8", "feature_strides": "8"},
    "bert": {"is_decoder": "True"},
    "electra": {"is_decoder": "True"},
    "gpt2": {"add_cross_attention": "True"},
    "llama": {"rope_parameters": "yarn|partial_rotary_factor"},
    "t5": {"is_decoder": "True"},
    "bart": {"tie_word_embeddings": "False", "encoder_layerdrop": "0.25", "decoder_layerdrop": "0.25"},
    "mbart": {"tie_word_embeddings": "False", "encoder_layerdrop": "0.25", "decoder_layerdrop": "0.25"},
    "marian": {
        **{"tie_word_embeddings": "False", "encoder_layerdrop": "0.25", "decoder_layerdrop": "0.25"},
        "share_encoder_decoder_embeddings": "False",
    },
    "whisper": {"tie_word_embeddings": "False", "encoder_layerdrop": "0.25", "decoder_layerdrop": "0.25"},
    "wav2vec2": {"add_adapter": "True", "adapter_attn_dim": "16"},
    "detr": {
        **{"position_embedding_type": "learned", "dilation": "True"},
        **{"encoder_layerdrop": "0.25", "decoder_layerdrop": "0.25"},
    },
}
"""Fields whose values are refused, which the pattern finds."""

IMPOSSIBLE = {
    "bert": {"add_cross_attention": "True"},
    "electra": {"add_cross_attention": "True"},
    "gpt2": {"pad_token_id": "None"},
    "llama": {"pad_token_id": "None"},
    "levit": {"patch_size": "8"},
    "segformer": {"num_encoder_blocks": "3"},
    "glpn": {"num_encoder_blocks": "3"},
    "cvt": {
        **{"cls_token": "False, False, False|False, True, True", "qkv_projection_method": "avg"},
        **{"padding_kv": "0", "padding_q": "2", "stride_q": "2"},
    },
}
"""Those of which `transformers` makes no model, or none that takes two texts at once."""

UNREAD = {
    "mask2former": {
        *("ignore_value", "class_weight", "mask_weight", "dice_weight", "train_num_points", "oversample_ratio"),
        *("importance_sample_ratio", "use_auxiliary_loss", "output_auxiliary_logits"),
    },
    "detr": {
        *("num_channels", "auxiliary_loss", "class_cost", "bbox_cost", "giou_cost", "eos_coefficient"),
        *(f"{name}_loss_coefficient" for name in ("mask", "dice", "bbox", "giou")),
    },
    "bert": {"bos_token_id"},
    "electra": {"bos_token_id"},
    "distilbert": {"bos_token_id"},
    "gpt2": {"summary_first_dropout"},
    "t5": {"classifier_dropout"},
    "whisper": {
        "apply_spec_augment",
        *(f"mask_{axis}_{what}" for axis in ("time", "feature") for what in ("prob", "length", "min_masks")),
    },
    "segformer": {"decoder_hidden_size", "classifier_dropout_prob", "semantic_loss_ignore_index"},
    "wav2vec2": {
        *("tdnn_dim", "tdnn_kernel", "tdnn_dilation", "xvector_output_dim"),
        *("adapter_kernel_size", "adapter_stride", "num_adapter_layers", "output_hidden_size"),
    },
}
"""Settings of training, of generation or of adapters that no class here reads; of detectors, those of the objective, and the
channels of a backbone that has a config."""


def others(config, name: str) -> list[Any]:
    """Values of a field that are not its default."""
    value = getattr(config, name)
    if isinstance(value, bool):
        return [not value]
    if name == "pad_token_id":
        return [3, None]
    if name == "eos_token_id":
        return [7]
    if name.endswith("_token_id"):
        return [9]
    if name == "chunk_size_feed_forward":
        return [1]
    if re.search("eps", name):
        return [0.1]
    if re.search("act(ivation)?$|activation_function", name):
        return ["quick_gelu"]
    if TRAINING.search(name):
        return [0.25]
    raise AssertionError(f"{name}={value!r}: a field without another value to try; add one to VALUES")


def cases() -> list[tuple[str, str, Any]]:
    """(model type, field, value) of every field that the small models leave at its default, and some under other names."""
    found = []
    for model_type in SMALL:
        config = transformers.AutoConfig.for_model(model_type)
        special = VALUES.get(model_type, {})
        skipped = {"is_encoder_decoder"} | UNREAD.get(model_type, set())
        names = [name for name in dict.fromkeys([*fields_of(config), *special]) if name not in skipped]
        left = [
            name for name in names if name not in SMALL[model_type] or name in special or name.endswith("_token_id")
        ]
        found += [(model_type, name, value) for name in left for value in special.get(name) or others(config, name)]
    return found


def inputs(architecture: str, config) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    if hasattr(config, "conv_stride"):
        return {"input_values": rng.normal(size=(2, 400)).astype(np.float32)}
    if hasattr(config, "num_channels") or hasattr(config, "backbone_config"):
        size = getattr(config, "image_size", 32)
        channels = getattr(config, "num_channels", 3)
        images = {"pixel_values": rng.normal(size=(2, size, size, channels)).astype(np.float32)}
        if architecture == "ViTMAEForPreTraining":
            images["noise"] = rng.random((2, (size // config.patch_size) ** 2)).astype(np.float32)
        return images
    if hasattr(config, "num_mel_bins"):
        shape = (2, 2 * config.max_source_positions, config.num_mel_bins)
        sound = {"input_features": rng.normal(size=shape).astype(np.float32)}
        if "Classification" not in architecture:
            sound["decoder_input_ids"] = rng.integers(10, 60, (2, 6))
        return sound
    ids = rng.integers(10, 60, (2, 12))
    end = getattr(config, "eos_token_id", None)
    ids[:, [4, 8]] = end if isinstance(end, int) else 7  # for those who look for the end of a text
    mask = np.ones_like(ids)
    filler = getattr(config, "pad_token_id", None) if architecture.endswith("SequenceClassification") else None
    ids[1, 9:], mask[1, 9:] = 5 if filler is None else filler, 0  # classifiers there look for it, ours for the mask too
    arrays = {"input_ids": ids, "attention_mask": mask}
    if architecture.endswith("MultipleChoice"):
        return {name: array[None] for name, array in arrays.items()}
    if config.is_encoder_decoder and not architecture.endswith("SequenceClassification"):
        arrays["decoder_input_ids"] = rng.integers(10, 60, (2, 6))
    return arrays


def first(outputs) -> Any:
    """The output that a class is for."""
    names = (
        "prediction_logits",
        "logits",
        "masks_queries_logits",
        "reconstruction",
        "predicted_depth",
        "pooler_output",
        "last_hidden_state",
    )
    return next(outputs[name] for name in names if outputs.get(name) is not None)


def with_sinusoids(model):
    """The model with Marian's sinusoids as they should be, which are among its parameters."""
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "create_weight"):
                module.weight.copy_(module.create_weight())
    return model


def answer(architecture: str, config) -> np.ndarray:
    """What the live model gives for the inputs."""
    live = with_sinusoids(perturbed(architecture, config))
    with torch.no_grad():
        return first(live(**tensors(inputs(architecture, config)))).numpy()


@functools.cache
def unchanged(model_type: str, architecture: str) -> tuple[ModelConfig, np.ndarray]:
    """Our config, and what the live model gives, of the small model as it stands in `SMALL`."""
    config = published_config(model_type, attn_implementation="eager")
    return hub.config_class(model_type).from_json(config.to_dict()), answer(architecture, config)


def outcome(model_type: str, name: str, value: Any, folder: Path) -> str:
    """`agrees`, `refused`, or what is wrong."""
    architecture = OTHERS.get((model_type, name), ARCHITECTURES[model_type])
    try:
        config = published_config(model_type, **{name: value}, **ALONG.get((model_type, name), {}))
        config._attn_implementation = "eager"
        config.save_pretrained(folder)
        expected = None if TRAINING.search(name) else answer(architecture, config)
    except Exception as error:
        return f"transformers refuses it: {type(error).__name__}"
    try:
        if expected is None:
            return compare_values(folder, name)
        ours, theirs = unchanged(model_type, architecture)
        if hub.config_class(model_type).from_json(config.to_dict()) == ours and np.array_equal(expected, theirs):
            return "agrees"  # the same config of ours gives the same numbers
        with_sinusoids(perturbed(architecture, config)).save_pretrained(folder)
        model, variables = hub.load(folder)
    except ModelError as error:
        names = [name, *value] if isinstance(value, dict) else [name]
        said = any(re.search(rf"\b{name}\b", str(error)) for name in names)
        return "refused" if said else f"refused without its name: {error}"
    arrays = inputs(architecture, config)
    found = np.asarray(first(model.apply(variables, **{name: jnp.asarray(x) for name, x in arrays.items()})))
    if expected.ndim == 4 and found.shape != expected.shape:
        expected = expected.transpose(0, 2, 3, 1)
    if "attention_mask" in arrays and found.shape[:2] == arrays["input_ids"].shape:
        found, expected = found[arrays["attention_mask"] > 0], expected[arrays["attention_mask"] > 0]
    if found.shape != expected.shape:
        return f"silently of shape {found.shape}, expected {expected.shape}"
    error = difference(found, expected)
    return "agrees" if error < 1e-4 else f"silently different by {error:.2g}"


def compare_values(folder: Path, name: str) -> str:
    """Whether a field has the value here that a folder's `config.json` has."""
    published = json.loads((folder / "config.json").read_text())
    config = hub.config_class(published["model_type"]).from_json(published)
    ours = json.loads(json.dumps(config.to_json()))
    return (
        "agrees" if ours.get(name) == published[name] else f"silently {ours.get(name)!r}, expected {published[name]!r}"
    )


@pytest.mark.parametrize(("model_type", "name", "value"), cases(), ids=lambda x: re.sub(r"\W+", " ", str(x)).strip())
def test_a_field_is_obeyed_or_refused_by_name(model_type, name, value, tmp_path):
    found = outcome(model_type, name, value, tmp_path)
    expected = "agrees"
    for table, what in ((REFUSED, "refused"), (IMPOSSIBLE, "transformers refuses it")):
        if name in table.get(model_type, {}) and re.search(table[model_type][name], str(value)):
            expected = what
    assert found.partition(":")[0] == expected, found
