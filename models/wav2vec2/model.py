"""Wav2Vec2's models: the encoder, and its heads for pretraining, transcription and classification."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelError
from models.layers.dropout import dropout, fold_in
from models.layers.heads import classifier
from models.layers.linear import dense, torch_uniform
from models.model import CallSettings, Model
from models.outputs import ModelOutput
from models.wav2vec2.config import Wav2Vec2Config
from models.wav2vec2.encoder import Encoder
from models.wav2vec2.features import (
    FeatureEncoder,
    FeatureProjection,
    Frames,
    Samples,
    check_samples,
    frame_mask,
    scaled_gradient,
)
from models.wav2vec2.quantizer import GumbelQuantizer, Noise

SampleMask = Int[Array, "batch samples"]
TimeMask = Bool[Array, "batch masked"] | Int[Array, "batch masked"]
FeatureMask = Bool[Array, "batch hidden"] | Int[Array, "batch hidden"]


class Wav2Vec2Base(Model):
    """Base of the Wav2Vec2 models. Dropout keys after those of the layers are numbered from `BEHIND` on."""

    config: Wav2Vec2Config
    BEHIND: ClassVar[int] = 1_000

    @nn.nowrap
    def blank(self) -> dict[str, jax.Array]:
        """Silence of two frames."""
        return {"input_values": jnp.zeros((1, self.config.samples(2)))}


class Wav2Vec2Model(Wav2Vec2Base):
    """Convolutions, projection and encoder.

    Outputs: `last_hidden_state` (batch, frames, hidden); `extract_features` (batch, frames, conv_dim), the normalised
    features of the convolutions, and `conv_features`, the same before the norm; `hidden_states` (layers + 1, batch, frames,
    hidden), the input of the first layer first, and `attentions` (layers, batch, heads, frames, frames) where asked for.
    """

    @nn.compact
    def __call__(
        self,
        input_values: Samples,
        attention_mask: SampleMask | None = None,
        mask_time_indices: TimeMask | None = None,
        mask_feature_indices: FeatureMask | None = None,
        **settings: Any,
    ) -> ModelOutput:
        """`attention_mask` is 1 for the samples of an utterance, which come first, and 0 for padding. Frames of
        `mask_time_indices` are replaced by a learned vector, features of `mask_feature_indices` by 0 (Park et al.,
        "SpecAugment", 2019, arXiv 1904.08779).

        Raises:
            ModelError: there are too few samples, or masked frames without a mask vector.
        """
        config, call = self.config, CallSettings(**settings)
        check_samples(config, input_values)
        features = FeatureEncoder(config, name="feature_extractor")(input_values)
        if config.feature_grad_mult != 1:
            features = scaled_gradient(features, config.feature_grad_mult)
        mask = None if attention_mask is None else frame_mask(config, attention_mask, features.shape[1])
        normed, hidden = FeatureProjection(config, name="feature_projection")(
            features, fold_in(call.dropout_keys, self.BEHIND)
        )
        hidden = self._masked(hidden, mask_time_indices, mask_feature_indices)
        hidden, asked = Encoder(config, name="encoder")(hidden, mask, call)
        return ModelOutput(last_hidden_state=hidden, extract_features=normed, conv_features=features, **asked)

    def _masked(self, hidden: Frames, time: TimeMask | None, features: FeatureMask | None) -> Frames:
        config = self.config
        if config.masks:
            uniform = nn.with_logical_partitioning(nn.initializers.uniform(1.0), ("embed",))
            vector = self.param("masked_spec_embed", uniform, (config.hidden_size,), jnp.dtype(config.param_dtype))
        if not config.apply_spec_augment:
            return hidden
        if time is not None:
            if not config.masks:
                raise ModelError("mask_time_indices is given to a model that masks nothing: set mask_time_prob above 0")
            if time.shape != hidden.shape[:2]:
                raise ModelError(
                    f"mask_time_indices of shape {time.shape} for {hidden.shape[:2]} utterances and frames"
                )
            hidden = jnp.where(time[..., None] > 0, vector.astype(hidden.dtype)[None, None], hidden)
        if features is not None:
            hidden = jnp.where(features[:, None] > 0, 0, hidden)
        return hidden


class Wav2Vec2ForPreTraining(Wav2Vec2Base):
    """Outputs, of `masked_positions` if given and else of all frames: `projected_states` (batch, places, proj_codevector_dim),
    the encoder's predictions, and `projected_quantized_states`, the quantised features; `codevector_indices` (batch, places,
    groups) and `codevector_logits` (batch, places, groups, codes), without noise; and the outputs of `Wav2Vec2Model`.
    """

    @nn.compact
    def __call__(
        self,
        input_values: Samples,
        attention_mask: SampleMask | None = None,
        mask_time_indices: TimeMask | None = None,
        masked_positions: Int[Array, "batch places"] | None = None,
        gumbel_noise: Noise | None = None,
        gumbel_temperature: Float[Array, " batch"] | None = None,
        **settings: Any,
    ) -> ModelOutput:
        """With `gumbel_noise` (and `gumbel_temperature`) codes are sampled in training. Without it, and in evaluation, which has
        no `dropout_keys`, they are the likeliest ones."""
        config, keys = self.config, settings.get("dropout_keys")
        encoded = Wav2Vec2Model(config, name="wav2vec2")(input_values, attention_mask, mask_time_indices, **settings)
        hidden, features = encoded.last_hidden_state, encoded.extract_features
        if masked_positions is not None:
            hidden, features = (jnp.take_along_axis(x, masked_positions[..., None], axis=1) for x in (hidden, features))
        features = dropout(features, config.feat_quantizer_dropout, fold_in(keys, self.BEHIND + 1))
        noise = None if keys is None else gumbel_noise
        quantized = GumbelQuantizer(config, name="quantizer")(features, noise, gumbel_temperature)
        return ModelOutput(
            projected_states=self._projected("project_hid", hidden),
            projected_quantized_states=self._projected("project_q", quantized.vectors),
            codevector_indices=quantized.indices,
            codevector_logits=quantized.logits,
            **encoded,
        )

    def _projected(self, name: str, x: Float[Array, "batch places in"]) -> Float[Array, "batch places out"]:
        config = self.config
        axes = ("embed", "embed_out")
        return dense(config, config.proj_codevector_dim, name, axes, kernel_init=torch_uniform)(x)


class Wav2Vec2ForCTC(Wav2Vec2Base):
    """Output: `logits` (batch, frames, vocab) of the tokens and, at `pad_token_id`, of the blank, beside those of
    `Wav2Vec2Model`."""

    labelled: ClassVar[bool | None] = False

    @nn.compact
    def __call__(
        self,
        input_values: Samples,
        attention_mask: SampleMask | None = None,
        mask_time_indices: TimeMask | None = None,
        mask_feature_indices: FeatureMask | None = None,
        **settings: Any,
    ) -> ModelOutput:
        config = self.config
        encoded = Wav2Vec2Model(config, name="wav2vec2")(
            input_values, attention_mask, mask_time_indices, mask_feature_indices, **settings
        )
        keys = fold_in(settings.get("dropout_keys"), self.BEHIND + 1)
        hidden = dropout(encoded.last_hidden_state, config.final_dropout, keys)
        head = dense(config, config.vocab_size, "lm_head", ("embed", "vocab"), stddev=config.initializer_range)
        return ModelOutput(logits=head(hidden), **encoded)


class Wav2Vec2ForSequenceClassification(Wav2Vec2Base):
    """Output: `logits` (batch, labels) from the mean of the projected frames, beside those of `Wav2Vec2Model`."""

    labelled: ClassVar[bool | None] = True

    @nn.compact
    def __call__(
        self,
        input_values: Samples,
        attention_mask: SampleMask | None = None,
        mask_time_indices: TimeMask | None = None,
        mask_feature_indices: FeatureMask | None = None,
        **settings: Any,
    ) -> ModelOutput:
        config, asked = self.config, settings.get("output_hidden_states", False)
        settings["output_hidden_states"] = asked or config.use_weighted_layer_sum
        encoded = Wav2Vec2Model(config, name="wav2vec2")(
            input_values, attention_mask, mask_time_indices, mask_feature_indices, **settings
        )
        hidden = encoded.last_hidden_state
        if config.use_weighted_layer_sum:
            hidden = self._mean_of_layers(encoded.hidden_states)
        stddev = config.initializer_range
        hidden = dense(config, config.classifier_proj_size, "projector", ("embed", "embed_out"), stddev=stddev)(hidden)
        if attention_mask is None:
            pooled = hidden.mean(axis=1)
        else:
            mask = frame_mask(config, attention_mask, hidden.shape[1])[..., None]
            pooled = jnp.where(mask, hidden, 0).sum(axis=1) / mask.sum(axis=1).clip(1).astype(hidden.dtype)
        scores = classifier(config, pooled, len(config.labels), "classifier", stddev=stddev)
        rest = {name: x for name, x in encoded.items() if asked or name != "hidden_states"}
        return ModelOutput(logits=scores, **rest)

    def _mean_of_layers(self, states: Float[Array, "layers batch frames hidden"]) -> Frames:
        ones = nn.with_logical_partitioning(nn.initializers.ones, (None,))
        weights = self.param("layer_weights", ones, states.shape[:1], jnp.dtype(self.config.param_dtype))
        return jnp.einsum("l,lbfh->bfh", jax.nn.softmax(weights).astype(states.dtype), states)
