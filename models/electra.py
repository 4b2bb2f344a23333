"""ELECTRA: BERT's encoder as a discriminator, pretrained beside a small generator of the tokens it is to find.

Clark, Luong, Le, Manning: "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020, arXiv
2003.10555.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from models.bert import BertConfig, BertHead, BertModel, BertMultipleChoice, Ids, embeddings, of_size
from models.config import ModelError, alias, nearest
from models.layers.activations import activation
from models.layers.dropout import Keys, dropout, dropout_bits, fold_in
from models.layers.heads import SpanClassifier, TokenClassifier, VocabularyHead
from models.model import Model
from models.outputs import ModelOutput

EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings", "embedding_norm")
"""What generator and discriminator have in common."""

SUMMARIES: Mapping[str, Callable[[Array], Array]] = {
    "first": lambda hidden: hidden[:, 0],
    "last": lambda hidden: hidden[:, -1],
    "cls_index": lambda hidden: hidden[:, -1],
    "mean": lambda hidden: hidden.mean(axis=1),
}
"""By `summary_type`, one vector of a text's hidden states; padding counts as text, as in `transformers`."""


@dataclasses.dataclass(frozen=True)
class ElectraConfig(BertConfig):
    """Shape of an ELECTRA, with the field names of a published `config.json`: BERT's, and two of its own.

    Attributes:
        embedding_size: features of the embeddings; projected to `hidden_size` where that is another number.
        summary_type: what a choice is judged by: the `first` token, the `last` one (`cls_index` too), or the `mean` of all.
        summary_use_proj, summary_activation, summary_last_dropout: the layer before a choice's score, whether there is one,
            its activation (none where `None`) and the dropout behind it.
        generator_size: hidden size, heads and inner size of the generator in joint pretraining, as a fraction of the
            discriminator's; a setting of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "electra"
    execution: ClassVar[tuple[str, ...]] = (*BertConfig.execution, "generator_size")
    variants: ClassVar[tuple[str, ...]] = ("small", "base", "large")

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1_024
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1
    generator_size: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.summary_activation:
            activation(self.summary_activation)
        if self.summary_type not in SUMMARIES:
            raise ModelError(
                f"unknown summary_type {self.summary_type!r}: {nearest(self.summary_type, list(SUMMARIES))}"
            )
        if not 0 < self.generator_size <= 1:
            raise ModelError(
                f"generator_size={self.generator_size}: the fraction of the discriminator must lie in (0, 1]"
            )

    small = of_size(12, 256, embedding_size=128)
    base = of_size(12, 768, embedding_size=768, generator_size=1 / 3)
    large = of_size(24, 1024, embedding_size=1_024)

    embedding_width = alias("embedding_size")

    @property
    def generator(self) -> "ElectraConfig":
        """The generator that this discriminator is pretrained with: as deep, its layers narrower (table 6 of the paper).

        The released base and large ones have this shape. The released small one is as wide as its discriminator:
        `ElectraConfig.small()` is its config.
        """
        hidden, heads, inner = (
            max(1, round(self.generator_size * size))
            for size in (self.hidden_size, self.num_attention_heads, self.intermediate_size)
        )
        try:
            return dataclasses.replace(
                self, hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner, generator_size=1.0
            )
        except ModelError as error:
            raise ModelError(f"generator_size={self.generator_size} makes no generator: {error}") from None


class ElectraModel(BertModel):
    """Embeddings and encoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `hidden_states` (layers + 1, batch, length, hidden), the
    projected embeddings first, and `attentions` (layers, batch, heads, length, length) where asked for.
    """

    add_pooling_layer: bool = False


class ElectraHead(BertHead):
    """Base of the models with a head."""

    base: ClassVar[str] = "electra"


class ElectraForPreTraining(ElectraHead):
    """The discriminator. Output: `logits` (batch, length), positive where a token seems to be replaced."""

    def head(self, encoder, encoded, masked_positions, keys):
        config = self.config
        hidden = self.linear(encoded.last_hidden_state, config.hidden_size, "discriminator_transform")
        return dict(logits=self.linear(activation(config.hidden_act)(hidden), 1, "discriminator")[..., 0])


class ElectraForMaskedLM(VocabularyHead, ElectraHead):
    """The generator. Output: `logits` (batch, positions, vocab)."""

    head_act: ClassVar[str | None] = "gelu"  # as in transformers, whatever hidden_act is


class ElectraForSequenceClassification(ElectraHead):
    """Output: `logits` (batch, labels)."""

    labelled: ClassVar[bool | None] = True

    def head(self, encoder, encoded, masked_positions, keys):
        first = self.drop(encoded.last_hidden_state[:, 0], fold_in(keys, 0))
        hidden = activation("gelu")(self.linear(first, self.config.hidden_size, "classifier_transform"))
        hidden = self.drop(hidden, fold_in(keys, 1))
        return dict(logits=self.linear(hidden, len(self.config.labels), "classifier_output"))


class ElectraForTokenClassification(TokenClassifier, ElectraHead):
    pass


class ElectraForQuestionAnswering(SpanClassifier, ElectraHead):
    pass


class ElectraForMultipleChoice(BertMultipleChoice):
    base: ClassVar[str] = "electra"

    def head(self, encoder, encoded, masked_positions, keys):
        config = self.config
        hidden = SUMMARIES[config.summary_type](encoded.last_hidden_state)
        if config.summary_use_proj:
            hidden = self.linear(hidden, config.hidden_size, "summary")
        if config.summary_activation:
            hidden = activation(config.summary_activation)(hidden)
        return dict(logits=self.linear(dropout(hidden, config.summary_last_dropout, keys), 1, "classifier"))


def sample(keys: UInt32[Array, "batch words"], logits: Float[Array, "batch slots vocab"]) -> Int[Array, "batch slots"]:
    """Tokens drawn with the probabilities softmax(logits), those of each example with the data of its own key.

    argmax(logits + g), g Gumbel-distributed (Maddison et al., "A* Sampling", 2014, arXiv 1411.0030): -g is the logarithm of
    -log(1 - u), which is exact for the small u that decide. No gradient comes through.
    """
    bits = dropout_bits(jax.random.wrap_key_data(keys, impl="threefry2x32"), logits.shape[1:])
    uniform = (bits.astype(jnp.float32) + 0.5) * 2.0**-32
    gumbel = -jnp.log(-jnp.log1p(-uniform))
    return jnp.argmax(jax.lax.stop_gradient(logits).astype(jnp.float32) + gumbel, axis=-1).astype(jnp.int32)


PARTS: Mapping[str, tuple[str, type[Model]]] = {
    "discriminator": ("", ElectraForPreTraining),
    "generator": ("generator", ElectraForMaskedLM),
}
"""The parts of the joint model: the folder inside the checkpoint's in which each is published, and its class there."""


