"""Our generation against `transformers`' `generate`, token by token: tiny GPT-2 and Llama models, padded on the left; tiny T5
(1.0 and 1.1), BART, mBART and Marian models, of which the text that they read is padded on either side.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from inference.generation import GenerationConfig, generate
from inference.generation.config import HARMLESS, UNHEEDED
from inference.generation.rules import warped
from inference.pipeline import pipeline
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
    ours = generate(model, variables, ids, mask, GenerationConfig.from_json(published))
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


RULES = {
    "repetition": {"repetition_penalty": 1.7},
    "repetition wanted": {"repetition_penalty": 0.6},
    "source": {"encoder_repetition_penalty": 3.0},
    "source's pairs": {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 3.0},
    "source's tokens": {"encoder_no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": [*range(3, 20), 77], "begin_suppress_tokens": [21, 22, 23, 24, 25]},
    "suppressed at first": {"begin_suppress_tokens": [2, *range(3, 30)]},
    "bias": {"sequence_bias": [[[7], 4.0], [[9], -9.0], [[21, 22], 12.0], [[5, 6, 7], 20.0]], "num_beams": 2},
    "words": {"bad_words_ids": [[PAD], [7], [2], [9, 9], [30, 30], [11, 12, 13]], "num_beams": 2},
    "decay": {"exponential_decay_length_penalty": [3, 1.4], "eos_token_id": [2, 5, 8]},
    "lengths": {"max_length": 12, "min_length": 11, "eos_token_id": list(ENDS)},
    "long decay": {"exponential_decay_length_penalty": (0, 1e30), "min_new_tokens": 4},
    "all": {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "sequence_bias": [[[9], 2.0], [[9, 9], -3.0]],
        "exponential_decay_length_penalty": [4, 1.2],
        "suppress_tokens": [13, 14],
        "begin_suppress_tokens": [15, 9],
        "min_new_tokens": 3,
        "num_beams": 3,
        "eos_token_id": [2, 5],
    },
}


def compare_rules(pair, settings, read: int | None, matters: bool = True) -> None:
    """Each text alone, as `generate` takes it, and all together here: padding counts for nothing, and rules matter.

    Args:
        read: places of `generate`'s answer that are no new tokens; those of the prompt where `None`.
        matters: whether some text must come out otherwise than without the rules.
    """
    theirs, model, variables = pair
    ids, mask = texts("left" if read is None else "right")  # learned positions of an encoder count padding on the left
    lengths = {} if "max_length" in settings else {"max_new_tokens": NEW}
    published = {**theirs.generation_config.to_dict(), **lengths, **settings}
    ours = np.asarray(generate(model, variables, ids, mask, GenerationConfig.from_json(published)).sequences)
    without = {name: settings[name] for name in ("num_beams", "eos_token_id") if name in settings}
    new, plain = [], []
    for row in range(len(ids)):
        prompt = torch.tensor(ids[row][mask[row] > 0][None])
        begun = len(prompt[0]) if read is None else read
        new.append(theirs.generate(prompt, do_sample=False, **lengths, **settings)[0, begun:].tolist())
        plain.append(theirs.generate(prompt, do_sample=False, max_new_tokens=NEW, **without)[0, begun:].tolist())
        our = ours[row, ids.shape[1] if read is None else read :].tolist()
        assert our[: len(new[-1])] == new[-1] and set(our[len(new[-1]) :]) <= {PAD}
    assert new != plain or not matters


@pytest.mark.parametrize("models", [gpt2], indirect=True, ids=["gpt2"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_prompts(models, rule):
    compare_rules(models, RULES[rule], None)


@pytest.mark.parametrize("writer", ["bart"], indirect=True)
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_texts_that_are_read(writer, rule):
    compare_rules(writer, RULES[rule], 1, matters=rule != "source's tokens")  # this one writes none of them


@pytest.mark.parametrize("writer", ["t5", "mbart"], indirect=True)
def test_all_rules_at_once(writer):
    compare_rules(writer, RULES["all"], 1)


def test_every_published_setting_is_implemented_harmless_or_named(caplog):
    """No field of the live class is left to chance; what is said of each is one of the three."""
    live = transformers.GenerationConfig()
    fields = {name for name in vars(live) if not name.startswith("_")} - {"bos_token_id"}
    fields |= set(live._get_default_generation_params())
    implemented = {field.name for field in dataclasses.fields(GenerationConfig)}
    for name in fields:
        assert (name in implemented) + (name in HARMLESS) + (name in UNHEEDED) == 1, name
    assert implemented <= fields, implemented - fields
    for name in fields & set(UNHEEDED):
        caplog.clear()
        GenerationConfig.from_json({name: 7})
        (record,) = caplog.records
        assert record.levelname == "WARNING" and f"{name}=7" in record.getMessage()
    caplog.clear()
    GenerationConfig.from_json({name: 1 for name in HARMLESS})
    GenerationConfig.from_json(live._get_default_generation_params())
    assert not caplog.records


def test_defaults_are_those_of_generate():
    live = transformers.GenerationConfig()._get_default_generation_params()
    ours = GenerationConfig(do_sample=True)
    for field in dataclasses.fields(GenerationConfig):
        if field.name in live and field.name not in ("max_length", "do_sample"):
            assert (getattr(ours, field.name) or None) == (live[field.name] or None), field.name
    assert GenerationConfig().do_sample == live["do_sample"] and ours.new_tokens(3, None) == live["max_length"]


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
