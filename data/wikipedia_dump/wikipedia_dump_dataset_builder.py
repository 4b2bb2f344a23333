"""TFDS builder of the articles in a MediaWiki dump, with the features of TFDS's own `wikipedia`: `title` and `text`.

The builder needs neither TensorFlow nor Beam: `Builder(config=DumpConfig.of(path), file_format="array_record")` takes
any dump, and the default configuration the genuine English pages that come with the `gensim` wheel. (TFDS's own command
line imports TensorFlow; where there is one, `tfds build data/wikipedia_dump --file_format=array_record` works, too.)
"""

import collections
import dataclasses
import hashlib
import importlib.util
import itertools
import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import mwparserfromhell
import tensorflow_datasets.public_api as tfds
from absl import logging

from data.errors import DataError
from data.text.wikitext import prose
from data.wikipedia_dump.dump import Page, articles

SHORTEST = 200
"""Characters of prose below which a page (a stub, a disambiguation) is left out."""

LARGE = 32 * 2**20
"""Bytes of a dump from which its pages are parsed by several processes."""

PAGES = 32
"""Pages that a process parses at a time."""

SAMPLE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SAMPLE_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"


@dataclasses.dataclass(kw_only=True)
class DumpConfig(tfds.core.BuilderConfig):
    """One dump.

    Attributes:
        path: the dump; where empty, the pages that come with the `gensim` wheel.
    """

    path: str = ""

    @classmethod
    def of(cls, path: Path) -> "DumpConfig":
        """The configuration of the dump at `path` as it is now: a file changed or replaced gets another name."""
        path, state = path.resolve(), path.stat()
        key = hashlib.sha256(f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()[:16]
        stem = re.sub(r"\W+", "_", path.name.split(".xml")[0])[:48]
        return cls(name=f"{stem}-{key}", description=f"The articles of {path}.", path=str(path))


class Builder(tfds.core.GeneratorBasedBuilder):
    """Articles of a MediaWiki dump as prose; redirects, other namespaces and very short pages are left out."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    BUILDER_CONFIGS = [  # noqa: RUF012
        DumpConfig(name="sample", description="206 pages of English Wikipedia of 2016, as shipped with gensim.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Prose of Wikipedia articles, without lists, tables, references and headings.",
            features=tfds.features.FeaturesDict({"title": tfds.features.Text(), "text": tfds.features.Text()}),
            homepage="https://dumps.wikimedia.org",
            license="Creative Commons Attribution-ShareAlike",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        path = Path(self.builder_config.path) if self.builder_config.path else sample()
        return {"train": self._generate_examples(path)}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        workers = (os.cpu_count() or 1) if path.stat().st_size >= LARGE else 0
        number = -1
        for number, (title, text) in enumerate(_parsed(articles(path), workers)):
            yield number, {"title": title, "text": text}
        if number < 0:
            raise DataError(
                f"{path} holds no article of {SHORTEST} characters of prose or more:"
                " give a *-pages-articles*.xml.bz2 dump"
            )


def sample() -> Path:
    """Where the pages that come with the `gensim` wheel lie (it is not imported).

    Raises:
        DataError: there is no gensim, or its pages are not those this builder knows.
    """
    package = importlib.util.find_spec("gensim")
    if package is None or package.origin is None:
        raise DataError(
            "wikipedia_dump reads pages that come with gensim, which is not installed: install the `demo` extra"
        )
    path = Path(package.origin).parent / "test" / "test_data" / SAMPLE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SAMPLE_SHA256:
        raise DataError(f"{path} is not the sample of Wikipedia that wikipedia_dump knows: install gensim 4.4.0")
    return path


def _parsed(pages: Iterable[Page], workers: int) -> Iterator[tuple[str, str]]:
    """`(title, prose)` in the order of `pages`, parsed by `workers` processes (0: this one), few pages in flight."""
    pages = iter(pages)
    batches = iter(lambda: list(itertools.islice(pages, PAGES)), [])
    if not workers:
        yield from itertools.chain.from_iterable(map(_parse, batches))
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending: collections.deque = collections.deque()
        for batch in batches:
            pending.append(pool.submit(_parse, batch))
            if len(pending) > 4 * workers:
                yield from pending.popleft().result()
        for batch_in_flight in pending:
            yield from batch_in_flight.result()


def _parse(pages: list[Page]) -> list[tuple[str, str]]:
    parsed = []
    for page in pages:
        try:
            text = prose(page.wikitext, page.namespaces)
        except mwparserfromhell.parser.ParserError as error:
            logging.warning("%s is left out, its wikitext cannot be parsed: %s", page.title, error)
            continue
        if len(text) >= SHORTEST:
            parsed.append((page.title, text))
    return parsed
