"""The demos, made once, and what a test prepares of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data.scenes.source import PreparedScenes, Scenes


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreparedScenes]:
    """Prepares `digit_scenes/tiny`, or another source, with settings."""
    cache = tmp_path_factory.mktemp("demos")

    def prepare(source: str = "digit_scenes/tiny", **settings) -> PreparedScenes:
        settings = {"shortest": 96, "longest": 128, "cache": str(cache), **settings}
        return Scenes(source=source, **settings).prepare(0, Path(cache), lambda text: None)

    return prepare
