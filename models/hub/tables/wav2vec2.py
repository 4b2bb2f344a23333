"""Wav2Vec2's names, as `transformers` publishes them; those of weight normalisation in both spellings."""

import numpy as np

from models.hub.names import Name, NameTable, linear, norm
from models.wav2vec2 import Wav2Vec2Config

LAYER = "wav2vec2.encoder.layers.{layer}"
POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"


def to_image(x: np.ndarray) -> np.ndarray:
    """The weight of a convolution over time: (out, in, width) as published, (1, width, in, out) here."""
    return x.transpose(2, 1, 0)[None]


def from_image(x: np.ndarray) -> np.ndarray:
    return x[0].transpose(2, 1, 0)


def of_shape(config: Wav2Vec2Config) -> tuple[Name, ...]:
    """The names of the convolutions and of the codebooks."""
    groups, codes = config.num_codevector_groups, config.num_codevectors_per_group
    names = [
        Name(
            "quantizer.codevectors",
            "quantizer/codevectors",
            lambda x: x.reshape(groups, codes, -1),
            lambda x: x.reshape(1, groups * codes, -1),
        )
    ]
    for number in range(len(config.conv_dim)):
        published = f"wav2vec2.feature_extractor.conv_layers.{number}"
        ours = "wav2vec2/feature_extractor"
        names += [
            Name(f"{published}.conv.weight", f"{ours}/conv_{number}/kernel", to_image, from_image),
            Name(f"{published}.conv.bias", f"{ours}/conv_{number}/bias"),
            *norm(f"{published}.layer_norm", f"{ours}/norm_{number}"),
        ]
    return tuple(names)


TABLE = NameTable(
    names=(
        Name("wav2vec2.masked_spec_embed", "wav2vec2/masked_spec_embed"),
        *norm("wav2vec2.feature_projection.layer_norm", "wav2vec2/feature_projection/layer_norm"),
        *linear("wav2vec2.feature_projection.projection", "wav2vec2/feature_projection/projection"),
        Name(
            f"{POSITIONS}.parametrizations.weight.original0",
            "wav2vec2/encoder/positions/g",
            lambda x: x[0, 0],
            lambda x: x[None, None],
        ),
        Name(f"{POSITIONS}.parametrizations.weight.original1", "wav2vec2/encoder/positions/v", to_image, from_image),
        Name(f"{POSITIONS}.bias", "wav2vec2/encoder/positions/bias"),
        *norm("wav2vec2.encoder.layer_norm", "wav2vec2/encoder/layer_norm"),
        *linear(f"{LAYER}.attention.q_proj", "wav2vec2/encoder/layers/attention/query"),
        *linear(f"{LAYER}.attention.k_proj", "wav2vec2/encoder/layers/attention/key"),
        *linear(f"{LAYER}.attention.v_proj", "wav2vec2/encoder/layers/attention/value"),
        *linear(f"{LAYER}.attention.out_proj", "wav2vec2/encoder/layers/attention/out"),
        *norm(f"{LAYER}.layer_norm", "wav2vec2/encoder/layers/attention_norm"),
        *linear(f"{LAYER}.feed_forward.intermediate_dense", "wav2vec2/encoder/layers/up"),
        *linear(f"{LAYER}.feed_forward.output_dense", "wav2vec2/encoder/layers/down"),
        *norm(f"{LAYER}.final_layer_norm", "wav2vec2/encoder/layers/mlp_norm"),
        *linear("quantizer.weight_proj", "quantizer/weight_proj"),
        *linear("project_hid", "project_hid"),
        *linear("project_q", "project_q"),
        *linear("lm_head", "lm_head"),
        *linear("projector", "projector"),
        *linear("classifier", "classifier"),
        Name("layer_weights", "layer_weights"),
    ),
    prefix=("wav2vec2.", "wav2vec2/"),
    renamed={
        "conv.weight_g": "conv.parametrizations.weight.original0",
        "conv.weight_v": "conv.parametrizations.weight.original1",
    },
    of_shape=of_shape,
)
