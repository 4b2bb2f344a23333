"""The commands in the docstring of each recipe: the small runs run, the published ones ask for their data in a sentence."""

import pytest

from tests.documented.commands import of_recipe, recipes
from tests.documented.walk import walk

COMMANDS = [command for path in recipes() for command in of_recipe(path)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}:{c.line}")
def test_recipe(command, clone, in_clone):
    walk(command, clone, in_clone)
