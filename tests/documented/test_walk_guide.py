"""The guide to objectives, typed as it stands: its file, then its commands."""

import re

import pytest

from tests.documented.commands import ROOT, of_page
from tests.documented.walk import walk

GUIDE = "docs/extending.md"
COMMANDS = [command for command in of_page(GUIDE) if "my_paper" in command.text]


@pytest.fixture(scope="module", autouse=True)
def paper(clone):
    """The guide's file where the guide says that it lies."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / GUIDE).read_text(), re.DOTALL)
    (clone / "my_paper").mkdir()
    (clone / "my_paper" / "experiment.py").write_text(code)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.line}: {c.text}")
def test_guide(command, clone, in_clone):
    walk(command, clone, in_clone)
