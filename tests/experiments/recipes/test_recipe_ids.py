"""Special tokens of every recipe's config: those of the tokenizer that is trained with it, and the published ones."""

import dataclasses
import functools
from pydoc_data.topics import topics

import pytest

from data.contract import Source
from data.text.source import Text
from data.text.token_ids import check_token_ids, with_token_ids
from data.text.tokenizers import train_tokenizer, vocabulary
from experiments.assembly.checks import decoder_start
from experiments.experiment import Experiment, load
from experiments.glue import TASKS
from tests.experiments.recipes.test_recipes import RECIPES, variants

TEXTS = [text for _, text in sorted(topics.items())][:20]

GPT2 = {"bos_token_id": 50_256, "eos_token_id": 50_256, "pad_token_id": None}
LLAMA_2 = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
BERT = {"pad_token_id": 0}
BART = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
T5 = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
PUBLISHED = {
    "bert:base": BERT,
    "bert:large": BERT,
    "bert:whole_word": BERT,
    "bert:mails": BERT,
    "bert:genres": BERT,
    "bert:labelled": BERT,
    **dict.fromkeys(
        ("bert:brown", "bert:words", "bert:conll2003", "bert:pages", "bert:questions", "bert:squad", "bert:squad2"),
        BERT,
    ),
    **dict.fromkeys(("bert:choices", "bert:swag", "distilbert:squad", "distilbert:conll2003"), BERT),
    **dict.fromkeys(("bart:squad", "bart:squad2"), BART),
    **{f"{family}:{task}": BERT for family in ("bert", "distilbert") for task in TASKS},
    **{f"bart:{task}": BART for task in TASKS if task != "wnli"},
    "distilbert:published": BERT,
    "electra:small": BERT,
    "electra:base": BERT,
    "electra:large": BERT,
    "gpt2:small": GPT2,
    "gpt2:medium": GPT2,
    "gpt2:large": GPT2,
    "gpt2:xl": GPT2,
    "gpt2:sst2": GPT2,
    "gpt2:cola": GPT2,
    "distilgpt2:published": GPT2,
    "llama:llama_7b": LLAMA_2,
    "llama:llama2_7b": LLAMA_2,
    "llama:llama3_8b": {"bos_token_id": 128_000, "eos_token_id": 128_001, "pad_token_id": None},
    "llama:tinyllama": LLAMA_2,
    "bart:large": BART,
    "bart:base": BART,
    "bart:cnn": BART,
    "bart:ro_en": BART,
    "bart:xsum": BART,
    # The decoder of cc25 begins with the language that its text ends with.
    "mbart:english": {**BART, "decoder_start_token_id": None},
    **{f"mbart:{variant}": {**BART, "decoder_start_token_id": None} for variant in ("ro_en", "en_ro")},
    **dict.fromkeys(("t5:cnn", "t5:german", "t5:romanian"), T5),
    "t5:baseline": T5,
    "t5:small": T5,
    "t5:large": T5,
    "t5:t5_3b": T5,
    "t5:v1_1_base": T5,
    "t5:v1_1_xl": T5,
    "t5:ul2_base": T5,
    # Published without a tokenizer: BART's ids.
    "transformer:base": BART,
    "transformer:big": BART,
}
"""Ids of the published tokenizers, from the `tokenizer.json` and `config.json` of openai-community/gpt2, huggyllama/llama-7b,
meta-llama/Llama-2-7b-hf and Llama-3.1-8B, TinyLlama, google-bert/bert-base-uncased, google/electra-*, facebook/bart-*,
facebook/mbart-large-cc25, google-t5/t5-*, google/t5-v1_1-* on the Hugging Face hub."""


def named(reference: str) -> str:
    """`bert:base` of `experiments/bert/pretrain.py:base`."""
    path, variant = reference.split(":")
    return f"{path.split('/')[1]}:{variant}"


def text_recipes() -> dict[str, Experiment]:
    made = {named(reference): load(reference) for path in RECIPES for reference in variants(path)}
    return {name: one for name, one in made.items() if one.form(0).items == "tokens"}


ALL = text_recipes()


def token_ids(config) -> dict:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name.endswith("_token_id")}


@functools.cache
def trained(kind: str, template, sentinels: int, folder):
    return train_tokenizer(TEXTS, kind=kind, template=template, sentinels=sentinels, vocab_size=900, path=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


def words(recipe: Experiment, folder):
    """The vocabulary of a tokenizer trained for a recipe, but for the text."""
    source: Text | Source = recipe.data.suited_to(recipe.model.model_type)
    needs = recipe.objective.needs
    template = source.template_needing(needs)
    sentinels = 100 if "sentinels" in needs else 0
    file = folder / f"{source.kind}-{template.digest}-{sentinels}.json"
    return vocabulary(trained(source.kind, template, sentinels, file))


def start_of(recipe: Experiment, written) -> int | None:
    """What a decoder reads first; of a classifier what ends the text that encoder and decoder read."""
    if "classes" in recipe.objective.needs:
        return None if recipe.model.decoder_start_token_id is None else written.eos
    return decoder_start(recipe.objective.bind(written))


def test_every_text_recipe_is_a_small_one_or_stands_in_the_table():
    small = {name for name, recipe in ALL.items() if recipe.model.vocab_size <= 4_096}
    assert small | set(PUBLISHED) == set(ALL) and not small & set(PUBLISHED) and len(small) > 10


@pytest.mark.parametrize("name", sorted(set(ALL) - set(PUBLISHED)))
def test_a_small_recipe_names_the_ids_of_the_tokenizer_that_it_trains(name, folder):
    recipe = ALL[name]
    written = words(recipe, folder)
    start = start_of(recipe, written)
    check_token_ids(recipe.model, written, start)
    assert with_token_ids(recipe.model, written, start) == recipe.model
    ends = written.eos if "eos_token_id" in token_ids(recipe.model) else None
    assert token_ids(recipe.model).get("eos_token_id") == ends
    if ends is not None and recipe.model.model_type != "mbart":
        assert written.framing.document_end(written.eos)[-1] == ends, "a document ends with what ends a generated text"


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_recipe_names_the_ids_of_the_published_tokenizer(name):
    config = ALL[name].model
    assert token_ids(config) == PUBLISHED[name]
    assert all(index is None or index < config.vocab_size for index in token_ids(config).values())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_recipe_takes_the_ids_of_a_tokenizer_that_is_trained_for_it(name, folder):
    recipe = ALL[name]
    written = words(recipe, folder)
    start = start_of(recipe, written)
    config = with_token_ids(recipe.model, written, start)
    check_token_ids(config, written, start)
    for field, index in token_ids(config).items():
        role = {"forced_eos_token_id": "eos"}.get(field, field.removesuffix("_token_id"))
        expected = start if role == "decoder_start" else getattr(written, role)
        assert index == expected or (role == "decoder_start" and None in (index, start))
