"""MediaWiki XML dumps (`*-pages-articles*.xml.bz2`), streamed in bounded memory."""

import bz2
import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from data.errors import DataError
from data.text.wikitext import NAMESPACES

FILE, CATEGORY = "6", "14"


@dataclasses.dataclass(frozen=True)
class Page:
    """An article as the dump gives it: `namespaces` are the names of file and category links in its language."""

    title: str
    wikitext: str
    namespaces: frozenset[str]


def articles(path: Path) -> Iterator[Page]:
    """The articles of a dump in its order: neither redirects nor pages of other namespaces (talk, user, template …).

    Raises:
        DataError: the file is no dump, or ends early.
    """
    try:
        with _opened(path) as stream:
            yield from _articles(stream)
    except EOFError:
        raise DataError(f"{path} ends in the middle of its bz2 stream: fetch the dump again") from None
    except ElementTree.ParseError as error:
        raise DataError(
            f"{path} is not the whole XML of a MediaWiki dump ({error}):"
            " give a *-pages-articles*.xml.bz2, or fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read as a dump ({error}): give a *-pages-articles*.xml(.bz2)") from None


def _opened(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        packed = file.read(3) == b"BZh"
    if path.suffix == ".bz2" and not packed:
        raise DataError(f"{path} is named .bz2 but its content is not bz2: fetch the dump again")
    return bz2.open(path) if packed else path.open("rb")


def _articles(stream: BufferedIOBase) -> Iterator[Page]:
    namespaces = NAMESPACES
    events = ElementTree.iterparse(stream, events=("start", "end"))
    _, root = next(events)
    if _name(root) != "mediawiki":
        raise ElementTree.ParseError(f"its root is <{_name(root)}>, not <mediawiki>")
    for event, element in events:
        if event == "start":
            continue
        if _name(element) == "namespace" and element.get("key") in (FILE, CATEGORY) and element.text:
            namespaces |= {element.text.lower()}
        elif _name(element) == "page":
            if element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None:
                wikitext = element.findtext("{*}revision/{*}text") or ""
                if not wikitext.lstrip()[:9].lower().startswith("#redirect"):
                    yield Page(element.findtext("{*}title") or "", wikitext, namespaces)
            root.clear()


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
