"""A hundred prompts of unequal length for each family, token for token as `transformers`' `generate` writes them: it takes those
of one length at a time, so that padding counts for nothing there, and here all are padded to one length."""

import jax
import numpy as np
import pytest

from inference.generation import GenerationConfig, generate
from models import hub
from models.encoder_decoder.stacks import sinusoids
from models.transformer import TransformerConfig, TransformerForConditionalGeneration
from tests.parity.inference.generation.small_models import PAD, WRITERS, gpt2, llama
from tests.parity.reference import torch, transformers

COUNT, LONGEST, NEW = 100, 16, 14
SEARCHES = {
    "greedy": dict(repetition_penalty=1.2, eos_token_id=[2, 5, 8]),
    "4 beams": dict(
        num_beams=4, num_return_sequences=2, no_repeat_ngram_size=3, length_penalty=0.6, eos_token_id=[2, 5]
    ),
    "5 beams": dict(num_beams=5, repetition_penalty=1.3, length_penalty=2.0, early_stopping=True, min_new_tokens=3),
}
FAMILIES = {"gpt2": gpt2, "llama": llama, **{name: WRITERS[name] for name in ("bart", "mbart", "t5", "marian")}}


@pytest.fixture(scope="module", params=[*FAMILIES, "transformer"])
def pair(request, tmp_path_factory):
    """The same model twice, perturbed so much that no two tokens are nearly as likely; where positions are sines, which have a
    size of their own, by less, so that these count and texts whose tokens stand in another order are not as likely."""
    sines = request.param in ("marian", "transformer")
    torch.manual_seed(3)
    theirs = FAMILIES.get(request.param, FAMILIES["marian"])().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if request.param in ("gpt2", "llama"):
                if parameter.ndim > 1:
                    parameter.mul_(12 if "wte" in name or "embed" in name or "lm_head" in name else 6)
            elif "embed_positions" not in name or not sines:
                decoder = 0.4 if sines else 1.0
                parameter.add_(torch.randn(parameter.shape) * (decoder if "decoder" in name else 0.2))
        if request.param == "t5":
            theirs.shared.weight.mul_(1.2)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder)
    if request.param == "transformer":
        model, variables = as_transformer(theirs, model, variables)
    return theirs, model, variables


def as_transformer(theirs, model, variables):
    """Marian with the sines and cosines of 2017 in turn, and the same weights here in the class of 2017."""
    for stack in (theirs.model.encoder, theirs.model.decoder):
        table = sinusoids(*stack.embed_positions.weight.shape, interleaved=True)
        stack.embed_positions.weight = torch.nn.Parameter(torch.tensor(table), requires_grad=False)
    fields = {
        name: value for name, value in vars(model.config).items() if name in TransformerConfig.__dataclass_fields__
    }
    parameters = {name: value for name, value in variables["params"].items() if name != "final_logits_bias"}
    return TransformerForConditionalGeneration(TransformerConfig(**fields)), {"params": parameters}


def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(3, PAD, length) for length in rng.integers(1, LONGEST + 1, COUNT)]


def expected_of(theirs, rows: list[np.ndarray], settings: dict) -> tuple[list[list[list[int]]], np.ndarray]:
    """New tokens of each text of each prompt, without the padding behind them, and the scores of beams."""
    answers, scores = {}, {}
    ways = settings.get("num_return_sequences", 1)
    for length in {len(row) for row in rows}:
        places = [place for place, row in enumerate(rows) if len(row) == length]
        ids = torch.tensor(np.stack([rows[place] for place in places]))
        noted = dict(return_dict_in_generate=True, output_scores=True)
        answer = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW, **noted, **settings
        )
        found = answer.sequences.tolist()
        begun = 1 if theirs.config.is_encoder_decoder else length
        for number, place in enumerate(places):
            part = slice(number * ways, (number + 1) * ways)
            answers[place] = [unpadded(text[begun:]) for text in found[part]]
            scores[place] = answer.sequences_scores[part].numpy() if "num_beams" in settings else np.zeros(ways)
    return [answers[place] for place in range(len(rows))], np.stack([scores[place] for place in range(len(rows))])


def unpadded(tokens: list[int]) -> list[int]:
    while tokens and tokens[-1] == PAD:
        tokens = tokens[:-1]
    return tokens


