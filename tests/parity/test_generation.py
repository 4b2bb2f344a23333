"""Our generation against `transformers`' `generate`, token by token: tiny GPT-2 and Llama models, padded on the left; tiny T5
(1.0 and 1.1), BART, mBART and Marian models, of which the text that they read is padded on either side.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from inference.generation import GenerationConfig, generate, warped
from inference.pipelines import pipeline
from models import hub
from tests.parity.reference import torch, transformers

VOCABULARY, PAD, NEW = 40, 39, 14
SIZES = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=PAD)


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, n_positions=40, n_embd=32, n_layer=2, n_head=4)
    )


def llama():
    config = transformers.LlamaConfig(
        **SIZES,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def models(request, tmp_path_factory):
    """The same model twice; its logits differ enough from place to place that texts end at different lengths."""
    torch.manual_seed(3)
    theirs = request.param().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(12 if "wte" in name or "embed" in name or "lm_head" in name else 6)
    folder = tmp_path_factory.mktemp(request.param.__name__)
    theirs.save_pretrained(folder)
    return theirs, *hub.load(folder)


def prompts(batch: int = 6, length: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = (np.arange(length)[None] >= rng.integers(0, length - 1, batch)[:, None]).astype(np.int32)
    mask[0] = 1
    return np.where(mask > 0, rng.integers(3, PAD, (batch, length)), PAD), mask


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


ENDS = tuple(range(2, 9))
"""So many that texts end now and then."""


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
    ],
)
def test_what_is_drawn_from(settings):
    logits = np.random.default_rng(0).normal(size=(8, VOCABULARY)).astype(np.float32) * 3
    config = transformers.GenerationConfig(do_sample=True, **{"top_k": 0, **settings})
    processors = transformers.LogitsProcessorList()
    for name, kind in [
        ("temperature", transformers.TemperatureLogitsWarper),
        ("top_k", transformers.TopKLogitsWarper),
        ("top_p", transformers.TopPLogitsWarper),
    ]:
        if name in settings:
            processors.append(kind(getattr(config, name)))
    expected = processors(None, torch.tensor(logits)).numpy()
    found = warped(jnp.asarray(logits), GenerationConfig(do_sample=True, **settings))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_cache_is_that_of_the_steps(models):
    """Each chosen token is the likeliest after the whole text before it, read anew without a cache."""
    _, model, variables = models
    ids, mask = prompts()
    sequences = generate(model, variables, ids, mask, GenerationConfig(max_new_tokens=NEW, eos_token_id=())).sequences
    mask = np.concatenate([mask, np.ones((len(mask), NEW), np.int32)], axis=1)
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    logits = jax.jit(model.apply)(variables, sequences, jnp.asarray(mask), jnp.asarray(positions)).logits
    np.testing.assert_array_equal(logits.argmax(-1)[:, -NEW - 1 : -1], sequences[:, -NEW:])


# ── Encoders with decoders ───────────────────────────────────────────────────────────────────────────────────────────


def t5(**version):
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        pad_token_id=PAD,
        eos_token_id=2,
        decoder_start_token_id=PAD,
        **version,
    )
    theirs = transformers.T5ForConditionalGeneration(config)
    if version:  # as 5 builds it the scores would be tied all the same
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 32) * 0.05)
    return theirs


def bart_like(kind: str, architecture: str, start: int, **changes):
    return getattr(transformers, architecture)(
        getattr(transformers, f"{kind}Config")(
            **SIZES,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=40,
            max_position_embeddings=24,
            decoder_start_token_id=start,
            **{"forced_eos_token_id": 2, **changes},
        )
    )


WRITERS = {
    "t5": t5,
    "t5 1.1": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": lambda: bart_like("Bart", "BartForConditionalGeneration", 2),
    "mbart": lambda: bart_like("MBart", "MBartForConditionalGeneration", 2, forced_bos_token_id=9),
    "marian": lambda: bart_like("Marian", "MarianMTModel", PAD, activation_function="swish", scale_embedding=True),
}


@pytest.fixture(scope="module", params=WRITERS)
def writer(request, tmp_path_factory):
    """The same model twice. Everything is perturbed, and the decoder more: its texts differ, and end at different lengths."""
    torch.manual_seed(9 if request.param == "marian" else 3)  # one whose texts are no near-ties
    theirs = WRITERS[request.param]().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embed_positions" not in name or request.param != "marian":  # those are sinusoids
                scale = 1.0 if "decoder" in name else 0.2
                parameter.add_(torch.randn(parameter.shape) * scale)
        if request.param == "t5":
            theirs.shared.weight.mul_(1.2)
    folder = tmp_path_factory.mktemp("writer")
    theirs.save_pretrained(folder)
    return theirs, *hub.load(folder)


def texts(padding: str) -> tuple[np.ndarray, np.ndarray]:
    ids, mask = prompts()
    return (ids, mask) if padding == "left" else (ids[:, ::-1].copy(), mask[:, ::-1].copy())


def compare_writing(writer, padding: str = "right", **settings) -> np.ndarray:
    """The new tokens, after they were found to be theirs."""
    theirs, model, variables = writer
    ids, mask = texts(padding)
    lengths = {} if "max_length" in settings else {"max_new_tokens": NEW}
    expected = theirs.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        return_dict_in_generate=True,
        output_scores=True,
        **{"do_sample": False, **lengths, **settings},
    )
    published = {**model.config.to_json(), **theirs.generation_config.to_dict(), **lengths, **settings}
    ours = generate(model, variables, ids, mask, GenerationConfig.from_json(published, begun=1))
    sequences = expected.sequences.numpy()
    length = sequences.shape[1]
    np.testing.assert_array_equal(ours.sequences[:, :length], sequences)
    assert (np.asarray(ours.sequences[:, length:]) == PAD).all()
    if settings.get("num_beams", 1) > 1:
        np.testing.assert_allclose(ours.scores, expected.sequences_scores.numpy(), rtol=5e-5, atol=1e-4)
    return sequences[:, 1:]


@pytest.mark.parametrize(("padding", "least"), [("right", 0), ("left", 5)])
def test_greedy_writing(writer, padding, least):
    found = compare_writing(writer, padding, eos_token_id=list(ENDS), min_new_tokens=least)
    assert len({tuple(text) for text in found.tolist()}) > 2
    assert not np.isin(found[:, :least], ENDS).any()


@pytest.mark.parametrize(
    ("padding", "early_stopping", "length_penalty"),
    [("right", True, 1.0), ("left", False, 1.0), ("right", "never", 2.5), ("left", True, -0.7)],
)
def test_writing_with_beams(writer, padding, early_stopping, length_penalty):
    compare_writing(
        writer,
        padding,
        num_beams=3,
        num_return_sequences=2,
        early_stopping=early_stopping,
        length_penalty=length_penalty,
        eos_token_id=list(ENDS[:3]),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 3, "min_length": 9, "max_length": 12, "length_penalty": 2.0, "num_beams": 4},
        {"bad_words_ids": [[PAD], [7], [8], [2]]},
        {"bad_words_ids": [[PAD]], "renormalize_logits": True, "no_repeat_ngram_size": 2, "num_beams": 2},
        {"forced_bos_token_id": 11, "num_beams": 3},
        {"forced_bos_token_id": 11, "forced_eos_token_id": [4], "max_new_tokens": 5},
        {"decoder_start_token_id": 5, "max_new_tokens": 1, "num_beams": 2},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_what_may_not_be_written_and_what_must(writer, settings):
    found = compare_writing(writer, **settings)
    if "forced_bos_token_id" in settings:
        assert (found[:, 0] == settings["forced_bos_token_id"]).all()


def test_settings_of_the_models_config(writer):
    """What a folder without `generation_config.json` says: its forced tokens, and what its texts begin with."""
    theirs, model, variables = writer
    ids, mask = texts("right")
    expected = theirs.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), do_sample=False).numpy()
    found = np.asarray(generate(model, variables, ids, mask).sequences)
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)


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
