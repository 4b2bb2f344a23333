"""Whisper: speech recognition and translation by an encoder of log-mel spectrograms and a text decoder.

Radford, Kim, Xu, Brockman, McLeavey, Sutskever: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv
2212.04356. Spectrograms are (batch, frames, mels) here, `data.audio.log_mel`'s; `transformers` has the mels first.

To decode step by step, run the encoder once, into a cache:

    cache = model.apply(variables, input_features, room=20, method="encode")
    outputs = model.apply(variables, decoder_input_ids=start, past_key_values=cache)
    outputs = model.apply(variables, decoder_input_ids=token, past_key_values=outputs.past_key_values)
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from models.config import ModelError, Variant
from models.encoder_decoder.config import EncoderDecoderConfig, check_length
from models.encoder_decoder.inputs import Hidden, Ids, Mask, TargetMask, Targets, refuse
from models.encoder_decoder.layers import LAYER_NORM_EPSILON
from models.encoder_decoder.model import EncoderDecoderModel
from models.encoder_decoder.stacks import Decoder, Encoder, but_zero
from models.layers.activations import gelu
from models.layers.attention import Cache
from models.layers.convolution import Conv
from models.layers.dropout import dropout, fold_in
from models.layers.embedding import embedding
from models.layers.heads import classifier
from models.layers.linear import by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import CallSettings, Model
from models.outputs import ModelOutput

Features = Float[Array, "batch frames mels"]


def shape(d_model: int, layers: int) -> dict[str, int]:
    """Fields of a published model: heads of 64 features, feed-forward layers of four times the width."""
    sides = (
        {f"{side}_layers": layers, f"{side}_attention_heads": d_model // 64, f"{side}_ffn_dim": 4 * d_model}
        for side in ("encoder", "decoder")
    )
    return {"d_model": d_model, **{name: value for side in sides for name, value in side.items()}}


@dataclasses.dataclass(frozen=True)
class WhisperConfig(EncoderDecoderConfig):
    """Shape of a Whisper, with the field names of a published `config.json`.

    SpecAugment (`apply_spec_augment`) is a setting of the data here.

    Attributes:
        num_mel_bins: bands of the spectrogram.
        max_source_positions: positions of the encoder, one for two frames; spectrograms must have exactly this length.
        max_target_positions: most tokens of the decoder.
        attention_dropout: rate on attention probabilities.
        activation_dropout: rate within feed-forward layers.
        scale_embedding: not used.
        decoder_start_token_id: <|startoftranscript|>.
        suppress_tokens, begin_suppress_tokens: see `GenerationConfig`.
        use_weighted_layer_sum: whether a classifier reads a learned mean of all layers.
        classifier_proj_size: features that a classifier averages over time.
        median_filter_width: width of the median filter on cross-attention before words are aligned.
        labels: names of the outputs of a classification head (`id2label`).
    """

    model_type: ClassVar[str] = "whisper"
    variants: ClassVar[tuple[str, ...]] = (
        *("tiny_en", "tiny", "base_en", "base", "small_en", "small", "medium_en", "medium"),
        *("large", "large_v2", "large_v3", "turbo"),
    )
    normalize_before: ClassVar[bool] = True
    normalize_embedding: ClassVar[bool] = False
    position_offset: ClassVar[int] = 0
    key_bias: ClassVar[bool] = False
    room_named: ClassVar[str] = "max_target_positions"

    vocab_size: int = 51_865
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1_536
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1_536
    max_source_positions: int = 1_500
    max_target_positions: int = 448
    activation_function: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    pad_token_id: int | None = 50_256
    bos_token_id: int | None = 50_256
    eos_token_id: int | tuple[int, ...] | None = 50_256
    decoder_start_token_id: int | None = 50_257
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = (220, 50_256)
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    median_filter_width: int = 7
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

    _english = Variant(vocab_size=51_864)
    _multilingual = Variant(
        **dict(pad_token_id=50_257, bos_token_id=50_257, eos_token_id=50_257, decoder_start_token_id=50_258),
        begin_suppress_tokens=(220, 50_257),
    )
    tiny_en, tiny = _english, _multilingual
    base_en, base = Variant(_english, **shape(512, 6)), Variant(_multilingual, **shape(512, 6))
    small_en, small = Variant(_english, **shape(768, 12)), Variant(_multilingual, **shape(768, 12))
    medium_en, medium = Variant(_english, **shape(1_024, 24)), Variant(_multilingual, **shape(1_024, 24))
    large = Variant(_multilingual, **shape(1_280, 32))
    large_v2 = large
    large_v3 = Variant(large, vocab_size=51_866, num_mel_bins=128)
    turbo = Variant(large_v3, decoder_layers=4)
    """large-v3 with four decoder layers, trained further."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % 2 or self.d_model < 4:
            raise ModelError(f"d_model={self.d_model}: sines and cosines want an even number of at least 4")

    @property
    def longest_input(self) -> int:
        return self.max_target_positions

    @property
    def frames(self) -> int:
        """Frames of a spectrogram."""
        return 2 * self.max_source_positions


