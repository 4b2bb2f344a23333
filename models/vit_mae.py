"""Masked autoencoders: a ViT that reads a quarter of an image's patches, and a small decoder that is asked for the others.

He, Chen, Xie, Li, Dollár, Girshick: "Masked Autoencoders Are Scalable Vision Learners", 2021, arXiv 2111.06377.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float, Int

from models.config import ModelError
from models.layers.attention import attention_pattern, has_kernel
from models.layers.convolution import Conv, Image, Pair, pair
from models.layers.dropout import Keys, fold_in
from models.layers.linear import Initializer, by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import CallSettings, Model
from models.outputs import ModelOutput
from models.vit import Hidden, Vectors, ViTConfig, ViTLayer, ViTModel

Noise = Float[Array, "batch patches"]


@dataclasses.dataclass(frozen=True)
class ViTMAEConfig(ViTConfig):
    """Shape of a masked autoencoder, with the field names of a published `config.json`.

    Attributes:
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: as those of
            the encoder without `decoder`.
        mask_ratio: fraction of the patches that the encoder does not read.
        norm_pix_loss: whether the published model was asked for normalised pixels; `objectives.MaskedAutoencoder` has a
            setting for it.
    """

    model_type: ClassVar[str] = "vit_mae"
    variants: ClassVar[tuple[str, ...]] = ("base", "large", "huge_14")

    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2_048
    mask_ratio: float = 0.75
    norm_pix_loss: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mask_ratio < 1:
            raise ModelError(f"mask_ratio={self.mask_ratio}: expected a fraction of at least 0 and below 1")
        for name in ("hidden_size", "decoder_hidden_size"):
            if vars(self)[name] % 4:
                raise ModelError(f"{name}={vars(self)[name]}: sinusoids in two directions want a multiple of 4")
        self.check_divides("decoder_hidden_size", "decoder_num_attention_heads")

    @property
    def decoder(self) -> "ViTMAEConfig":
        """The decoder's layers as an encoder's."""
        return dataclasses.replace(
            self,
            hidden_size=self.decoder_hidden_size,
            num_hidden_layers=self.decoder_num_hidden_layers,
            num_attention_heads=self.decoder_num_attention_heads,
            intermediate_size=self.decoder_intermediate_size,
        )

    def read(self, patches: int) -> int:
        """How many of so many patches the encoder reads."""
        return int(patches * (1 - self.mask_ratio))


def sinusoids(grid: Pair) -> Initializer:
    """Sines and cosines of the columns in one half of the features, of the rows in the other; zeros for [CLS], the first."""

    def table(key: Array, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "1 places features"]:
        wavelengths = 10_000.0 ** (np.arange(shape[-1] // 4) / (shape[-1] // 4))
        rows, columns = (x.reshape(-1, 1) / wavelengths for x in np.indices(grid))
        features = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
        return jnp.asarray(np.pad(features, ((1, 0), (0, 0)))[None], dtype)

    return table


class Placed(Vectors):
    """Base of both halves."""

    config: ViTMAEConfig

    def positions(self) -> Float[Array, "1 places hidden"]:
        """Sinusoids, which no training changes: they have no gradient, and `training.optimizers` decays none."""
        rows, columns = self.config.grid
        return jax.lax.stop_gradient(self.vectors("sinusoids", 1 + rows * columns, sinusoids(self.config.grid)))


class ViTMAEModel(Placed, Model):
    """The encoder.

    Outputs: `last_hidden_state` (batch, 1 + read, hidden), normalised, [CLS] first and then the patches that are read, from
    the least noise on; `mask` (batch, patches), 1 where a patch was left out, 0 where it was read; `ids_restore` (batch,
    patches), the place of each patch in the order of their noise; `hidden_states` (layers + 1, batch, 1 + read, hidden), the
    embeddings first and none normalised, and `attentions` (layers, batch, heads, 1 + read, 1 + read) where asked for.
    """

    labelled: ClassVar[bool | None] = False

    @nn.compact
    def __call__(self, pixel_values: Image, noise: Noise | None = None, **settings: Any) -> ModelOutput:
        """The patches with the most `noise` are left out, as many as `mask_ratio` says; without noise, none.

        Raises:
            ModelError: images of another size or number of channels, or noise for other patches.
        """
        config, call = self.config, CallSettings(**settings)
        config.check_image(pixel_values.shape, any_size=False)
        glorot = nn.initializers.xavier_uniform(in_axis=(0, 1, 2), out_axis=3)
        size = config.patch_size
        patches = Conv(config, config.hidden_size, size, stride=size, kernel_init=glorot, name="patch_embeddings")(
            pixel_values
        )
        patches = rearrange(patches, "batch rows columns hidden -> batch (rows columns) hidden")
        if noise is not None and noise.shape != patches.shape[:2]:
            raise ModelError(f"noise of shape {noise.shape} for {patches.shape[:2]} images and patches")
        positions = self.positions()
        patches = patches + positions[:, 1:]
        count = patches.shape[1]
        read = count if noise is None else config.read(count)
        order = jnp.tile(jnp.arange(count), (len(patches), 1)) if noise is None else jnp.argsort(noise, axis=1)
        places = jnp.argsort(order, axis=1)
        patches = jnp.take_along_axis(patches, order[:, :read, None], axis=1)
        first = self.vectors("cls_token", 1, nn.initializers.normal(config.initializer_range)) + positions[:, :1]
        first = repeat(first, "1 1 hidden -> batch 1 hidden", batch=len(patches))
        embedded = by_example(jnp.concatenate([first, patches], axis=1).astype(config.compute_dtype))
        layers = config.num_hidden_layers
        by_parts = has_kernel(config, probabilities=call.output_attentions)
        mask = attention_pattern(embedded.shape[1], by_parts=by_parts)
        hidden, (states, attentions) = stack(ViTLayer, config, layers, "layers")(
            embedded, jnp.arange(layers), (mask, call.dropout_keys)
        )
        return ModelOutput(
            last_hidden_state=layer_norm(config, config.layer_norm_eps, "norm")(hidden),
            mask=(places >= read).astype(jnp.float32),
            ids_restore=places,
            **call.asked(embedded, states, attentions),
        )


class ViTMAEDecoder(Placed):
    """Pixels of all patches from what the encoder made of those it read. The config is `ViTMAEConfig.decoder`."""

    @nn.compact
    def __call__(
        self, hidden: Hidden, places: Int[Array, "batch patches"], dropout_keys: Keys
    ) -> Float[Array, "batch patches numbers"]:
        config, stddev = self.config, self.config.initializer_range
        hidden = dense(config, config.hidden_size, "embed", ("embed", "embed_out"), stddev=stddev)(hidden)
        missing = self.vectors("mask_token", 1, nn.initializers.normal(stddev)).astype(hidden.dtype)
        absent = places.shape[1] + 1 - hidden.shape[1]
        missing = repeat(missing, "1 1 hidden -> batch absent hidden", batch=len(hidden), absent=absent)
        patches = jnp.concatenate([hidden[:, 1:], missing], axis=1)
        patches = jnp.take_along_axis(patches, places[..., None], axis=1)
        hidden = jnp.concatenate([hidden[:, :1], patches], axis=1) + self.positions()
        hidden = by_example(hidden.astype(config.compute_dtype))
        layers = config.num_hidden_layers
        mask = attention_pattern(hidden.shape[1], by_parts=has_kernel(config))
        hidden, _ = stack(ViTLayer, config, layers, "layers")(hidden, jnp.arange(layers), (mask, dropout_keys))
        hidden = layer_norm(config, config.layer_norm_eps, "norm")(hidden[:, 1:])
        tall, wide = pair(config.patch_size)
        numbers = tall * wide * config.num_channels
        return dense(config, numbers, "pixels", ("embed", "head_out"), stddev=stddev)(hidden)


class ViTMAEForPreTraining(Model):
    """Output: `logits` (batch, patches, patch_size² · channels), the pixels of all patches row by row, the channels
    innermost; with `mask`, `ids_restore`, and where asked for the states, of the encoder."""

    config: ViTMAEConfig
    labelled: ClassVar[bool | None] = False

    @nn.compact
    def __call__(self, pixel_values: Image, noise: Noise | None = None, **settings: Any) -> ModelOutput:
        encoded = ViTMAEModel(self.config, name="vit")(pixel_values, noise, **settings)
        keys = fold_in(settings.get("dropout_keys"), self.config.num_hidden_layers + 1)
        decoder = ViTMAEDecoder(self.config.decoder, name="decoder")
        return ModelOutput(logits=decoder(encoded.last_hidden_state, encoded.ids_restore, keys), **encoded)


def as_vit(model: nn.Module, variables: Mapping[str, Any]) -> tuple[ViTModel, dict[str, Any]]:
    """The encoder as a ViT without a pooler, its positions learned from now on: what is fine-tuned or probed."""
    params = dict(nn.unbox(variables["params"]))
    params = dict(params.get("vit", params))
    params["position_embeddings"] = params.pop("sinusoids")
    settings = {name: vars(model.config)[name] for name in ViTConfig.execution}
    return ViTModel(ViTConfig.from_json(model.config.to_json(), **settings), add_pooling_layer=False), {
        "params": params
    }