@pytest.mark.parametrize("search", SEARCHES)
def test_a_hundred_prompts(pair, search):
    theirs, model, variables = pair
    rows, settings, reads = prompts(), SEARCHES[search], theirs.config.is_encoder_decoder
    expected, scores = expected_of(theirs, rows, settings | dict(bad_words_ids=[[PAD]]))
    ids, mask = np.full((COUNT, LONGEST), PAD), np.zeros((COUNT, LONGEST), np.int32)
    for number, row in enumerate(rows):
        place = slice(len(row)) if reads else slice(LONGEST - len(row), None)
        ids[number, place], mask[number, place] = row, 1
    published = {**theirs.generation_config.to_dict(), **settings, "bad_words_ids": [[PAD]], "max_new_tokens": NEW}
    ours = generate(model, variables, ids, mask, GenerationConfig.from_json(published))
    ways = settings.get("num_return_sequences", 1)
    sequences = np.asarray(ours.sequences)[:, 1 if reads else LONGEST :].reshape(COUNT, ways, -1)
    lengths = np.asarray(ours.lengths).reshape(COUNT, ways)
    found = [
        [text[:length].tolist() for text, length in zip(*way, strict=True)]
        for way in zip(sequences, lengths, strict=True)
    ]
    np.testing.assert_allclose(np.asarray(ours.scores).reshape(COUNT, ways), scores, rtol=5e-5, atol=1e-4)
    assert found == expected
    assert len({tuple(text) for ways in expected for text in ways}) > 20


@pytest.mark.parametrize("settings", [{}, dict(do_sample=True, top_k=7, temperature=2.0), dict(num_beams=4)], ids=str)
def test_log_probabilities_are_the_transition_scores(pair, settings):
    """Of the tokens that `transformers` chose; of drawn ones at the same logits, since keys are no seeds of torch."""
    theirs, model, variables = pair
    rows, reads = prompts()[:12], theirs.config.is_encoder_decoder
    rows = [np.resize(row, 6) for row in rows]
    ids = np.stack(rows)
    settings = settings | dict(max_new_tokens=NEW, eos_token_id=[2, 5, 8], repetition_penalty=1.2)
    asked = GenerationConfig.from_json({**theirs.generation_config.to_dict(), **settings})
    generated = generate(model, variables, ids, settings=asked, key=jax.random.key(1), log_probabilities=True)
    new = np.asarray(generated.sequences)[:, 1 if reads else 6 :]
    if settings.get("do_sample"):
        expected = forced(theirs, ids, new, settings)
    else:
        noted = dict(
            return_dict_in_generate=True, output_scores=True, output_logits=True
        )  # so that beams note their origin
        answer = theirs.generate(torch.tensor(ids), do_sample=False, **noted, **settings)
        beams = dict(beam_indices=answer.beam_indices) if "num_beams" in settings else {}
        expected = theirs.compute_transition_scores(
            answer.sequences, answer.scores, normalize_logits="num_beams" not in settings, **beams
        ).numpy()
    for row, length in enumerate(np.asarray(generated.lengths)):
        np.testing.assert_allclose(
            generated.log_probabilities[row, :length], expected[row, :length], rtol=1e-4, atol=1e-4
        )
        assert (np.asarray(generated.log_probabilities)[row, length:] == 0).all()
    if "num_beams" in settings:
        total = np.asarray(generated.log_probabilities).sum(axis=1) / np.asarray(generated.lengths)
        np.testing.assert_allclose(total, generated.scores, rtol=1e-5)


def forced(theirs, ids, new, settings):
    """The transition scores of these tokens: a processor behind all others notes what they leave, and leaves these alone."""
    noted = []

    class Force(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            step = len(noted)
            noted.append(torch.log_softmax(scores, dim=-1).gather(1, torch.tensor(new[:, step : step + 1])).numpy())
            only = torch.full_like(scores, -torch.inf)
            return only.scatter(1, torch.tensor(new[:, step : step + 1]), 0.0)

    prepare = type(theirs)._get_logits_processor

    def with_force(self, *given, **named):
        processors = prepare(self, *given, **named)
        processors.append(Force())
        return processors

    type(theirs)._get_logits_processor = with_force
    try:
        theirs.generate(torch.tensor(ids), **settings)
    finally:
        type(theirs)._get_logits_processor = prepare
    return np.concatenate(noted, axis=1)
