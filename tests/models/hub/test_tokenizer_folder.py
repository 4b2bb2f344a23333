"""What lies beside a model so that its tokenizer gives the ids that it was trained on."""

import dataclasses
import json

import pytest

from data.text.tokenizers import load, train_tokenizer, vocabulary
from models import bart, bert, distilbert, electra, gpt2, hub, llama, t5
from models.config import ModelError
from models.hub import tokenizer_folder
from models.hub.tokenizer_folder import tokenizer_files

TEXTS = ["the river runs through the valley and the mill stands by the river"] * 4
SIZE = 300
BERT = bert.BertForMaskedLM(bert.BertConfig(vocab_size=SIZE, max_position_embeddings=32))
GPT2 = gpt2.GPT2LMHeadModel(gpt2.GPT2Config(vocab_size=SIZE, n_positions=64, bos_token_id=0, eos_token_id=2))
T5 = t5.T5ForConditionalGeneration(t5.T5Config(vocab_size=SIZE))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """{kind: path of a trained `tokenizer.json`}, each in a folder of its own."""
    root = tmp_path_factory.mktemp("tokenizers")
    paths = {kind: root / kind / "tokenizer.json" for kind in ("wordpiece", "byte_bpe", "unigram")}
    for kind, path in paths.items():
        train_tokenizer(TEXTS, kind=kind, vocab_size=280, path=path, sentinels=3 if kind == "unigram" else 0)
    return paths


@pytest.fixture
def folder(trained, tmp_path):
    """A folder with a tokenizer of byte pairs, to which a test adds settings."""
    (tmp_path / "tokenizer.json").write_bytes(trained["byte_bpe"].read_bytes())
    return tmp_path


def settings(path, model) -> dict:
    return json.loads(tokenizer_files(path, model)["tokenizer_config.json"])


@pytest.mark.parametrize(
    ("kind", "model", "inputs", "side"),
    [
        ("wordpiece", BERT, ["input_ids", "token_type_ids", "attention_mask"], "right"),
        (
            "wordpiece",
            electra.ElectraForMaskedLM(electra.ElectraConfig(vocab_size=SIZE)),
            ["input_ids", "token_type_ids", "attention_mask"],
            "right",
        ),
        (
            "wordpiece",
            distilbert.DistilBertForMaskedLM(distilbert.DistilBertConfig(vocab_size=SIZE)),
            ["input_ids", "attention_mask"],
            "right",
        ),
        ("byte_bpe", GPT2, ["input_ids", "attention_mask"], "left"),
        (
            "byte_bpe",
            gpt2.GPT2ForSequenceClassification(GPT2.config),
            ["input_ids", "attention_mask"],
            "right",
        ),
        (
            "byte_bpe",
            llama.LlamaForCausalLM(llama.LlamaConfig(vocab_size=SIZE)),
            ["input_ids", "attention_mask"],
            "left",
        ),
        (
            "byte_bpe",
            bart.BartForConditionalGeneration(bart.BartConfig(vocab_size=SIZE)),
            ["input_ids", "attention_mask"],
            "right",
        ),
        ("unigram", T5, ["input_ids", "attention_mask"], "right"),
    ],
)
def test_a_model_is_handed_what_it_takes(kind, model, inputs, side, trained):
    written = settings(trained[kind], model)
    assert written["model_input_names"] == inputs
    assert written["padding_side"] == side
    assert written.get("model_max_length") == model.config.longest_input
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(("kind", "model"), [("wordpiece", BERT), ("byte_bpe", GPT2), ("unigram", T5)])
def test_special_tokens_are_those_that_objectives_are_given(kind, model, trained):
    """`data` tells them by names of its own, for it knows no models."""
    written, known = settings(trained[kind], model), vocabulary(load(trained[kind]))
    for role in ("pad", "unk", "mask"):
        assert written[f"{role}_token"] == known.tokens[getattr(known, role)]
    for role in ("cls", "sep") if kind == "wordpiece" else ("bos", "eos"):
        assert written[f"{role}_token"] == known.tokens[getattr(known, role)]
    assert all(f"{role}_token" not in written for role in (("bos", "eos") if kind == "wordpiece" else ("cls", "sep")))
    sentinels = [known.tokens[index] for index in known.sentinels]
    assert [token["content"] for token in written.get("additional_special_tokens", [])] == sentinels
    assert len(sentinels) == (3 if kind == "unigram" else 0)


def test_the_first_token_of_a_text_is_that_of_the_class(folder):
    """Of BART, whose texts begin with `<s>`; not of a decoder, which reads nothing behind it."""
    one = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>")]
    template = [one[0], {"Sequence": {"id": "A", "type_id": 0}}, one[1]]
    change(folder, post_processor={"type": "TemplateProcessing", "single": template, "pair": template})
    both_ways = settings(folder, bart.BartForQuestionAnswering(bart.BartConfig(vocab_size=SIZE)))
    assert (both_ways["cls_token"], both_ways["sep_token"]) == ("<s>", "</s>")
    assert "cls_token" not in settings(folder, GPT2)


