"""Pipelines of encoder-decoders against the model they ask, on a small vocabulary and random weights."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text import tokenizers
from inference.generation import GenerationConfig, generate
from inference.generation.config import of_model
from inference.pipeline import pipeline, writing_task
from models import hub
from models.config import ModelError


def test_fill_mask_takes_the_mask_and_the_inputs_that_the_model_has(writers):
    text = "the<mask> sat on the mat"
    encoding = tokenizers.load(writers["bart"]).encode(text)
    model, variables = hub.load(writers["bart"])
    place = encoding.tokens.index("<mask>")
    shares = np.asarray(jax.nn.softmax(model.apply(variables, jnp.array([encoding.ids])).logits[0, place]))
    ask = pipeline("fill-mask", writers["bart"])
    answers = ask(text, top_k=300)
    np.testing.assert_allclose([shares[a["token"]] for a in answers], [a["score"] for a in answers], atol=1e-6)
    assert next(a for a in answers if a["token_str"] == " cat")["sequence"] == "the cat sat on the mat"
    with pytest.raises(ModelError, match="no <mask> in 'the cat': put one"):
        ask("the cat")
    with pytest.raises(ModelError, match="the tokenizer has no mask token: fill-mask takes"):
        pipeline("fill-mask", writers["t5"])


def test_a_vocabulary_without_a_mask_is_refused_in_one_sentence(writers, folder, tmp_path):
    shutil.copytree(folder("BertForMaskedLM"), tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = tmp_path / "bert" / name
        path.write_text(path.read_text().replace("[MASK]", "[NONE]").replace("mask_token", "none_token"))
    with pytest.raises(ModelError, match="the tokenizer has no mask token: fill-mask takes"):
        pipeline("fill-mask", tmp_path / "bert")("the cat")


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_writing_is_what_generate_gives(name, writers):
    """A text alone, unpadded, against several at a time; and the same answers under the names of the tasks."""
    texts = ["the cat sat on the mat and looked at the dog", "dogs", "a mat"]
    found = pipeline("text2text-generation", writers[name])(texts, max_new_tokens=6, num_beams=2)
    model, variables = hub.load(writers[name])
    tokenizer = tokenizers.load(writers[name])
    for text, (answer,) in zip(texts, found, strict=True):
        settings = GenerationConfig.from_json(of_model(model.config.to_json()), max_new_tokens=6, num_beams=2)
        sequence = generate(model, variables, [tokenizer.encode(text).ids], settings=settings).sequences[0]
        assert answer == {"generated_text": tokenizer.decode(np.asarray(sequence).tolist())}
    for task, key in (("summarization", "summary_text"), ("translation", "translation_text")):
        again = pipeline(task, writers[name])(texts[1], max_new_tokens=6, num_beams=2)
        assert again == [{key: found[1][0]["generated_text"]}]
    assert writing_task(writers[name]) == "text2text-generation"
    with pytest.raises(ModelError, match="text-generation takes a model that sees what stands before"):
        pipeline("text-generation", writers[name])


def test_what_a_folder_says_of_a_task(writers, tmp_path):
    """Its prefix and its lengths; `generation_config.json` goes before `config.json`, the caller before both."""
    folder = shutil.copytree(writers["bart"], tmp_path / "bart")
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    special = {"summarization": {"prefix": "the cat: ", "max_length": 4, "min_length": 4}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_length": 9, "task_specific_params": special}))
    plain = pipeline("text2text-generation", writers["bart"])
    summary = pipeline("summarization", folder)("dogs")[0]["summary_text"]
    told = dict(max_new_tokens=3, min_new_tokens=3)
    assert summary == plain("the cat: dogs", **told)[0]["generated_text"] != plain("dogs", **told)[0]["generated_text"]
    general = pipeline("text2text-generation", folder)
    assert general("dogs") == plain("dogs", max_new_tokens=8) != plain("dogs", max_new_tokens=5)
    assert general("dogs", max_new_tokens=5) == plain("dogs", max_new_tokens=5)
    (folder / "generation_config.json").write_text('{"max_length": 6, "decoder_start_token_id": 2, "eos_token_id": 2}')
    unforced = pipeline("text2text-generation", folder)("dogs")
    assert unforced != general("dogs", max_new_tokens=5)  # nothing forces the last token any more
