"""Our generation against `transformers`' `generate`, token by token: tiny GPT-2 and Llama models, padded on the left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from inference.generation import GenerationConfig, generate
from inference.generation.rules import warped
from inference.pipeline import pipeline
from tests.parity.inference.generation.small_models import ENDS, NEW, PAD, VOCABULARY, prompts
from tests.parity.reference import torch, transformers


def compare(models, **settings) -> np.ndarray:
    """The new tokens, after they were found to be theirs."""
    theirs, model, variables = models
    ids, mask = prompts()
    expected = theirs.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        max_new_tokens=NEW,
        return_dict_in_generate=True,
        output_scores=True,
        **{"do_sample": False, **settings},
    )
    ours = generate(model, variables, ids, mask, GenerationConfig.from_json(settings, max_new_tokens=NEW))
    sequences = expected.sequences.numpy()
    length = sequences.shape[1]
    np.testing.assert_array_equal(ours.sequences[:, :length], sequences)
    assert (np.asarray(ours.sequences[:, length:]) == PAD).all()
    if settings.get("num_beams", 1) > 1:
        np.testing.assert_allclose(ours.scores, expected.sequences_scores.numpy(), atol=1e-4)
    return sequences[:, ids.shape[1] :]


@pytest.mark.parametrize("ends", [2, list(ENDS)])
@pytest.mark.parametrize("least", [0, 9])
def test_greedy(models, ends, least):
    found = compare(models, eos_token_id=ends, **({"min_new_tokens": least} if least else {}))
    lengths = (found != PAD).sum(axis=1)
    if isinstance(ends, list):
        assert len(set(lengths)) > 1 and lengths.min() >= max(1, least)


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty"),
    [(True, 1.0), (False, 1.0), ("never", 1.0), (True, -0.7), (False, 2.5), ("never", 2.5), (False, 0.0)],
)
def test_beams(models, early_stopping, length_penalty):
    compare(
        models,
        num_beams=3,
        num_return_sequences=2,
        early_stopping=early_stopping,
        length_penalty=length_penalty,
        eos_token_id=list(ENDS[:3]),
    )


@pytest.mark.parametrize("settings", [{"num_beams": 2}, {"num_beams": 5, "min_new_tokens": 4, "eos_token_id": 5}])
def test_other_beams(models, settings):
    compare(models, **settings)


def test_settings_of_beams_matter(models):
    """Else the comparisons above would compare little."""
    settings = dict(num_beams=3, eos_token_id=list(ENDS[:3]))
    found = [
        compare(models, early_stopping=early, length_penalty=penalty, **settings)
        for early, penalty in [(True, -0.7), (False, 2.5), ("never", 2.5)]
    ]
    shapes = {tuple(map(tuple, np.pad(x, ((0, 0), (0, NEW - x.shape[1])), constant_values=PAD))) for x in found}
    assert len(shapes) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 1},
        {"top_k": 100},
        {"top_p": 0.6},
        {"top_p": 0.01},
        {"temperature": 2.0, "top_k": 12, "top_p": 0.8},
        {"top_h": 0.4},
        {"top_h": 0.9, "temperature": 3.0},
        {"min_p": 0.2},
        {"typical_p": 0.5},
        {"typical_p": 0.02, "top_k": 9},
        {"epsilon_cutoff": 0.03},
        {"eta_cutoff": 0.2, "temperature": 4.0},
        {"temperature": 2.0, "top_k": 20, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8, "epsilon_cutoff": 0.02},
        {},
    ],
    ids=str,
)
def test_what_is_drawn_from(models, settings):
    """By the processors that `generate` makes of the same settings, its defaults included."""
    logits = np.random.default_rng(0).normal(size=(8, 2 * VOCABULARY)).astype(np.float32) * 3
    config = models[0]._prepare_generation_config(None, do_sample=True, **settings)[0]
    config._eos_token_tensor = torch.tensor([2])
    processors = models[0]._get_logits_processor(config, input_ids_seq_length=1)
    expected = processors(torch.zeros((8, 1), dtype=torch.long), torch.tensor(logits)).numpy()
    ours = warped(jnp.asarray(logits), GenerationConfig.from_json({}, do_sample=True, **settings))
    assert np.isinf(expected).sum() > 0 or not settings.keys() - {"temperature"} or settings.get("top_k") == 100
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_cache_is_that_of_the_steps(models):
    """Each chosen token is the likeliest after the whole text before it, read anew without a cache."""
    _, model, variables = models
    ids, mask = prompts()
    sequences = generate(model, variables, ids, mask, GenerationConfig(max_new_tokens=NEW, eos_token_id=())).sequences
    mask = np.concatenate([mask, np.ones((len(mask), NEW), np.int32)], axis=1)
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    logits = jax.jit(model.apply)(variables, sequences, jnp.asarray(mask), jnp.asarray(positions)).logits
    np.testing.assert_array_equal(logits.argmax(-1)[:, -NEW - 1 : -1], sequences[:, -NEW:])


def test_repetitions_are_kept_from_prompts_too(models):
    found = compare(models, no_repeat_ngram_size=2, num_beams=2)
    assert not np.array_equal(found, compare(models, num_beams=2))


@pytest.fixture
def folder(models, tmp_path):
    """The model with a tokenizer of bytes and a few pairs of them."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, and the dog looked at it"] * 3, trainer)
    models[0].save_pretrained(tmp_path)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )
    fast.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"return_full_text": False}])
def test_the_pipeline_gives_the_same_texts(folder, settings):
    texts = ["the cat", "a dog sat on the mat, and"]
    theirs = transformers.pipeline("text-generation", model=str(folder))
    expected = theirs(texts, do_sample=False, max_new_tokens=NEW, **settings)
    assert pipeline("text-generation", folder)(texts, max_new_tokens=NEW, **settings) == expected
    assert pipeline("text-generation", folder)(texts[0], max_new_tokens=NEW, **settings) == expected[0]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 4, "num_return_sequences": 3}], ids=str)
def test_strings_end_the_same_texts(folder, settings):
    """Those of two letters that the plain answers have in their middle, wherever the borders of tokens are."""
    texts = ["the cat", "a dog sat on the mat, and", "mat", "looked at it"]
    ask, theirs = pipeline("text-generation", folder), transformers.pipeline("text-generation", model=str(folder))
    plain = ask(texts, max_new_tokens=NEW, return_full_text=False)
    strings = [answer["generated_text"][5:7] for (answer,) in plain if len(answer["generated_text"]) > 7]
    assert strings
    settings = settings | dict(pad_token_id=0)  # the tokenizer's, else padding would be spelled out
    expected = theirs(texts, do_sample=False, max_new_tokens=NEW, stop_sequence=strings, **settings)
    found = ask(texts, max_new_tokens=NEW, stop_strings=strings, **settings)
    assert found == expected and found != ask(texts, max_new_tokens=NEW, **settings)