def test_settings_beside_a_tokenizer_go_along(folder):
    published = {
        "tokenizer_class": "GPT2Tokenizer",
        "auto_map": {"AutoTokenizer": ["custom.Custom", None]},
        "add_bos_token": True,
        "chat_template": "{{ messages }}",
        "padding_side": "right",
        "truncation_side": "left",
        "model_max_length": 48,
        "clean_up_tokenization_spaces": True,
        "unk_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": False},
        "image_token": "<picture>",
        "other_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(published))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<mask>", "bos_token": "<nowhere>"}))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}")
    files = tokenizer_files(folder, GPT2)
    assert files["tokenizer.json"] == (folder / "tokenizer.json").read_text()
    assert files["chat_template.jinja"] == "{{ bos_token }}"
    written = json.loads(files["tokenizer_config.json"])
    assert {"auto_map", "add_bos_token", "image_token"}.isdisjoint(written)
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    for name in ("chat_template", "padding_side", "truncation_side", "model_max_length", "other_token"):
        assert written[name] == published[name]
    assert written["clean_up_tokenization_spaces"] is True
    assert (written["unk_token"], written["pad_token"], written["bos_token"]) == ("<mask>", "<mask>", "<s>")


def test_a_tokenizer_of_another_name_has_no_settings_beside_it(folder):
    (folder / "tokenizer.json").rename(folder / "words.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"padding_side": "right"}))
    assert settings(folder / "words.json", GPT2)["padding_side"] == "left"


def change(folder, **changes) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_roles_without_a_known_name_are_those_of_the_config(folder):
    tokens = {0: "<begin>", 1: "<blank>", 2: "<end>"}
    content = json.loads((folder / "tokenizer.json").read_text())
    added = [
        dict(
            id=index, content=token, special=True, lstrip=index == 1, rstrip=False, single_word=False, normalized=False
        )
        for index, token in tokens.items()
    ]
    words = {
        tokens.get(index, token): index for token, index in content["model"]["vocab"].items() if index < 3 or index > 4
    }
    change(folder, added_tokens=added, model={**content["model"], "vocab": words, "merges": []}, post_processor=None)
    written = settings(folder, GPT2)
    assert (written["bos_token"], written["eos_token"], written["pad_token"]) == ("<begin>", "<end>", "<end>")
    assert written["additional_special_tokens"] == [
        {"__type": "AddedToken", **{name: value for name, value in added[1].items() if name != "id"}}
    ]
    several = llama.LlamaForCausalLM(
        llama.LlamaConfig(vocab_size=SIZE, bos_token_id=0, eos_token_id=(2, 1), pad_token_id=1)
    )
    written = settings(folder, several)
    assert (written["eos_token"], written["pad_token"]) == ("<end>", "<blank>")


def test_the_config_chooses_between_known_names(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    end = {**content["added_tokens"][0], "id": 290, "content": "<|endoftext|>"}
    change(folder, added_tokens=[*content["added_tokens"], end])
    assert settings(folder, GPT2)["eos_token"] == "</s>"
    other = gpt2.GPT2LMHeadModel(dataclasses.replace(GPT2.config, eos_token_id=290))
    assert settings(folder, other)["eos_token"] == "<|endoftext|>"


def test_a_space_that_the_file_puts_in_front_is_named(folder):
    assert "add_prefix_space" not in settings(folder, GPT2)
    change(
        folder, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    )
    assert settings(folder, GPT2)["add_prefix_space"] is True


def test_ids_beyond_the_embeddings_are_refused(trained):
    small = gpt2.GPT2LMHeadModel(dataclasses.replace(GPT2.config, vocab_size=200))
    count = load(trained["byte_bpe"]).get_vocab_size() - 200
    with pytest.raises(
        ModelError, match=rf"has {count} token\(s\) beyond the model's vocab_size=200, .* the id 200 the first"
    ):
        tokenizer_files(trained["byte_bpe"], small)


@pytest.mark.parametrize(
    "content", ['{"version": "1.0"}', "[]", "{", '{"model": {"vocab": {}}, "added_tokens": [{"id": 1}]}']
)
def test_what_is_no_tokenizer_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer of the `tokenizers` library"):
        tokenizer_files(tmp_path, BERT)


def test_nothing_is_left_of_another_tokenizer(trained, tmp_path):
    for name in tokenizer_folder.READ_TOO:
        (tmp_path / name).write_text("{}")
    (tmp_path / "notes.txt").write_text("kept")
    tokenizer_folder.write(tmp_path, tokenizer_files(trained["unigram"], T5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "tokenizer.json", "tokenizer_config.json"]


def test_every_table_is_of_an_architecture():
    assert all(hub.config_class(name).model_type == name for name in hub.model_types())
