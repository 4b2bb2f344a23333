"""What benchmarks and campaigns write: tables, pages of docs/ that hold them between marks, and a last line of JSON."""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def fill(path: Path, **tables: str) -> None:
    """Put text into a page, between the marks `<!-- name -->` and `<!-- end of name -->`."""
    page = path.read_text()
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, mark, rest = page.partition(begin)
        if not mark or end not in rest:
            raise ValueError(f"{path} has no marks for {name}")
        page = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    path.write_text(page)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---" if n < 2 else "--:" for n in range(len(head))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(benchmark: str, **figures: Any) -> None:
    """Print what a benchmark measured as one line of JSON, its last."""
    print(json.dumps({"benchmark": benchmark, **figures}), flush=True)
