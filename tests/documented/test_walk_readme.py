"""The commands of the README, typed in the order in which they stand."""

import pytest

from tests.documented.commands import of_page
from tests.documented.walk import MEANT, walk

COMMANDS = [command for command in of_page("README.md") if command.text.startswith("lacuna ") or command.text in MEANT]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.line}: {c.text}")
def test_readme(command, clone, in_clone):
    walk(command, clone, in_clone)
