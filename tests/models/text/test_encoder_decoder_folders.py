"""Configs and folders of BART, mBART, Marian and the Transformer."""

import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import bart, hub
from models.config import ModelError
from tests.models.hub.folders import change_tensors, published
from tests.models.text.encoder_decoders import BART, GENERATORS, SOURCE, ids, with_config


@pytest.mark.parametrize("kind", GENERATORS)
def test_config_to_json_and_back(kind):
    config_class = hub.config_class(kind)
    for variant in config_class.variants:
        config = config_class.variant(variant, dropout=0.25)
        published = json.loads(json.dumps(config.to_json()))
        assert published["model_type"] == kind and not set(published) & set(config_class.execution)
        assert config_class.from_json(published) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 30}, "d_model=30 does not divide into encoder_attention_heads=4"),
        ({"decoder_attention_heads": 3}, "d_model=32 does not divide into decoder_attention_heads=3"),
        ({"activation_function": "gelo"}, "unknown activation 'gelo': did you mean 'gelu'"),
        ({"pad_token_id": 60}, "pad_token_id=60 is not among vocab_size=60"),
        ({"eos_token_id": -1}, "eos_token_id=-1: expected a whole number of at least 0"),
        ({"decoder_layers": 0}, "decoder_layers=0: expected a whole number of at least 1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        with_config(BART, **changes)


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        ("bart", {"encoder_layerdrop": 0.1}),
        ("mbart", {"decoder_layerdrop": 0.1}),
        ("bart", {"tie_word_embeddings": False}),
        ("marian", {"share_encoder_decoder_embeddings": False}),
    ],
)
def test_published_variants_that_would_give_other_numbers_are_refused(kind, published):
    config = GENERATORS[kind].config
    with pytest.raises(ModelError, match=f"{next(iter(published))}.*not implemented|only the tied head"):
        type(config).from_json({**config.to_json(), **published})


WORDS = "model.shared.weight"
ALIASES = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda tensors, alias=alias: {alias if name == WORDS else name: x for name, x in tensors.items()}
            for alias in ALIASES
        ),
        lambda tensors: {**tensors, **dict.fromkeys(ALIASES, tensors[WORDS])},
        lambda tensors: {name.removeprefix("model."): x for name, x in tensors.items()},
        lambda tensors: {**tensors, "model.encoder.version": np.full(1, 3.0), "decoder.version": np.full(1, 3.0)},
    ],
    ids=[*(f"only {alias}" for alias in ALIASES), "all of them", "no prefix", "versions"],
)
def test_other_names_of_the_same_tensors(change, tmp_path):
    variables = published(tmp_path, BART)
    change_tensors(tmp_path, change)
    for path, x in flatten_dict(hub.load(tmp_path)[1]["params"], sep="/").items():
        np.testing.assert_array_equal(x, flatten_dict(variables["params"], sep="/")[path], err_msg=path)


def test_files_without_a_bias_of_the_scores_have_zeros_there(tmp_path):
    published(tmp_path, bart.BartModel(BART.config))
    model, variables = hub.load(tmp_path, architecture="BartForConditionalGeneration")
    assert not variables["params"]["final_logits_bias"].any()
    assert model.apply(variables, ids()).logits.shape == (4, SOURCE, 60)


@pytest.mark.parametrize(
    ("alias", "architecture", "refused"),
    [
        ("lm_head.weight", "BartForConditionalGeneration", True),
        ("lm_head.weight", "BartModel", False),
        ("model.encoder.embed_tokens.weight", "BartForConditionalGeneration", True),
        ("model.decoder.embed_tokens.weight", "BartModel", True),
    ],
)
def test_embeddings_that_are_not_tied_are_refused_where_they_matter(alias, architecture, refused, tmp_path):
    published(tmp_path, BART)
    change_tensors(tmp_path, lambda tensors: {**tensors, alias: tensors[WORDS] + 1})
    if not refused:
        hub.load(tmp_path, architecture=architecture)
        return
    with pytest.raises(ModelError, match="differs from"):
        hub.load(tmp_path, architecture=architecture)


def test_the_other_kind_of_norms_is_unexpected(tmp_path):
    published(tmp_path, GENERATORS["mbart"])
    path = tmp_path / "config.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "model_type": "bart", "architectures": ["BartForConditionalGeneration"]}))
    with pytest.raises(ModelError, match=r"unexpected: model\.decoder\.layer_norm\.bias"):
        hub.load(tmp_path)
