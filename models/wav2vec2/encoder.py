"""The Transformer encoder over frames: a positional convolution, then layers with post-norms or pre-norms."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.kernels.convolution import convolve
from models.kernels.linear import add_bias
from models.kernels.precision import widened
from models.layers.activations import activation
from models.layers.attention import Attention, attention_pattern, has_kernel
from models.layers.dropout import Keys, dropout, dropout_bits, fold_in
from models.layers.linear import by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import CallSettings
from models.wav2vec2.config import Wav2Vec2Config
from models.wav2vec2.features import FrameMask, Frames


class PositionalConvolution(nn.Module):
    """activation(conv(x)) of the length of x: a grouped convolution whose kernel is g · v / ‖v‖ (weight normalisation; Salimans &
    Kingma, 2016, arXiv 1602.07868), with a length g and a norm over inputs and outputs for each place of the kernel.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, hidden: Frames) -> Frames:
        config, dtype = self.config, jnp.dtype(self.config.param_dtype)
        width, groups, size = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups, config.hidden_size
        shape, axes = (1, width, size // groups, size), ("height", "width", None, "embed")
        normal = nn.initializers.normal((4 / (width * size)) ** 0.5)
        v = self.param("v", nn.with_logical_partitioning(normal, axes), shape, dtype)

        def length(*_: Any) -> Array:
            return _norm(nn.unbox(v)).astype(dtype)

        g = self.param("g", nn.with_logical_partitioning(length, ("width",)), (width,), dtype)
        kernel = widened(v) * (widened(g) / _norm(v))[None, :, None, None]
        x = convolve(hidden[:, None], kernel.astype(config.compute_dtype), padding=(0, width // 2), groups=groups)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("embed",)), (size,), dtype)
        x = add_bias(x, bias)[:, 0, : hidden.shape[1]]  # an even kernel gives one place more
        return by_example(activation(config.feat_extract_activation)(x))


def _norm(v: Float[Array, "1 width in out"]) -> Float[Array, " width"]:
    return jnp.sqrt((widened(v) ** 2).sum(axis=(0, 2, 3)))


class EncoderLayer(nn.Module):
    """LN(x + attention(x)), then LN(x + MLP(x)); with `do_stable_layer_norm` x + attention(LN(x)), then x + MLP(LN(x)).

    In training it is skipped for an example with probability `layerdrop` (Fan et al., 2019, arXiv 1909.11556).
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, hidden: Frames, index: Int[Array, ""], shared):
        config, (mask, dropout_keys) = self.config, shared
        before, keys = hidden, fold_in(dropout_keys, index)
        attention_norm = layer_norm(config, config.layer_norm_eps, "attention_norm")
        mlp_norm = layer_norm(config, config.layer_norm_eps, "mlp_norm")
        stable = config.do_stable_layer_norm
        attended, probabilities, _ = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_dropout,
            config.initializer_range,
            name="attention",
        )(
            attention_norm(hidden) if stable else hidden,
            mask,
            fold_in(keys, 0),
        )
        hidden += dropout(attended, config.hidden_dropout, fold_in(keys, 1))
        hidden = hidden if stable else attention_norm(hidden)
        hidden += self._mlp(mlp_norm(hidden) if stable else hidden, keys)
        hidden = hidden if stable else mlp_norm(hidden)
        if keys is not None and config.layerdrop:
            kept = dropout_bits(fold_in(keys, 4), (1, 1)) < jnp.uint32(round((1 - config.layerdrop) * 2**32))
            hidden = jnp.where(kept, hidden, before)
        return hidden, (hidden, probabilities)

    def _mlp(self, hidden: Frames, keys: Keys) -> Frames:
        config, stddev = self.config, self.config.initializer_range
        inner = dense(config, config.intermediate_size, "up", ("embed", "mlp"), stddev=stddev)(hidden)
        inner = dropout(activation(config.hidden_act)(inner), config.activation_dropout, fold_in(keys, 2))
        inner = dense(config, config.hidden_size, "down", ("mlp", "embed"), stddev=stddev)(inner)
        return dropout(inner, config.hidden_dropout, fold_in(keys, 3))


class Encoder(nn.Module):
    """The encoder. Outputs: the last hidden state (normalised with `do_stable_layer_norm`) and what `CallSettings` asks for."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, hidden: Frames, mask: FrameMask | None, call: CallSettings
    ) -> tuple[Frames, dict[str, Array | None]]:
        """Frames outside `mask` are 0 in the positional convolution, and are not attended to."""
        config = self.config
        if mask is not None:
            hidden = jnp.where(mask[..., None], hidden, 0)
        hidden += PositionalConvolution(config, name="positions")(hidden)
        norm = layer_norm(config, config.layer_norm_eps, "layer_norm")
        hidden = hidden if config.do_stable_layer_norm else norm(hidden)
        layers = config.num_hidden_layers
        embedded = by_example(dropout(hidden, config.hidden_dropout, fold_in(call.dropout_keys, layers)))
        by_parts = has_kernel(config, probabilities=call.output_attentions)
        pattern = attention_pattern(hidden.shape[1], mask, by_parts=by_parts)
        hidden, (states, attentions) = stack(EncoderLayer, config, layers, "layers")(
            embedded, jnp.arange(layers), (pattern, call.dropout_keys)
        )
        hidden = norm(hidden) if config.do_stable_layer_norm else hidden
        return hidden, call.asked(embedded, states, attentions)