def sinusoids(key: Array | None, shape: Sequence[int], dtype: jnp.dtype) -> Float[Array, "positions features"]:
    """An initializer: sines, then cosines, of wavelengths from 2π to 10,000 · 2π, both included (so not those of Vaswani et
    al., 2017, which do not reach the last)."""
    positions, features = shape
    rates = np.exp(-math.log(10_000) / (features // 2 - 1) * np.arange(features // 2))
    angles = np.arange(positions)[:, None] * rates
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), dtype)


class WhisperEncoder(Encoder):
    """Two convolutions along time, of which the second takes every other place, then layers over all places.

    The positions are sinusoids that are published with the weights and not trained: they get no gradient.
    """

    config: WhisperConfig

    def setup(self) -> None:
        config = self.config
        for name, stride in (("conv1", 1), ("conv2", 2)):
            kernel = dict(kernel_size=(1, 3), stride=(1, stride), padding=(0, 1), kernel_init=config.kernel_init)
            setattr(self, name, Conv(config, config.d_model, **kernel))
        self.position_embeddings = self.param(
            "position_embeddings",
            nn.with_logical_partitioning(sinusoids, (None, "embed")),
            (config.max_source_positions, config.d_model),
            jnp.dtype(config.param_dtype),
        )
        self.layers = stack(self.layer, config, self.count, None)
        self.norm = layer_norm(config, LAYER_NORM_EPSILON, None)

    def embed(self, words: Hidden, dropout_keys, positions: Int[Array, "#batch length"], room: int) -> Hidden:
        embedded = by_example(words + jax.lax.stop_gradient(self.position_embeddings)[None].astype(words.dtype))
        return dropout(embedded, self.config.dropout, fold_in(dropout_keys, self.count))

    def __call__(self, input_features: Features, call: CallSettings) -> ModelOutput:
        config = self.config
        if input_features.shape[1:] != (config.frames, config.num_mel_bins):
            raise ModelError(
                f"input_features has the shape {input_features.shape}: expected (batch, {config.frames} frames,"
                f" {config.num_mel_bins} mels); a shorter clip is padded with silence before its spectrogram is made"
            )
        image = input_features[:, None]  # of one row
        for convolution in (self.conv1, self.conv2):
            image = gelu(convolution(image))
        return super().__call__(image[:, 0], None, None, call)


class WhisperDecoder(Decoder):
    """Writes a text from left to right. Positions count the tokens that a mask has: prompts may be padded on the left."""

    def positions(self, length: int, mask: Mask | None, first: int | Int[Array, ""]) -> Int[Array, "#batch new"]:
        if mask is None:
            return super().positions(length, mask, first)
        places = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
        return jax.lax.dynamic_slice_in_dim(places, first, length, axis=1)


class WhisperBase(Model):
    """Base of all models: a blank spectrogram to begin with."""

    config: WhisperConfig

    @nn.nowrap
    def blank(self) -> dict[str, jax.Array]:
        """Two tokens, and as long a spectrogram as it must be."""
        return {"input_features": jnp.zeros((1, self.config.frames, self.config.num_mel_bins)), **super().blank()}

    def encode(self, input_features: Features, attention_mask: None = None, *, room: int) -> Cache:
        """A cache that holds what the encoder made of the sound, and has room for `room` tokens that are still to be written."""
        cache = self.config.empty_cache(input_features.shape[0], room)
        return self(input_features, past_key_values=cache).past_key_values


