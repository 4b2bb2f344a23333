"""Language models trained here stop where a document does."""

import jax.numpy as jnp
import pytest

from data.text.framing import Framing
from data.text.tokenizers import load, vocabulary
from inference.pipeline import pipeline
from models import hub
from tests.counting import PROMPTS, counting_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_ends_where_a_document_does(name, tmp_path):
    folder = counting_model(name, tmp_path)
    answers = pipeline("text-generation", folder)(list(PROMPTS), return_full_text=False, max_new_tokens=40)
    assert [answer["generated_text"] for (answer,) in answers] == list(PROMPTS.values())
    tokenizer = load(folder)
    model, variables = hub.load(folder)
    written, framing = vocabulary(tokenizer), Framing.of(tokenizer)
    assert model.config.eos_token_id == written.eos
    for prompt, rest in PROMPTS.items():
        ids = framing.prompt(tokenizer.encode(prompt + rest, add_special_tokens=False).ids)
        logits = model.apply(variables, jnp.array([ids]))["logits"]
        assert int(logits[0, -1].argmax()) == written.eos, "and it is the end of a text that stops it, not the room"
