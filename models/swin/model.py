"""The blocks, the models and the head of Swin."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from models.backbone import STEM, Backbone
from models.config import ModelError
from models.image_classifier import ImageClassifier
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.attention import Attention
from models.layers.convolution import Conv, Image, Pair, check_image, pair
from models.layers.dropout import Keys, drop_path, dropout, fold_in
from models.layers.linear import dense, truncated_normal
from models.layers.norm import BatchAxes, layer_norm
from models.layers.positions import resize_positions
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput
from models.swin.config import SwinConfig

Maps = Shaped[Array, "..."] | Shaped[np.ndarray, "..."]

EPSILON = 1e-5
"""Epsilon of the norms of patches, merged patches and feature maps; `layer_norm_eps` is that of the others."""


def relative_places(window: int, largest: int) -> Int[np.ndarray, "queries keys"]:
    """The index into the table of relative position biases for each two places of a window. The table has an entry for each
    distance (Δy, Δx) within a window of side `largest`."""
    distances = np.arange(window)[:, None] - np.arange(window) + largest - 1
    both = distances[:, None, :, None] * (2 * largest - 1) + distances[None, :, None, :]
    return rearrange(both, "y x key_y key_x -> (y x) (key_y key_x)")


def windows_of(x: Maps, window: int) -> Maps:
    """(batch, height, width, features) cut into (batch · windows, places of a window, features)."""
    return rearrange(x, "b (h i) (w j) c -> (b h w) (i j) c", i=window, j=window)


def shifted_pattern(height: int, width: int, window: int) -> Bool[np.ndarray, "windows queries keys"]:
    """The attention mask of shifted windows: a place attends to those that were its neighbours before the roll (figure 4)."""

    def region(length: int) -> np.ndarray:
        places = np.arange(length)
        return (places >= length - window).astype(int) + (places >= length - window // 2)

    regions = 3 * region(height)[:, None] + region(width)
    regions = windows_of(regions[None, :, :, None], window)[..., 0]
    return regions[:, :, None] == regions[:, None, :]


class SwinBlock(nn.Module):
    """x + attention(LN(x)) within windows, then x + MLP(LN(x)).

    Behind the norm the map is padded with zeros to whole windows. The padding is attended to (as in `transformers` and in the
    released detection code).

    Attributes:
        shifted: whether windows are shifted by half a window.
        whole: whether a map that is no larger than a window in one direction has smaller windows of that size, without a shift;
            else it is padded, as in backbones.
    """

    config: SwinConfig
    heads: int
    shifted: bool
    whole: bool

    @nn.compact
    def __call__(self, hidden: Image, index: Int[Array, ""], rate: Float[Array, ""], dropout_keys: Keys) -> Image:
        config, features = self.config, hidden.shape[-1]
        keys, stddev = fold_in(dropout_keys, index), config.initializer_range
        skipped = rate if config.drop_path_rate else 0.0
        normalized = layer_norm(config, config.layer_norm_eps, "attention_norm")(hidden)
        attended = dropout(self._attend(normalized, fold_in(keys, 0)), config.hidden_dropout_prob, fold_in(keys, 1))
        hidden += drop_path(attended, skipped, fold_in(keys, 3))
        inner = layer_norm(config, config.layer_norm_eps, "mlp_norm")(hidden)
        inner = dense(config, int(config.mlp_ratio * features), "up", ("embed", "mlp"), stddev=stddev)(inner)
        inner = activation(config.hidden_act)(inner)
        inner = dense(config, features, "down", ("mlp", "embed"), stddev=stddev)(inner)
        inner = dropout(inner, config.hidden_dropout_prob, fold_in(keys, 2))
        return hidden + drop_path(inner, skipped, fold_in(keys, 4))

    def _attend(self, hidden: Image, keys: Keys) -> Image:
        config = self.config
        batch, height, width, features = hidden.shape
        window, shift = config.window_size, config.window_size // 2 if self.shifted else 0
        if self.whole and min(height, width) <= window:
            window, shift = min(height, width), 0
        padded = jnp.pad(hidden, ((0, 0), (0, -height % window), (0, -width % window), (0, 0)))
        rows, columns = padded.shape[1:3]
        if shift:
            padded = jnp.roll(padded, (-shift, -shift), axis=(1, 2))
        count = (rows // window) * (columns // window)
        attention = Attention(
            config,
            features,
            self.heads,
            config.attention_probs_dropout_prob,
            config.initializer_range,
            qkv_bias=config.qkv_bias,
            name="attention",
        )
        attended, _, _ = attention(
            windows_of(padded, window),
            self._pattern(batch, rows, columns, window) if shift else None,
            self._by_window(keys, count) if config.attention_probs_dropout_prob else None,
            position_bias=self._bias(window),
        )
        attended = rearrange(
            attended, "(b h w) (i j) c -> b (h i) (w j) c", b=batch, h=rows // window, i=window, j=window
        )
        if shift:
            attended = jnp.roll(attended, (shift, shift), axis=(1, 2))
        return attended[:, :height, :width]

    def _pattern(self, batch: int, rows: int, columns: int, window: int) -> Bool[Array, "windows 1 queries keys"]:
        """The attention mask, the same for each image. (`transformers` adds -100 to scores instead of masking them.)"""
        one = jnp.asarray(shifted_pattern(rows, columns, window))
        return jnp.broadcast_to(one[None], (batch, *one.shape)).reshape(-1, 1, *one.shape[1:])

    def _bias(self, window: int) -> Float[Array, "1 heads queries keys"]:
        config, largest = self.config, self.config.window_size
        init = nn.with_logical_partitioning(truncated_normal(config.initializer_range), ("bucket", "head"))
        table = self.param(
            "relative_position_bias_table", init, ((2 * largest - 1) ** 2, self.heads), jnp.dtype(config.param_dtype)
        )
        biases = widened(table)[relative_places(window, largest)]
        return rearrange(biases, "queries keys heads -> 1 heads queries keys")

    def _by_window(self, keys: Keys, count: int) -> Key[Array, " windows"] | None:
        """A dropout key for each window of each example."""
        if keys is None:
            return None
        numbers = jnp.arange(count)
        return jax.vmap(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, numbers))(keys).reshape(-1)


class SwinPair(nn.Module):
    """A block with regular windows and one with shifted windows."""

    config: SwinConfig
    heads: int
    whole: bool

    @nn.compact
    def __call__(self, hidden: Image, per_layer: tuple[Int[Array, " 2"], Float[Array, " 2"]], dropout_keys: Keys):
        for number, name in enumerate(("regular", "shifted")):
            block = SwinBlock(self.config, self.heads, number == 1, self.whole, name=name)
            hidden = block(hidden, per_layer[0][number], per_layer[1][number], dropout_keys)
        return hidden, None


class SwinMerging(nn.Module):
    """Patch merging: a linear layer on the norm of 2 × 2 places concatenated; half the resolution, twice the features."""

    config: SwinConfig

    @nn.compact
    def __call__(self, hidden: Image) -> Image:
        config, (_, height, width, features) = self.config, hidden.shape
        padded = jnp.pad(hidden, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        merged = rearrange(padded, "b (h i) (w j) c -> b h w (j i c)", i=2, j=2)
        merged = layer_norm(config, EPSILON, "norm")(merged)
        reduction = dense(
            config, 2 * features, "reduction", ("embed", "embed_out"), bias=False, stddev=config.initializer_range
        )
        return reduction(merged)


class SwinBase(Model):
    """Base of the Swin models."""

    config: SwinConfig

    @nn.nowrap
    def depth(self, path: str) -> int | tuple[int, ...]:
        """Layer number of the parameter at a path, for layer-wise rates. Patch merging counts with the block before it
        (`get_swin_layer` of SimMIM's released code)."""
        depths = self.config.depths
        match = re.search(r"stage_(\d+)_(pairs/regular|pairs/shifted|last|merging)", path)
        if match is None:
            return 0 if re.search("patches|position_embeddings", path) else sum(depths) + 1
        stage, part = int(match[1]), match[2]
        first = sum(depths[:stage])
        if part in ("last", "merging"):
            return first + depths[stage]
        return tuple(first + 1 + number for number in range(part.endswith("shifted"), depths[stage] // 2 * 2, 2))

    @nn.nowrap
    def at_image_size(self, variables: Mapping[str, Any], image_size: int | Pair) -> tuple[Model, Mapping[str, Any]]:
        """The model for images of another size, and its variables, absolute positions resized."""
        larger, _ = super().at_image_size(variables, image_size)
        if not self.config.use_absolute_embeddings:
            return larger, variables
        flat = flatten_dict(nn.unbox(dict(variables)))
        for path, value in flat.items():
            if path[-1] == "position_embeddings":
                with_first = jnp.pad(value, ((0, 0), (1, 0), (0, 0)))
                flat[path] = resize_positions(with_first, self.config.grid, larger.config.grid)[:, 1:]
        return larger, unflatten_dict(flat)


class SwinModel(SwinBase):
    """Patch embeddings and stages of blocks, with patch merging between them.

    Attributes:
        add_pooling_layer: whether there is a `pooler_output`.
        backbone: return the feature maps of all stages before patch merging, by their names, and nothing else. Maps are then
            padded to whole windows, however small they are. The last norm has parameters but no effect, as in `transformers`.

    Outputs: `last_hidden_state` (batch, places, features), normalised, row by row; `pooler_output` (batch, features), its mean;
    where asked for `hidden_states`, (batch, places, features) of the patches and of each stage behind its patch merging, and
    `reshaped_hidden_states`, the same as (batch, height, width, features).

    Raises:
        ModelError: the images have other channels than the model, or another size than it has absolute positions for.
    """

    add_pooling_layer: bool = True
    backbone: bool = False

    @nn.compact
    def __call__(
        self, pixel_values: Image, *, dropout_keys: Keys = None, output_hidden_states: bool = False
    ) -> ModelOutput:
        config = self.config
        depth = sum(config.depths)
        numbers = np.arange(depth)
        rates = np.linspace(0, config.drop_path_rate, depth, dtype=np.float32)
        hidden = self._patches(pixel_values, fold_in(dropout_keys, depth))
        states, maps, first = [hidden], {STEM: hidden}, 0
        for stage, (count, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
            settings = dict(heads=heads, whole=not self.backbone)
            pairs = count // 2
            if pairs:
                of_pairs = [jnp.asarray(x[first : first + 2 * pairs].reshape(pairs, 2)) for x in (numbers, rates)]
                hidden, _ = stack(SwinPair, config, pairs, f"stage_{stage}_pairs", **settings)(
                    hidden, tuple(of_pairs), dropout_keys
                )
            if count % 2:
                last = first + count - 1
                hidden = SwinBlock(config, shifted=False, **settings, name=f"stage_{stage}_last")(
                    hidden, jnp.asarray(numbers[last]), jnp.asarray(rates[last]), dropout_keys
                )
            first += count
            maps[config.stage_names[stage + 1]] = hidden
            if stage < len(config.depths) - 1:
                hidden = SwinMerging(config, name=f"stage_{stage}_merging")(hidden)
            states.append(hidden)
        hidden = layer_norm(config, config.layer_norm_eps, "norm")(hidden)
        if self.backbone:
            return ModelOutput(**maps)
        flat = [rearrange(x, "b h w c -> b (h w) c") for x in (hidden, *states)]
        pooled = widened(flat[0]).mean(axis=1).astype(hidden.dtype) if self.add_pooling_layer else None
        asked = (
            dict(hidden_states=tuple(flat[1:]), reshaped_hidden_states=tuple(states)) if output_hidden_states else {}
        )
        return ModelOutput(last_hidden_state=flat[0], pooler_output=pooled, **asked)

    def _patches(self, pixel_values: Image, keys: Keys) -> Image:
        """The normalised patch embeddings; images are padded with zeros to whole patches."""
        config = self.config
        check_image(config, pixel_values)
        (high, wide), (_, height, width, _) = pair(config.patch_size), pixel_values.shape
        padded = jnp.pad(pixel_values, ((0, 0), (0, -height % high), (0, -width % wide), (0, 0)))
        normal = truncated_normal(config.initializer_range)
        patches = Conv(
            config, config.embed_dim, config.patch_size, stride=config.patch_size, kernel_init=normal, name="patches"
        )
        hidden = layer_norm(config, EPSILON, "patches_norm")(patches(padded))
        if config.use_absolute_embeddings:
            rows, columns = config.grid
            if hidden.shape[1:3] != config.grid:
                raise ModelError(
                    f"images of {height} × {width} pixels are {hidden.shape[1]} × {hidden.shape[2]} patches, and the model has"
                    f" absolute positions for {rows} × {columns}: `at_image_size` makes a model for them"
                )
            init = nn.with_logical_partitioning(normal, (None, "position", "embed"))
            shape = (1, rows * columns, config.embed_dim)
            positions = self.param("position_embeddings", init, shape, jnp.dtype(config.param_dtype))
            hidden += positions.reshape(1, rows, columns, -1).astype(hidden.dtype)
        return dropout(hidden, config.hidden_dropout_prob, keys)


class SwinForImageClassification(ImageClassifier, SwinBase):
    """Swin with a linear head. Output: `logits` (batch, labels), beside those of `SwinModel`."""

    base: ClassVar[type[Model]] = SwinModel
    base_name: ClassVar[str] = "swin"

    def head(self, encoded, batch_axes):
        config = self.config
        head = dense(config, len(config.labels), "classifier", ("embed", "head_out"), stddev=config.initializer_range)
        return dict(logits=head(encoded.pooler_output))


class SwinBackbone(SwinBase, Backbone):
    """Swin as a backbone. Outputs: `feature_maps` of the stages in `config.out_features`, normalised; where asked for
    `hidden_states`, the feature maps of all stages, not normalised."""

    config: SwinConfig

    @nn.compact
    def __call__(
        self,
        pixel_values: Image,
        *,
        dropout_keys: Keys = None,
        batch_axes: BatchAxes = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        config = self.config
        model = SwinModel(config, add_pooling_layer=False, backbone=True, name="swin")
        maps = model(pixel_values, dropout_keys=dropout_keys)
        return ModelOutput(
            feature_maps=tuple(layer_norm(config, EPSILON, f"{name}_norm")(maps[name]) for name in config.stages_out),
            hidden_states=tuple(maps.values()) if output_hidden_states else None,
        )
