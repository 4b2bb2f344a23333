"""A translator is asked for the languages that a task or a flag names, as it was trained: mBART, Marian and T5."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from inference import writing
from inference.generation import GenerationConfig, generate
from inference.generation.config import of_model
from inference.languages import Languages
from inference.pipeline import pipeline
from models import gpt2, hub, marian, mbart, t5
from models.config import ModelError

WORDS = ("le", "moulin", "est", "de", "la", "rivière", "die", "mühle", "steht", "am", "fluss")
CODES = ("de_DE", "en_XX", "fr_XX", "de_CH")


def written(path, single: str, *special: str) -> Tokenizer:
    """A tokenizer of words with this frame, in the folder `path`."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS)]
    tokenizer = Tokenizer(models.Unigram([(token, -1.0) for token in tokens], unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", *special])
    frame = [(name, tokenizer.token_to_id(name)) for name in single.split() if not name.startswith("$")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=single.replace("$A", "$A $B"), special_tokens=frame
    )
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    return tokenizer


def folder_of(path, kind: str, single: str, *special: str, about=None, published=None, **changes):
    """The folder of a small translator, its model and its tokenizer."""
    tokenizer = written(path / "tokenizer", single, *special)
    shape = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
    shape |= dict(d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=24, init_std=2.0)
    ids = dict(bos_token_id=0, pad_token_id=1, eos_token_id=2, vocab_size=tokenizer.get_vocab_size())
    if kind == "mbart":
        model = mbart.MBartForConditionalGeneration(mbart.MBartConfig(**shape, **ids, **changes))
    elif kind == "marian":
        model = marian.MarianMTModel(marian.MarianConfig(**shape, **ids, decoder_start_token_id=1, **changes))
    else:
        t5_ids = {name: value for name, value in ids.items() if name != "bos_token_id"}
        shape = dict(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, initializer_factor=4.0)
        model = t5.T5ForConditionalGeneration(t5.T5Config(**shape, **t5_ids, decoder_start_token_id=1, **changes))
    variables = nn.unbox(model.init(jax.random.key(1), jnp.zeros((1, 2), jnp.int32)))
    hub.save(path / "model", model, variables, tokenizer=path / "tokenizer/tokenizer.json")
    for name, changed in (("config.json", published), ("tokenizer_config.json", about)):
        file = path / "model" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **(changed or {})}))
    return path / "model", model, variables, tokenizer


def expected(model, variables, tokenizer, source: list[str], **settings) -> str:
    """What is written from exactly these tokens."""
    ids = np.array([[tokenizer.token_to_id(token) for token in source]])
    settings = GenerationConfig.from_json(of_model(model.config.to_json()), max_new_tokens=6, **settings)
    return tokenizer.decode(np.asarray(generate(model, variables, ids, settings=settings).sequences)[0].tolist())


@pytest.fixture
def read(monkeypatch):
    """The tokens of the last text that a pipeline had its model read."""
    inputs = []

    def spied(*parts, **named):
        inputs.append(named["input_ids"][0][named["attention_mask"][0] > 0].tolist())
        return generate(*parts, **named)

    monkeypatch.setattr(writing, "generate", spied)
    return lambda tokenizer: [tokenizer.id_to_token(token) for token in inputs[-1]]


TEXT, PIECES = "le moulin est", ["▁le", "▁moulin", "▁est"]


@pytest.mark.parametrize(
    ("single", "source", "starts"),
    [
        ("en_XX $A </s>", ["fr_XX", *PIECES, "</s>"], "forced_bos_token_id"),  # mBART-50
        ("$A </s> en_XX", [*PIECES, "</s>", "fr_XX"], "decoder_start_token_id"),  # mBART-25
    ],
)
def test_mbart_reads_and_writes_the_languages_of_the_task(single, source, starts, tmp_path, read):
    place, *parts = folder_of(tmp_path, "mbart", single, *CODES, decoder_start_token_id=2)
    german, swiss = (parts[-1].token_to_id(code) for code in ("de_DE", "de_CH"))
    right = expected(*parts, source, **{starts: german})
    english = ["en_XX" if token == "fr_XX" else token for token in source]
    ask = pipeline("translation_fr_XX_to_de_DE", place)
    assert ask(TEXT, max_new_tokens=6) == [{"translation_text": right}]
    assert read(parts[-1]) == source
    general = pipeline("translation", place)
    assert (
        general(TEXT, max_new_tokens=6, source_language="fr_XX", target_language="de_DE")[0]["translation_text"]
        == right
    )
    target = general(TEXT, max_new_tokens=6, target_language="de_DE")[0]["translation_text"]
    assert target == expected(*parts, english, **{starts: german}) and read(parts[-1]) == english
    assert (
        general(TEXT, max_new_tokens=6)[0]["translation_text"] == expected(*parts, english)
        and read(parts[-1]) == english
    )
    other = ask(TEXT, max_new_tokens=6, **{starts: swiss})[0]["translation_text"]
    assert other == expected(*parts, source, **{starts: swiss}) != right
    with pytest.raises(ModelError, match=r"the tokenizer knows no language 'fr': did you mean 'fr_XX'\? known: de_DE"):
        pipeline("translation_fr_to_de_DE", place)
    with pytest.raises(ModelError, match=r"the tokenizer knows no language 'de_AT': did you mean 'de_"):
        general(TEXT, target_language="de_AT")


