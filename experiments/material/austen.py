"""Jane Austen's six novels as a folder of text files, one per chapter, for `--data.source FOLDER`.

    apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb janeaustenr && pip install rdata
    python -m experiments.material.austen janeaustenr FOLDER

The texts are those of Project Gutenberg as the R package janeaustenr holds them, in R's lazy-load database (public domain).
"""

import argparse
import gzip
import itertools
import re
import zlib
from pathlib import Path

CHAPTER = re.compile(r"\s*chapter\s+([0-9]+|[ivxlc]+)\b", re.IGNORECASE)
SHORTEST = 500
"""Characters below which what stands between two headings is no chapter: a title page, a table of contents."""


def novels(package: Path) -> dict[str, str]:
    """{name: text} of the R package unpacked at `package`."""
    import rdata

    def value(written: bytes):
        return rdata.conversion.convert(rdata.parser.parse_data(written))

    folder = package / "usr/lib/R/site-library/janeaustenr/data"
    index = value(gzip.decompress((folder / "Rdata.rdx").read_bytes()))
    database = (folder / "Rdata.rdb").read_bytes()
    places = {name: [int(x) for x in place] for name, place in index["variables"].items()}
    records = {name: database[at : at + size] for name, (at, size) in places.items()}
    # The first four bytes of a record are its size unpacked.
    unpacked = {name: zlib.decompress(record[4:]) for name, record in records.items()}
    return {name: "\n".join(map(str, value(written))) for name, written in unpacked.items()}


def chapters(novel: str) -> list[str]:
    """The chapters of a novel, in their order."""
    lines = novel.split("\n")
    edges = [0, *(n for n, line in enumerate(lines) if CHAPTER.match(line)), len(lines)]
    texts = ["\n".join(lines[begin:end]).strip() for begin, end in itertools.pairwise(edges)]
    return [text for text in texts if len(text) > SHORTEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked Debian package r-cran-janeaustenr")
    parser.add_argument("folder", type=Path, help="where the chapters go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, text in novels(arguments.package).items():
        for number, chapter in enumerate(chapters(text)):
            (arguments.folder / f"{name}-{number:02d}.txt").write_text(chapter, encoding="utf-8")


if __name__ == "__main__":
    main()
