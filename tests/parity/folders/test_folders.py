"""Folders as `save_pretrained` writes them, of the installed `transformers` and of the last with Flax, read and asked.

The second is written by the interpreter that `FLAX_PYTHON` names, one with torch and transformers 4.57 (`make parity
FLAX_PYTHON=...`); without it those tests are skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from tests.parity.folders.write_folders import FORMS, MODELS

PYTHONS = {"installed": sys.executable, "4.57": os.environ.get("FLAX_PYTHON")}


@pytest.fixture(scope="module", params=PYTHONS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of one version of the library."""
    python = PYTHONS[request.param]
    if python is None:
        pytest.skip("FLAX_PYTHON names no interpreter with transformers 4.57")
    root = tmp_path_factory.mktemp("folders")
    script = Path(__file__).parent / "write_folders.py"
    done = subprocess.run([python, str(script), str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if request.param == "4.57":
        flax = {name for name in MODELS if (root / name / "flax" / "flax_model.msgpack").exists()}
        assert flax == set(MODELS) - {"llama-tied"}, done.stdout
    return root


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_gives_the_numbers_it_was_written_with(written, name, form):
    folder = written / name / form
    if not folder.exists():
        pytest.skip("this version of transformers writes no Flax")
    if form == "sharded":
        assert len(list(folder.glob("*.safetensors"))) > 2
    model, variables = hub.load(folder)
    assert type(model).__name__ == MODELS[name][0]
    expected = np.load(folder / "expected.npz")
    inputs = {
        key.removeprefix("input "): jnp.asarray(value, jnp.int32) for key, value in expected.items() if key != "logits"
    }
    outputs = model.apply(variables, **inputs)
    logits = outputs["logits" if "logits" in outputs else "prediction_logits"]
    theirs = expected["logits"]
    # At padding each library has numbers of its own.
    asked = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    if asked == "input_ids" and theirs.shape[:2] == inputs["attention_mask"].shape:
        logits, theirs = logits[inputs["attention_mask"] > 0], theirs[np.asarray(inputs["attention_mask"]) > 0]
    assert logits.shape == theirs.shape
    assert np.abs(logits - theirs).max() < 1e-5 * max(1.0, np.abs(theirs).max())