def test_marian_reads_the_target_before_the_text(tmp_path, read):
    about = {"source_lang": "fr", "target_lang": "mul"}
    place, *parts = folder_of(tmp_path, "marian", "$A </s>", ">>deu<<", ">>nld<<", about=about)
    right = expected(*parts, [">>deu<<", *PIECES, "</s>"])
    for settings in ({"target_language": "deu"}, {"source_language": "fr", "target_language": "deu"}):
        assert pipeline("translation", place)(TEXT, max_new_tokens=6, **settings) == [{"translation_text": right}]
        assert read(parts[-1]) == [">>deu<<", *PIECES, "</s>"]
    assert pipeline("translation_fr_to_deu", place)(TEXT, max_new_tokens=6) == [{"translation_text": right}]
    with pytest.raises(ModelError, match="the model's source language is 'fr', and 'en' was asked for"):
        pipeline("translation_en_to_deu", place)
    with pytest.raises(ModelError, match=r"the tokenizer knows no language 'de': did you mean 'deu'\?"):
        pipeline("translation_fr_to_de", place)


def test_t5_is_asked_in_the_words_of_its_config(tmp_path):
    words = {
        "translation_fr_to_de": {"prefix": "la la : ", "max_length": 4},
        "translation_fr_to_en": {"prefix": "translate French to English : ", "max_length": 5},
    }
    place, *parts = folder_of(tmp_path, "t5", "$A </s>", published={"task_specific_params": words})
    source = ["▁la", "▁la", "<unk>", *PIECES, "</s>"], [*["<unk>"] * 4, *PIECES, "</s>"]
    assert [parts[-1].token_to_id(one) for one in source[0]] == parts[-1].encode(f"la la : {TEXT}").ids
    german = pipeline("translation_fr_to_de", place)
    assert german(TEXT, max_new_tokens=6)[0]["translation_text"] == expected(*parts, source[0])
    general = pipeline("text2text-generation", place)
    by_flags = general(TEXT, source_language="fr", target_language="de")[0]["generated_text"]
    assert by_flags == german(TEXT)[0]["translation_text"] == german(TEXT, max_new_tokens=3)[0]["translation_text"]
    in_words = general(TEXT, source_language="French", target_language="English", max_new_tokens=6)
    assert in_words[0]["generated_text"] == expected(*parts, source[1])
    with pytest.raises(ModelError, match="the model was not trained for fr to nl: did you mean 'fr to"):
        pipeline("translation_fr_to_nl", place)
    with pytest.raises(ModelError, match="asked for pairs of languages: give both; known: fr to de, fr to en"):
        general(TEXT, target_language="de")


def test_a_model_without_languages_says_so(tmp_path):
    place, *_ = folder_of(tmp_path, "marian", "$A </s>")
    with pytest.raises(
        ModelError, match="the folder does not say which languages its model translates, so 'en' cannot be"
    ):
        pipeline("translation_en_to_de", place)
    assert Languages(pair=("en", "de")).direction("en", "de") == Languages().direction(None, None)
    with pytest.raises(ModelError, match="the model's target language is 'de', and 'fr' was asked for"):
        Languages(pair=("en", "de")).direction("en", "fr")
    model = gpt2.GPT2LMHeadModel(
        gpt2.GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=2)
    )
    variables = nn.unbox(model.init(jax.random.key(1), jnp.zeros((1, 2), jnp.int32)))
    hub.save(tmp_path / "gpt2", model, variables, tokenizer=tmp_path / "tokenizer/tokenizer.json")
    with pytest.raises(ModelError, match="target_language is for models that read one text and write another"):
        pipeline("text-generation", tmp_path / "gpt2")("le", target_language="de")
