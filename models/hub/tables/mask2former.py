"""Mask2Former's names, as `transformers` publishes them; of a Swin within it those of its version 4."""

import numpy as np

from models.hub.backbones import backbone_names
from models.hub.names import Name, NameTable, convolution, linear, norm, table_of
from models.hub.tables.swin import RENAMED, UNSEEN
from models.mask2former import Mask2FormerConfig
from models.mask2former.config import LEVELS

PIXELS, QUERIES = "model.pixel_level_module", "model.transformer_module"
NO_OBJECT = "criterion.empty_weight"
"""What each class weighs in the loss: no parameter, but a file has it."""


def conv_norm(published: str, ours: str, its_norm: str) -> tuple[Name, ...]:
    """A convolution and its group norm."""
    return (*convolution(f"{published}.0", ours), *norm(f"{published}.1", its_norm))


def pixel_decoder() -> tuple[Name, ...]:
    """The pixel decoder."""
    published, ours = f"{PIXELS}.decoder", "model/pixel_decoder"
    layer, layers = f"{published}.encoder.layers.{{layer}}", f"{ours}/layers"
    offsets = linear(f"{layer}.self_attn.sampling_offsets", f"{layers}/attention/offsets")[0]
    projections = (
        conv_norm(f"{published}.input_projections.{n}", f"{ours}/projection_{n}", f"{ours}/projection_norm_{n}")
        for n in range(LEVELS)
    )
    return (
        Name(f"{published}.level_embed", f"{ours}/level_embed"),
        *(name for names in projections for name in names),
        offsets,
        Name(f"{layer}.self_attn.sampling_offsets.bias", f"{layers}/attention/offsets_bias"),
        *linear(f"{layer}.self_attn.attention_weights", f"{layers}/attention/weights"),
        *linear(f"{layer}.self_attn.value_proj", f"{layers}/attention/value"),
        *linear(f"{layer}.self_attn.output_proj", f"{layers}/attention/out"),
        *norm(f"{layer}.self_attn_layer_norm", f"{layers}/attention_norm"),
        *linear(f"{layer}.fc1", f"{layers}/up"),
        *linear(f"{layer}.fc2", f"{layers}/down"),
        *norm(f"{layer}.final_layer_norm", f"{layers}/mlp_norm"),
        *conv_norm(f"{published}.adapter_1", f"{ours}/lateral", f"{ours}/lateral_norm"),
        *conv_norm(f"{published}.layer_1", f"{ours}/finest", f"{ours}/finest_norm"),
        *convolution(f"{published}.mask_projection", f"{ours}/mask_projection"),
    )


def three_at_once(x: np.ndarray) -> np.ndarray:
    """One matrix for queries, keys and values: (3 out, in) as published, (in, 3, out) here."""
    return x.reshape(3, -1, x.shape[1]).transpose(2, 0, 1)


def one_matrix(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 2, 0).reshape(-1, x.shape[0])


def decoder_layer(number: int) -> tuple[Name, ...]:
    """A layer of the decoder."""
    published, ours = f"{QUERIES}.decoder.layers.{number}", f"model/decoder/layers_{number}"
    cross, attention = f"{published}.cross_attn", f"{published}.self_attn"
    own = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return (
        Name(f"{cross}.in_proj_weight", f"{ours}/cross_attention/kernel", three_at_once, one_matrix),
        Name(
            f"{cross}.in_proj_bias", f"{ours}/cross_attention/bias", lambda x: x.reshape(3, -1), lambda x: x.reshape(-1)
        ),
        *linear(f"{cross}.out_proj", f"{ours}/cross_attention/out"),
        *(name for its, our in own.items() for name in linear(f"{attention}.{its}", f"{ours}/attention/{our}")),
        *norm(f"{published}.cross_attn_layer_norm", f"{ours}/cross_attention_norm"),
        *norm(f"{published}.self_attn_layer_norm", f"{ours}/attention_norm"),
        *linear(f"{published}.fc1", f"{ours}/up"),
        *linear(f"{published}.fc2", f"{ours}/down"),
        *norm(f"{published}.final_layer_norm", f"{ours}/mlp_norm"),
    )


def decoder() -> tuple[Name, ...]:
    """The decoder, but for its layers."""
    published, ours, heads = f"{QUERIES}.decoder", "model/decoder", "mask_predictor.mask_embedder"
    projections = (convolution(f"{QUERIES}.input_projections.{n}", f"{ours}/projection_{n}") for n in range(LEVELS))
    masks = (linear(f"{published}.{heads}.{n}.0", f"{ours}/mask_embedding/layers_{n}") for n in range(3))
    return (
        table_of(f"{QUERIES}.queries_embedder", f"{ours}/queries_embedder"),
        table_of(f"{QUERIES}.queries_features", f"{ours}/queries_features"),
        Name(f"{QUERIES}.level_embed.weight", f"{ours}/level_embed"),
        *(name for names in (*projections, *masks) for name in names),
        *norm(f"{published}.layernorm", f"{ours}/norm"),
    )


def of_shape(config: Mask2FormerConfig) -> tuple[Name, ...]:
    """The names of the backbone, and of the layers of the decoder."""
    layers = (decoder_layer(number) for number in range(config.decoder_layers - 1))
    backbone = backbone_names(config.backbone_config, f"{PIXELS}.encoder", "model/backbone")
    return (*backbone, *(name for names in layers for name in names))


def constants(config: Mask2FormerConfig, base: bool) -> dict[str, np.ndarray]:
    """What a file has beside parameters."""
    if base:
        return {}
    weights = np.ones(len(config.labels) + 1, np.float32)
    weights[-1] = config.no_object_weight
    return {NO_OBJECT: weights}


TABLE = NameTable(
    names=(*pixel_decoder(), *decoder(), *linear("class_predictor", "class_predictor")),
    prefix=("model.", "model/"),
    renamed={
        **{
            f"pixel_level_module.encoder.swin.{x}.": f"pixel_level_module.encoder.{x}."
            for x in ("encoder", "embeddings")
        },
        **RENAMED,
    },
    zeros=tuple(
        f"{prefix}pixel_level_module.encoder.{UNSEEN}.{x}" for prefix in ("", "model.") for x in ("weight", "bias")
    ),
    ignored=(NO_OBJECT, "*.relative_position_index"),
    of_shape=of_shape,
    constants=constants,
)
