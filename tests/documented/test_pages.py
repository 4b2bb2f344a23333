"""The commands of README, CONTRIBUTING, docs and recipes can be walked (`make documented` walks them), and make targets start."""

import re
import subprocess
import sys

import pytest

from tests.documented.commands import PAGES, ROOT, of_page, of_recipe, recipes
from tests.documented.walk import ELSEWHERE, MEANT, placeholder

DOCUMENTED = [command for page in PAGES for command in of_page(page)]
TARGETS = sorted({c.text.split()[1] for c in DOCUMENTED if c.text.startswith("make ")})


def test_commands_with_placeholders_say_what_they_are_walked_with():
    there = [*DOCUMENTED, *(command for page in recipes() for command in of_recipe(page))]
    assert len(there) > 30
    known = {*MEANT, *ELSEWHERE}
    unknown = [
        f"{c.page}:{c.line}: {c.text}"
        for c in there
        if c.text.startswith("lacuna ") and placeholder(c.text) and not any(name in c.text for name in known)
    ]
    assert not unknown
    gone = [text for text in MEANT if text not in {command.text for command in there}]
    assert not gone, "these are documented no longer"


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_runs_modules_that_are_there(target):
    """Campaigns of hours are not run: what they would run must at least be there."""
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for module in set(re.findall(r"-m (experiments\S+)", shown.stdout)):
        started = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
