"""Swin's names, as `transformers` publishes them; in files, not in a state dict, those of its version 4."""

import dataclasses

from models.hub.names import Name, NameTable, convolution, linear, norm
from models.swin import SwinConfig

RENAMED = {
    ".attention.q_proj.": ".attention.self.query.",
    ".attention.k_proj.": ".attention.self.key.",
    ".attention.v_proj.": ".attention.self.value.",
    ".attention.relative_position_bias.relative_position_bias_table": ".attention.self.relative_position_bias_table",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
"""Names of version 5 → those of version 4, which the files have."""

UNSEEN = "swin.layernorm"
"""The last norm of a backbone, which changes nothing; files of version 4 lack it."""


def block(published: str, ours: str, layers: tuple[int, int] = (0, 1)) -> tuple[Name, ...]:
    """A block, or several that are stacked."""
    attention = f"{published}.attention"
    names = (
        *norm(f"{published}.layernorm_before", f"{ours}/attention_norm"),
        *linear(f"{attention}.self.query", f"{ours}/attention/query"),
        *linear(f"{attention}.self.key", f"{ours}/attention/key"),
        *linear(f"{attention}.self.value", f"{ours}/attention/value"),
        Name(f"{attention}.self.relative_position_bias_table", f"{ours}/relative_position_bias_table"),
        *linear(f"{attention}.output.dense", f"{ours}/attention/out"),
        *norm(f"{published}.layernorm_after", f"{ours}/mlp_norm"),
        *linear(f"{published}.intermediate.dense", f"{ours}/up"),
        *linear(f"{published}.output.dense", f"{ours}/down"),
    )
    return tuple(dataclasses.replace(name, layers=layers) for name in names)


def stage(number: int, depth: int, prefix: str, ours: str) -> tuple[Name, ...]:
    """A stage of `depth` blocks, and what merges its places."""
    published, ours = f"{prefix}encoder.layers.{number}", f"{ours}stage_{number}"
    return (
        *block(f"{published}.blocks.{{layer}}", f"{ours}_pairs/regular", (0, 2)),
        *block(f"{published}.blocks.{{layer}}", f"{ours}_pairs/shifted", (1, 2)),
        *block(f"{published}.blocks.{depth - 1}", f"{ours}_last"),
        *norm(f"{published}.downsample.norm", f"{ours}_merging/norm"),
        linear(f"{published}.downsample.reduction", f"{ours}_merging/reduction")[0],
    )


def encoder(config: SwinConfig, prefix: str, ours: str) -> tuple[Name, ...]:
    """Patches and stages, published below `prefix` and called so here."""
    stages = (stage(number, depth, prefix, ours) for number, depth in enumerate(config.depths))
    return (
        *convolution(f"{prefix}embeddings.patch_embeddings.projection", f"{ours}patches"),
        *norm(f"{prefix}embeddings.norm", f"{ours}patches_norm"),
        Name(f"{prefix}embeddings.position_embeddings", f"{ours}position_embeddings"),
        *(name for names in stages for name in names),
    )


def norms(config: SwinConfig, prefix: str, ours: str) -> tuple[Name, ...]:
    """The norms of a backbone's feature maps."""
    return tuple(
        name
        for stage in config.stage_names
        for name in norm(f"{prefix}hidden_states_norms.{stage}", f"{ours}{stage}_norm")
    )


def backbone(config: SwinConfig, published: str, ours: str) -> tuple[Name, ...]:
    """The names of a backbone that is called so (`models.hub.backbones`)."""
    unseen = norm(f"{published}.{UNSEEN}", f"{ours}/swin/norm")
    return (*encoder(config, f"{published}.", f"{ours}/swin/"), *norms(config, f"{published}.", f"{ours}/"), *unseen)


def of_shape(config: SwinConfig) -> tuple[Name, ...]:
    """The names of a model of this shape, and of its backbone."""
    return (*encoder(config, "swin.", "swin/"), *norms(config, "", ""))


TABLE = NameTable(
    names=(*norm("swin.layernorm", "swin/norm"), *linear("classifier", "classifier")),
    prefix=("swin.", "swin/"),
    renamed=RENAMED,
    ignored=("*.relative_position_index",),
    of_shape=of_shape,
)
