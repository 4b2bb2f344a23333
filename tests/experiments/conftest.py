"""What the tests of whole runs share: a text, and the environment of a `lacuna` process."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """English prose that comes with Python, one document a file."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("texts")
    for name, text in sorted(topics.items())[:60]:
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    cache = Path("~/.cache/lacuna/xla-tests").expanduser()
    folder = tmp_path_factory.mktemp("cache")
    cache.mkdir(parents=True, exist_ok=True)
    (folder / "xla").symlink_to(cache)
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return {**kept, "LACUNA_CACHE": str(folder), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
