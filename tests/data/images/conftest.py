"""A folder of pictures in three classes, and a cache for each test."""

from pathlib import Path

import pytest

from tests.data.images.samples import write_folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures") / "zoo", {"cat": 9, "ant": 8, "dog": 7})
