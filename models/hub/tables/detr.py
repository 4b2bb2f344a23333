"""DETR's names, as `transformers` publishes them.

Files have other names than models in memory, and published files those of timm for the backbone; all are read. In the model with
masks what finds objects lies below `detr.`, here it does not.
"""

from collections.abc import Iterable

from models.detr import DetrConfig
from models.hub.backbones import backbone_names
from models.hub.names import Name, NameTable, convolution, linear, norm, table_of

BACKBONE = "model.backbone.conv_encoder.model"
MASKS = {
    **{"lay1": "conv1.conv", "gn1": "conv1.norm", "lay2": "conv2.conv", "gn2": "conv2.norm"},
    **{f"adapter{n}": f"fpn_stages.{n - 1}.fpn_adapter" for n in (1, 2, 3)},
    **{f"lay{n + 2}": f"fpn_stages.{n - 1}.refine.conv" for n in (1, 2, 3)},
    **{f"gn{n + 2}": f"fpn_stages.{n - 1}.refine.norm" for n in (1, 2, 3)},
    "out_lay": "output_conv",
}
"""Parts of the head for masks: their names in files → those in memory."""

TIMM = {
    f"{BACKBONE}.conv1.": f"{BACKBONE}.embedder.embedder.convolution.",
    f"{BACKBONE}.bn1.": f"{BACKBONE}.embedder.embedder.normalization.",
    **{f"{BACKBONE}.layer{n + 1}.": f"{BACKBONE}.encoder.stages.{n}.layers." for n in range(4)},
    **{f".conv{n + 1}.": f".layer.{n}.convolution." for n in range(3)},
    **{f".bn{n + 1}.": f".layer.{n}.normalization." for n in range(3)},
    ".downsample.0.": ".shortcut.convolution.",
    ".downsample.1.": ".shortcut.normalization.",
}
"""Parts of the names that timm gives a ResNet → those that `transformers` gives it."""

RENAMED = {
    **{f"mask_head.{there}.": f"mask_head.{file}." for file, there in MASKS.items()},
    **{f"detr.{part}": part for part in ("model.", "class_labels_classifier.", "bbox_predictor.")},
    **{"bbox_attention.q_proj.": "bbox_attention.q_linear.", "bbox_attention.k_proj.": "bbox_attention.k_linear."},
    **{".o_proj.": ".out_proj.", ".mlp.fc1.": ".fc1.", ".mlp.fc2.": ".fc2."},
    "backbone.model.": "backbone.conv_encoder.model.",
    **{old.removeprefix("model."): new.removeprefix("model.") for old, new in TIMM.items()},
}
"""Names in memory, and those of timm, → names in files."""


def attention(published: str, ours: str) -> tuple[Name, ...]:
    """The four projections."""
    parts = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return tuple(name for its, our in parts.items() for name in linear(f"{published}.{its}", f"{ours}/{our}"))


def layers(side: str) -> tuple[Name, ...]:
    """The layers of encoder or decoder."""
    published, ours = f"model.{side}.layers.{{layer}}", f"model/{side}/layers"
    return (
        *attention(f"{published}.self_attn", f"{ours}/attention"),
        *norm(f"{published}.self_attn_layer_norm", f"{ours}/attention_norm"),
        *attention(f"{published}.encoder_attn", f"{ours}/cross_attention"),
        *norm(f"{published}.encoder_attn_layer_norm", f"{ours}/cross_attention_norm"),
        *linear(f"{published}.fc1", f"{ours}/up"),
        *linear(f"{published}.fc2", f"{ours}/down"),
        *norm(f"{published}.final_layer_norm", f"{ours}/mlp_norm"),
    )


def mask_head() -> tuple[Name, ...]:
    """The convolutions that make masks, and their norms."""
    parts = [
        *(convolution(f"mask_head.lay{n + 1}", f"mask_head/conv_{n}/convolution") for n in range(5)),
        *(norm(f"mask_head.gn{n + 1}", f"mask_head/conv_{n}/norm") for n in range(5)),
        *(convolution(f"mask_head.adapter{n + 1}", f"mask_head/adapter_{n}") for n in range(3)),
        convolution("mask_head.out_lay", "mask_head/out"),
    ]
    return tuple(name for part in parts for name in part)


def of_shape(config: DetrConfig) -> tuple[Name, ...]:
    """The names of the backbone."""
    return backbone_names(config.backbone_config, BACKBONE, "model/backbone")


def written(name: str, config: DetrConfig, names: Iterable[str]) -> str:
    """The name in a file of one of these tensors."""
    if config.dilation:  # timm's, for `transformers` dilates no other
        body, _, its = name.partition(f"{BACKBONE.removeprefix('model.')}.")
        if its:
            for timm, there in TIMM.items():
                its = f"{BACKBONE}.{its}".replace(there, timm).removeprefix(f"{BACKBONE}.")
            name = f"{body}{BACKBONE.removeprefix('model.')}.{its}"
    masks = any(other.startswith("mask_head.") for other in names)
    return name if not masks or name.startswith(("mask_head.", "bbox_attention.")) else f"detr.{name}"


TABLE = NameTable(
    names=(
        *convolution("model.input_projection", "model/input_projection"),
        table_of("model.query_position_embeddings", "model/query_position_embeddings"),
        *layers("encoder"),
        *layers("decoder"),
        *norm("model.decoder.layernorm", "model/decoder/norm"),
        *linear("class_labels_classifier", "class_labels_classifier"),
        *(n for i in range(3) for n in linear(f"bbox_predictor.layers.{i}", f"bbox_predictor/layers_{i}")),
        *linear("bbox_attention.q_linear", "bbox_attention/query"),
        *linear("bbox_attention.k_linear", "bbox_attention/key"),
        *mask_head(),
    ),
    prefix=("model.", "model/"),
    renamed=RENAMED,
    of_shape=of_shape,
    counted=False,
    written=written,
)
