"""The commands that README, docs and recipes tell a reader to type, in the order in which they stand."""

import ast
import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
PROGRAMS = ("lacuna ", "make ")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as a page has it.

    Attributes:
        page: the file, relative to the repository.
        line: where in it, from 1 on.
        text: without the comment behind it.
    """

    page: str
    line: int
    text: str


def of_page(page: str) -> list[Command]:
    """Those of a Markdown file: lines of its code blocks, and code within its sentences."""
    commands, inside = [], False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif inside:
            commands += [Command(page, number, text) for text in [without_comment(line)] if text.startswith(PROGRAMS)]
        else:
            spans = re.findall(r"`([^`]+)`", line)
            commands += [Command(page, number, span) for span in spans if span.startswith(PROGRAMS)]
    return commands


def of_recipe(page: str) -> list[Command]:
    """Those of a Python file's docstring, each on a line of its own."""
    text = (ROOT / page).read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    return [
        Command(page, number, without_comment(line.strip()))
        for number, line in enumerate(docstring.splitlines(), 1)
        if line.startswith("    lacuna ")
    ]


def without_comment(line: str) -> str:
    """A command without what stands behind it: after two spaces, or after a `#`."""
    return re.split(r"\s{2,}|\s#", line.strip())[0]


def recipes() -> list[str]:
    """The files of experiments, those first whose models others begin with: what is pretrained, teachers before students."""
    files = sorted((ROOT / "experiments").glob("*/*.py"), key=lambda path: (path.name != "pretrain.py", path))
    paths = [str(path.relative_to(ROOT)) for path in files]
    return [path for path in paths if "-> Experiment" in (ROOT / path).read_text() and "/campaigns/" not in path]
