"""Assembling: the model has its tokenizer's ids, or the two are refused before anything runs."""

import dataclasses
import random

import pytest

from data import DataError
from data.forms import TextForm
from data.text.source import Text
from data.text.templates import TEMPLATES
from data.text.tokenizers import train_tokenizer
from experiments.assembly.assemble import assemble
from experiments.experiment import Experiment, Phase
from models.gpt2 import GPT2Config
from models.mbart import MBartConfig
from models.t5 import T5Config
from objectives import CausalLM, Infilling
from training.parallel import Parallel

WORDS = "the mill stands by river and birds sing in summer".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("texts"), random.Random(0)
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(draw.choices(WORDS, k=20)) + ". And so on.")
    return folder


def experiment(texts, tmp_path, model, architecture, objective, **data) -> Experiment:
    return Experiment(
        name="ids",
        architecture=architecture,
        model=model,
        objective=objective,
        data=Text(source=str(texts), cache=str(tmp_path / "cache"), **data),
        batch_size=2,
        steps=2,
        phases=(Phase(1.0, TextForm(16)),),
        parallel=Parallel(devices=1),
        folder=str(tmp_path / "run"),
    )


def gpt2(texts, tmp_path, **data) -> Experiment:
    model = GPT2Config(vocab_size=300, n_positions=16, n_embd=16, n_layer=1, n_head=2)  # its ids are GPT-2's 50,256
    return experiment(texts, tmp_path, model, "GPT2LMHeadModel", CausalLM(), kind="byte_bpe", **data)


def test_a_model_has_the_ids_of_the_tokenizer_that_is_trained_for_it(texts, tmp_path):
    assembly = assemble(gpt2(texts, tmp_path))
    assert assembly.data.vocabulary.tokens[0] == "<|endoftext|>"
    for config in (assembly.student.config, assembly.experiment.model):
        assert (config.bos_token_id, config.eos_token_id) == (0, 0)
    tokens = assembly.data.training(assembly.form(0), 0).batch(range(20))["tokens"]
    assert (tokens == 0).any(), "and documents end with it"


def test_a_model_begins_to_decode_as_its_objective_has_it(texts, tmp_path):
    t5 = T5Config.small(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    run = experiment(texts, tmp_path, t5, "T5ForConditionalGeneration", Infilling(), kind="unigram", vocab_size=60)
    config = assemble(run).student.config
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 1, 1)


def test_an_mbart_reads_its_language_where_its_texts_end(texts, tmp_path):
    shape = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
    model = MBartConfig(vocab_size=300, d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, **shape)
    architecture = "MBartForConditionalGeneration"
    run = experiment(texts, tmp_path, model, architecture, Infilling(), kind="unigram", vocab_size=90, language="de")
    assembly = assemble(run)
    german = assembly.data.tokenizer.token_to_id("de_DE")
    seen = assembly.seen(assembly.data.training(assembly.form(0), 0).batch([0]))
    used = int(seen["attention_mask"][0].sum())
    assert seen["input_ids"][0][used - 1] == german == seen["decoder_input_ids"][0][0]
    with pytest.raises(DataError, match=r"set --objective.start last"):
        assemble(dataclasses.replace(run, objective=Infilling(start="pad")))


def test_a_tokenizer_and_a_config_that_disagree_are_refused(texts, tmp_path):
    path = tmp_path / "tokenizer.json"
    train_tokenizer(["the mill"] * 3, kind="byte_bpe", template=TEMPLATES["llama"], vocab_size=270, path=path)
    run = gpt2(texts, tmp_path, tokenizer=str(path))
    with pytest.raises(DataError, match=r"bos_token_id=50256 of the model is beyond its vocab_size=300"):
        assemble(run)
    model = dataclasses.replace(run.model, bos_token_id=1, eos_token_id=1)
    with pytest.raises(
        DataError, match=r"eos_token_id is 1 \('<s>'\) for the model and 2 \('</s>'\) for the tokenizer"
    ):
        assemble(dataclasses.replace(run, model=model))
    config = assemble(dataclasses.replace(run, model=dataclasses.replace(model, eos_token_id=2))).student.config
    assert (config.bos_token_id, config.eos_token_id) == (1, 2)


def test_the_settings_beside_a_tokenizer_say_what_ends_a_text(texts, tmp_path):
    path = tmp_path / "tokenizer.json"
    train_tokenizer(["the mill"] * 3, kind="byte_bpe", template=TEMPLATES["llama"], vocab_size=270, path=path)
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<unk>"}')
    run = gpt2(texts, tmp_path, tokenizer=str(path))
    assembly = assemble(dataclasses.replace(run, model=dataclasses.replace(run.model, bos_token_id=1, eos_token_id=0)))
    assert assembly.data.vocabulary.eos == 0
    assembly.data.save(tmp_path, 16)
    assert '"eos_token": "<unk>"' in (tmp_path / "special_tokens_map.json").read_text()
