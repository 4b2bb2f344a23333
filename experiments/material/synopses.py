"""Debian's package descriptions as `synopses.tsv`: a long description and its one-line synopsis, to learn summarising from.

    apt-get -o Acquire::Languages=en update
    python -m experiments.material.synopses synopses.tsv

Read from apt's package lists, `Translation-en` (free software by Debian's guidelines). Some 60,000 pairs; descriptions of fewer
than 40 words are left out, and of packages with the same description (of a library and its headers, say) the first alone stays.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

LISTS = Path("/var/lib/apt/lists")
FEWEST_WORDS = 40


def stanzas(lists: Path) -> Iterator[str]:
    """The entries of all lists of English descriptions, also of compressed ones."""
    for path in sorted(lists.glob("*_i18n_Translation-en*")):
        read = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True)
        yield from read.stdout.decode().split("\n\n")


def pair(stanza: str) -> tuple[str, str] | None:
    """The long description and the synopsis of a package, each on one line."""
    _, _, said = stanza.partition("Description-en: ")
    synopsis, _, body = said.partition("\n")
    description = " ".join(word for line in body.split("\n") if line.strip() != "." for word in line.split())
    synopsis = re.sub(r"\s+", " ", synopsis).strip()
    return (description, synopsis) if synopsis and len(description.split()) >= FEWEST_WORDS else None


def pairs(lists: Path) -> dict[str, str]:
    """{description: synopsis}."""
    found: dict[str, str] = {}
    for stanza in stanzas(lists):
        if (one := pair(stanza)) is not None:
            found.setdefault(*one)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the .tsv to write")
    parser.add_argument("--lists", type=Path, default=LISTS, help="apt's package lists")
    arguments = parser.parse_args()
    found = pairs(arguments.lists)
    if not found:
        parser.error(
            f"{arguments.lists} holds no Translation-en list: run apt-get -o Acquire::Languages=en update first"
        )
    with open(arguments.table, "w", encoding="utf-8") as file:
        print("description", "synopsis", sep="\t", file=file)
        for description, synopsis in found.items():
            print(description, synopsis, sep="\t", file=file)
    print(f"{len(found):,} pairs in {arguments.table}")


if __name__ == "__main__":
    main()
