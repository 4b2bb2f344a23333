"""Folders whose config and tokenizer disagree: named when they are opened, refused where an id has no embedding."""

import logging

import jax
import pytest

from data.text.templates import TEMPLATES
from data.text.tokenizers import train_tokenizer
from inference.pipeline import pipeline
from models import hub
from models.config import ModelError
from models.gpt2 import GPT2Config, GPT2LMHeadModel


@pytest.fixture
def folder(tmp_path):
    """Makes the folder of a GPT-2 whose tokenizer is trained beside it, with 261 tokens and `</s>` as 2."""

    def made(**changes):
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, **changes))
        hub.save(tmp_path, model, model.init(jax.random.key(0), **model.blank()))
        path = tmp_path / "tokenizer.json"
        train_tokenizer(["mill mill"] * 3, kind="byte_bpe", template=TEMPLATES["llama"], vocab_size=261, path=path)
        return tmp_path

    return made


def test_disagreements_are_named_when_a_folder_is_opened(folder, caplog):
    with caplog.at_level(logging.WARNING, "lacuna"):
        ask = pipeline("text-generation", folder(vocab_size=270, bos_token_id=1, eos_token_id=0))
    said = [record.getMessage() for record in caplog.records]
    assert any("eos_token_id is 0 ('<unk>') for the model and 2 ('</s>') for the tokenizer" in line for line in said)
    assert ask("mill", max_new_tokens=1)


def test_those_that_agree_are_opened_without_a_word(folder, caplog):
    with caplog.at_level(logging.WARNING, "lacuna"):
        pipeline("text-generation", folder(vocab_size=270, bos_token_id=1, eos_token_id=2))
    assert not caplog.records


def test_a_token_without_an_embedding_is_refused(folder, caplog):
    with caplog.at_level(logging.WARNING, "lacuna"):
        ask = pipeline("text-generation", folder(vocab_size=260, bos_token_id=1, eos_token_id=2))
    assert "the tokenizer has 261 tokens and the model's vocab_size is 260" in caplog.text
    assert ask("a", max_new_tokens=1)
    with pytest.raises(ModelError, match=r"gives .* the id 260, and the model has embeddings of 260 tokens"):
        ask("mill", max_new_tokens=1)