class ElectraForJointPreTraining(Model):
    """Generator and discriminator in one pass, for replaced-token detection; their embeddings, and the norm of these, are
    shared (section 3.2 of the paper; the norm as in the released code).

    Inputs beside BERT's:
        masked_positions (batch, slots): the places that the generator fills. Without them the discriminator reads the
            text as it is, and the generator predicts every place.
        labels (batch, slots): the tokens that were there, negative in slots left over, which nothing fills. Without them
            they are what `input_ids` has there.
        sampling_key (batch, 2), uint32: data of the key to draw with; without it the likeliest tokens are taken.

    Outputs: `generator_logits` (batch, slots, vocab); `discriminator_logits` (batch, length), positive where a token seems
    to be replaced; `replaced` (batch, length), whether it is: a drawn token that hits the original is not.
    """

    config: ElectraConfig

    def setup(self) -> None:
        self.word_embeddings, self.position_embeddings, self.token_type_embeddings, self.embedding_norm = embeddings(
            self.config
        )
        shared = self.word_embeddings, self.position_embeddings, self.token_type_embeddings, self.embedding_norm
        self.generator = ElectraForMaskedLM(self.config.generator, shared)
        self.discriminator = ElectraForPreTraining(self.config, shared)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        token_type_ids: Ids | None = None,
        position_ids: Ids | None = None,
        masked_positions: Int[Array, "batch slots"] | None = None,
        labels: Int[Array, "batch slots"] | None = None,
        sampling_key: UInt32[Array, "batch 2"] | None = None,
        *,
        dropout_keys: Keys = None,
    ) -> ModelOutput:
        text = (attention_mask, token_type_ids, position_ids)
        generated = self.generator(input_ids, *text, masked_positions, dropout_keys=fold_in(dropout_keys, 0)).logits
        seen, replaced = input_ids, jnp.zeros(input_ids.shape, bool)
        if masked_positions is not None:
            drawn = jnp.argmax(generated, axis=-1) if sampling_key is None else sample(sampling_key, generated)
            if labels is None:
                labels = jnp.take_along_axis(input_ids, masked_positions, axis=1)
            places = jnp.where(labels >= 0, masked_positions, input_ids.shape[1])  # past the end: dropped
            put = jax.vmap(lambda row, at, values: row.at[at].set(values, mode="drop"))
            seen = put(input_ids, places, drawn.astype(input_ids.dtype))
            replaced = put(replaced, places, drawn != labels)
        judged = self.discriminator(seen, *text, dropout_keys=fold_in(dropout_keys, 1)).logits
        return ModelOutput(generator_logits=generated, discriminator_logits=judged, replaced=replaced)

    @nn.nowrap
    def published(self, variables: Mapping[str, Any]) -> dict[str, tuple[Model, dict[str, Any]]]:
        """{folder inside the checkpoint's: model and variables}, the discriminator's being the checkpoint's own; each
        part has the embeddings."""
        params = nn.unbox(variables["params"])
        shared = {name: params[name] for name in EMBEDDINGS}
        configs = {"discriminator": self.config, "generator": self.config.generator}
        return {
            folder: (
                model_class(configs[name]),
                {"params": {**params[name], "electra": {**params[name]["electra"], **shared}}},
            )
            for name, (folder, model_class) in PARTS.items()
        }

    @classmethod
    def joined(cls, load: Callable[[str, type[Model]], tuple[Model, dict[str, Any]]]):
        """The inverse: model and variables, of what `load` finds in a folder inside the checkpoint's for a class."""
        parts = {name: load(*part) for name, part in PARTS.items()}
        config, generator = (parts[name][0].config for name in ("discriminator", "generator"))
        config = dataclasses.replace(config, generator_size=min(1.0, generator.hidden_size / config.hidden_size))
        if config.generator != dataclasses.replace(generator, generator_size=1.0, labels=config.labels):
            raise ModelError(f"{generator} is not as this discriminator's: expected {config.generator}")
        trees = {name: dict(variables["params"]) for name, (_, variables) in parts.items()}
        bodies = {name: dict(tree["electra"]) for name, tree in trees.items()}
        shared = {name: {of: body.pop(name) for of, body in bodies.items()} for name in EMBEDDINGS}
        for name, one in shared.items():
            if not jax.tree.all(jax.tree.map(jnp.array_equal, one["discriminator"], one["generator"])):
                raise ModelError(f"{name} of generator and discriminator differ: they are pretrained with the same")
        params = {name: {**trees[name], "electra": body} for name, body in bodies.items()}
        return cls(config), {"params": {**params, **{name: one["discriminator"] for name, one in shared.items()}}}
