"""Verses of the Bible in English and Spanish as `bible.tsv`, pairs to learn translation from.

    apt-get download sword-text-web sword-text-sparv && for file in sword-text-*.deb; do dpkg -x $file sword; done
    pip install pysword
    python -m experiments.transformer.bible sword bible.tsv

The World English Bible and the Reina-Valera of 1909, both in the public domain, as Debian packages them for SWORD.
"""

import argparse
from pathlib import Path

VERSIONS = {"en": "engWEB2015eb", "es": "spaRV1909eb"}


def verses(folder: Path, version: str) -> dict[tuple[str, int, int], str]:
    """{(book, chapter, verse): text} of one version."""
    from pysword.modules import SwordModules

    modules = SwordModules(str(folder / "usr/share/sword"))
    modules.parse_modules()
    bible = modules.get_bible_from_module(version)
    found = {}
    for books in bible.get_structure().get_books().values():
        for book in books:
            for chapter, length in enumerate(book.chapter_lengths, 1):
                for verse in range(1, length + 1):
                    try:
                        text = bible.get(books=[book.name], chapters=[chapter], verses=[verse], clean=True)
                    except (ValueError, IndexError):  # editions count verses differently
                        continue
                    if text.strip():
                        found[book.osis_name, chapter, verse] = " ".join(text.split())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="where the Debian packages are unpacked")
    parser.add_argument("table", type=Path, help="the .tsv to write")
    arguments = parser.parse_args()
    one, other = (verses(arguments.packages, version) for version in VERSIONS.values())
    with open(arguments.table, "w", encoding="utf-8") as file:
        print(*VERSIONS, sep="\t", file=file)
        for place in one:
            if place in other:
                print(one[place], other[place], sep="\t", file=file)


if __name__ == "__main__":
    main()
