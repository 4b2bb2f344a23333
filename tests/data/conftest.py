"""The genuine Wikipedia pages, prepared once per session."""

from pathlib import Path

import pytest

from data.text.documents import Documents, open_documents


@pytest.fixture(scope="session")
def wikipedia_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wikipedia")


@pytest.fixture(scope="session")
def wikipedia(wikipedia_cache: Path) -> Documents:
    return open_documents("wikipedia_dump", wikipedia_cache)