class WhisperModel(WhisperBase, EncoderDecoderModel):
    """Encoder and decoder. Outputs: those of `EncoderDecoderModel`."""

    def setup(self) -> None:
        config = self.config
        table_init = but_zero(config.embedding_init, config.pad_token_id)
        self.shared = embedding(
            config, config.vocab_size, config.d_model, None, stddev=config.init_std, axis="vocab", table_init=table_init
        )
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)

    def embed(self, ids: Ids) -> Hidden:
        return self.shared(ids)

    def __call__(
        self,
        input_features: Features | None = None,
        decoder_input_ids: Targets | None = None,
        decoder_attention_mask: TargetMask | None = None,
        past_key_values: Cache | None = None,
        **settings: Any,
    ) -> ModelOutput:
        """With `past_key_values` the decoder's tokens follow those of the cache, and `decoder_attention_mask` is of the new
        ones; a cache with an encoder's output replaces `input_features`. With `input_features`, `past_key_values` and no
        `decoder_input_ids`, the encoder's output goes into the cache, which is the only output.
        """
        refuse({"input_features": input_features}, decoder_input_ids, past_key_values)
        call = CallSettings(**settings)
        encoded = None if input_features is None else self.encoder(input_features, call.folded(0))
        memory = None if encoded is None else encoded.last_hidden_state
        if decoder_input_ids is None:
            if past_key_values is None:
                raise ModelError("decoder_input_ids is missing: give the decoder its first tokens")
            return ModelOutput(past_key_values=self.decoder.remember(memory, None, past_key_values))
        check_length(self.config, decoder_input_ids.shape[1])
        tokens = self.embed(decoder_input_ids), decoder_attention_mask, None
        decoded = self.decoder(*tokens, memory, None, None, past_key_values, call.folded(1))
        return self.outputs(decoded, encoded)


class WhisperForConditionalGeneration(WhisperBase):
    """Outputs: `logits` (batch, targets, vocab) of the token after each place, beside those of `WhisperModel`."""

    generates: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self,
        input_features: Features | None = None,
        decoder_input_ids: Targets | None = None,
        decoder_attention_mask: TargetMask | None = None,
        past_key_values: Cache | None = None,
        **settings: Any,
    ) -> ModelOutput:
        model = WhisperModel(self.config, name="model")
        read = model(input_features, decoder_input_ids, decoder_attention_mask, past_key_values, **settings)
        if "last_hidden_state" not in read:
            return read
        return ModelOutput(logits=model.project_to_vocabulary(read.last_hidden_state), **read)


class WhisperForAudioClassification(WhisperBase):
    """The encoder alone. Outputs: `logits` (batch, labels) of the mean of all places; `hidden_states` and `attentions` where
    asked for."""

    labelled: ClassVar[bool | None] = True

    @nn.compact
    def __call__(self, input_features: Features, **settings: Any) -> ModelOutput:
        config, call = self.config, CallSettings(**settings)
        every = config.use_weighted_layer_sum
        encoder = WhisperEncoder(config, name="encoder")
        encoded = encoder(input_features, dataclasses.replace(call, output_hidden_states=True) if every else call)
        hidden = encoded.last_hidden_state
        if every:
            layers = config.encoder_layers + 1
            init = nn.with_logical_partitioning(nn.initializers.constant(1 / layers), (None,))
            weights = jax.nn.softmax(self.param("layer_weights", init, (layers,), jnp.dtype(config.param_dtype)))
            hidden = jnp.einsum("l,lbth->bth", weights.astype(hidden.dtype), encoded.hidden_states)
        size = config.classifier_proj_size
        projected = dense(config, size, "projector", ("embed", "embed_out"), kernel_init=config.kernel_init)(hidden)
        scores = classifier(
            config, projected.mean(axis=1), len(config.labels), "classifier", kernel_init=config.kernel_init
        )
        asked = {name: encoded[name] for name in ("hidden_states", "attentions") if name in encoded}
        return ModelOutput(logits=scores, **asked)
