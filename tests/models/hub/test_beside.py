"""What lies beside the parameters of a folder, and what of it goes along when a published folder is written again."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from models import bart, bert, gpt2, hub, llama, mbart, t5
from models.hub.beside import Beside, generation_config

SMALL = dict(
    vocab_size=20,
    d_model=8,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=8,
    decoder_ffn_dim=8,
    max_position_embeddings=8,
)
BART = bart.BartForConditionalGeneration(bart.BartConfig(**SMALL, forced_eos_token_id=2))
BERT = bert.BertForSequenceClassification(
    bert.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        labels=("no", "yes", "so"),
    )
)


def fresh(model):
    return jax.tree.map(jnp.asarray, model.init(jax.random.key(0), **model.blank()))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            BART,
            dict(bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2),
        ),
        (
            mbart.MBartForConditionalGeneration(mbart.MBartConfig(**SMALL, decoder_start_token_id=7)),
            dict(bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=7, forced_eos_token_id=2),
        ),
        (
            t5.T5ForConditionalGeneration(t5.T5Config(vocab_size=20)),
            dict(pad_token_id=0, eos_token_id=1, decoder_start_token_id=0),
        ),
        (
            llama.LlamaForCausalLM(llama.LlamaConfig(vocab_size=20, eos_token_id=(2, 3))),
            dict(bos_token_id=1, eos_token_id=(2, 3)),
        ),
        (
            gpt2.GPT2LMHeadModel(gpt2.GPT2Config(vocab_size=20, bos_token_id=4, eos_token_id=5)),
            dict(bos_token_id=4, eos_token_id=5),
        ),
        (gpt2.GPT2ForSequenceClassification(gpt2.GPT2Config(vocab_size=20)), None),
        (bart.BartModel(BART.config), None),
        (BERT, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_generation_is_told_the_special_tokens_of_the_config(model, expected):
    assert generation_config(model) == expected


def test_a_model_that_writes_has_its_generation_settings_beside_it(tmp_path):
    hub.save(tmp_path, BART, fresh(BART))
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written == json.loads(json.dumps(generation_config(BART)))
    hub.save(tmp_path / "bert", BERT, fresh(BERT))
    assert not (tmp_path / "bert/generation_config.json").exists()


PUBLISHED = {
    "generation_config.json": '{"num_beams": 3}',
    "tokenizer.json": '{"model": {}}',
    "tokenizer_config.json": '{"tokenizer_class": "BartTokenizer"}',
    "vocab.json": "{}",
    "merges.txt": "#version: 0.2",
    "spiece.model": "\0\1",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "preprocessor_config.json": "{}",
    "README.md": "# Model",
    "LICENSE": "MIT",
}
LEFT = {
    "pytorch_model.bin": "pickle",
    "pytorch_model.bin.index.json": "another form",
    "flax_model.msgpack": "another form",
    "onnx/model.onnx": "another form",
    "modeling_custom.py": "code",
    ".gitattributes": "hidden",
    "dangling": "a link to none",
}


@pytest.fixture
def published(tmp_path):
    """A folder of a BART with everything that may lie beside it."""
    folder = tmp_path / "published"
    hub.save(folder, BART, fresh(BART))
    for name, text in {**PUBLISHED, **dict.fromkeys(LEFT, "x"), ".git/config": "x"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "dangling").unlink()
    (folder / "dangling").symlink_to(folder / "nowhere")
    return folder


def change_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_a_folder_holds_goes_along_or_is_named(published, tmp_path):
    model, variables = hub.load(published)
    beside = Beside.read(published)
    assert {str(path) for path in beside.files} == set(PUBLISHED)
    assert set(beside.left) == set(LEFT) and all(LEFT[name] in why for name, why in beside.left.items())
    hub.save(tmp_path / "again", model, variables, beside=beside)
    written = {str(path.relative_to(tmp_path / "again")) for path in (tmp_path / "again").rglob("*") if path.is_file()}
    assert written == {*PUBLISHED, "config.json", "model.safetensors"}
    assert all((tmp_path / "again" / name).read_text() == text for name, text in PUBLISHED.items())


def test_a_folder_without_generation_settings_gets_none(published, tmp_path):
    """Its `config.json` may have them, as older folders do, which would then be read no more."""
    (published / "generation_config.json").unlink()
    hub.save(tmp_path / "again", *hub.load(published), beside=Beside.read(published))
    assert not (tmp_path / "again/generation_config.json").exists()


def test_keys_without_a_use_here_survive(published, tmp_path):
    kept = {
        "task_specific_params": {"summarization": {"num_beams": 4}},
        "prefix": "summarize: ",
        "problem_type": "single_label_classification",
        "num_beams": 2,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"nein": 0, "yes": 1},
        "torch_dtype": "float16",
        "transformers_version": "4.1.0",
        "auto_map": {"AutoModel": "modeling_custom.Custom"},
        "encoder_layers": 1,
    }
    change_config(published, **kept)
    model, variables = hub.load(published)
    beside = Beside.read(published)
    hub.save(tmp_path / "again", model, variables, beside=beside)
    written = json.loads((tmp_path / "again/config.json").read_text())
    for name in ("torch_dtype", "transformers_version", "auto_map"):
        assert name not in written
        del kept[name]
    assert kept.items() <= written.items()
    assert "auto_map of config.json" in beside.left and len(beside.left) == len(LEFT) + 1
    assert hub.load(tmp_path / "again")[0].config == model.config


def test_a_flax_folder_is_written_again_without_a_word_of_its_parameters(published):
    from flax.serialization import msgpack_serialize

    (published / "flax_model.msgpack").write_bytes(msgpack_serialize({}))
    (published / "model.safetensors").unlink()
    assert set(Beside.read(published).left) == set(LEFT) - {"flax_model.msgpack"}


def test_labels_of_a_classifier_are_the_published(tmp_path):
    hub.save(tmp_path / "one", BERT, fresh(BERT))
    changed = dataclasses.replace(BERT.config, labels=("A", "B", "C"))
    hub.save(tmp_path / "two", BERT.clone(config=changed), fresh(BERT))
    assert json.loads((tmp_path / "two/config.json").read_text())["id2label"] == {"0": "A", "1": "B", "2": "C"}
    hub.save(tmp_path / "three", *hub.load(tmp_path / "two"), beside=Beside.read(tmp_path / "two"))
    assert (tmp_path / "three/config.json").read_text() == (tmp_path / "two/config.json").read_text()
