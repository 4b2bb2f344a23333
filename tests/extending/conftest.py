"""The environment of a `lacuna` process."""

from tests.experiments.conftest import environment, texts  # noqa: F401 - fixtures
