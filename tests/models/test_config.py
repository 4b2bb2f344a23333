"""Published `config.json`s as configs: what is left out, what is null, what stands there under another name."""

import pytest

from models import hub
from models.bart import BartConfig
from models.bert import BertConfig
from models.config import ModelError
from models.gpt2 import GPT2Config
from models.marian import MarianConfig
from models.resnet import ResNetConfig
from models.t5 import T5Config

NUMBERED = tuple(f"LABEL_{number}" for number in range(1_000))
LABELLED = [name for name in hub.model_types() if hub.config_class(name).labels]


@pytest.mark.parametrize("model_type", LABELLED)
def test_labels_are_counted_where_they_are_not_named(model_type):
    config = hub.config_class(model_type)
    assert config.from_json({}).labels == NUMBERED[: 3 if model_type.startswith("bart") else 2]
    assert config.from_json({"num_labels": 7}).labels == NUMBERED[:7]
    assert config.from_json({"num_labels": 7, "id2label": None}).labels == NUMBERED[:7]
    assert config.from_json({"num_labels": 7, "id2label": {"1": "yes", "0": "no"}}).labels == ("no", "yes")
    assert config.from_json({"num_labels": 7}, labels=("one",)).labels == ("one",)


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2"])
def test_a_number_of_labels_that_is_none_is_refused(count):
    with pytest.raises(ModelError, match="num_labels"):
        ResNetConfig.from_json({"num_labels": count})


@pytest.mark.parametrize("model_type", hub.model_types())
def test_a_config_is_read_as_it_was_written(model_type):
    config = hub.config_class(model_type)
    changed = config(labels=("a", "b", "c")) if model_type in LABELLED else config()
    assert config.from_json(changed.to_json()) == changed


def test_null_means_that_there_is_none():
    assert BertConfig.from_json({"pad_token_id": None}).pad_token_id is None
    assert BertConfig.from_json({"classifier_dropout": None}).classifier_dropout is None
    gpt2 = GPT2Config.from_json({"bos_token_id": None, "eos_token_id": None, "n_inner": None})
    assert (gpt2.bos_token_id, gpt2.eos_token_id, gpt2.n_inner) == (None, None, None)
    bart = BartConfig.from_json({"decoder_start_token_id": None, "forced_eos_token_id": None, "pad_token_id": None})
    assert (bart.decoder_start_token_id, bart.forced_eos_token_id, bart.pad_token_id) == (None, None, None)
    assert T5Config.from_json({"decoder_start_token_id": None}).decoder_start_token_id is None
    assert T5Config.from_json({"num_decoder_layers": None}).num_decoder_layers is None


@pytest.mark.parametrize("name", ["vocab_size", "hidden_act", "hidden_dropout_prob"])
def test_null_is_refused_where_a_value_must_be(name):
    with pytest.raises(ModelError, match=f"{name} is null"):
        BertConfig.from_json({name: None})


def test_several_tokens_may_end_a_text():
    assert GPT2Config.from_json({"eos_token_id": [3, 4]}).eos_token_id == (3, 4)
    assert MarianConfig.from_json({"forced_eos_token_id": [3, 4]}).forced_eos_token_id == (3, 4)


@pytest.mark.parametrize("model_type", [name for name in hub.model_types() if hub.config_class(name).aliases])
def test_a_field_may_stand_under_another_name(model_type):
    config = hub.config_class(model_type)
    for alias, name in config.aliases.items():
        value = getattr(config(), name)
        assert config.from_json({alias: value}) == config.from_json({name: value})
        assert config.from_json({alias: value, name: value}) == config.from_json({name: value})
        with pytest.raises(ModelError, match=f"{alias}=.*{name}="):
            config.from_json({alias: value, name: 2 * value})


def test_another_name_changes_the_shape():
    assert GPT2Config.from_json({"hidden_size": 96, "num_attention_heads": 6}).n_embd == 96
    assert BartConfig.from_json({"num_hidden_layers": 3}).encoder_layers == 3
    assert T5Config.from_json({"head_dim": 16}).d_kv == 16


@pytest.mark.parametrize(
    ("published", "activation", "gated"),
    [
        ({"feed_forward_proj": "gated-gelu"}, "gelu_new", True),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}, "gelu_new", True),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"}, "silu", True),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}, "gelu_python", True),
        ({"feed_forward_proj": "gated-silu", "is_gated_act": False}, "silu", False),
        ({"is_gated_act": True, "dense_act_fn": None}, "relu", True),
    ],
)
def test_what_t5_derives_from_a_field_may_stand_there_too(published, activation, gated):
    config = T5Config.from_json(published)
    assert (config.activation, config.gated) == (activation, gated)
    assert T5Config.from_json(config.to_json()) == config


def test_a_model_without_a_first_token_can_be_made():
    nothing = dict(decoder_start_token_id=None, pad_token_id=None)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
    shape = dict(vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, **heads)
    for name, shaped in {"bart": shape, "mbart": shape, "t5": dict(d_model=8, d_kv=4, num_layers=1)}.items():
        config = hub.config_class(name).from_json({**shaped, **nothing})
        architecture = next(kind for kind in hub.model_classes(name) if kind.endswith("ForConditionalGeneration"))
        model = hub.model_class(name, architecture)(config)
        assert hub.shapes_of(model)
