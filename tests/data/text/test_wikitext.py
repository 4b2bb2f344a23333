"""Wikitext becomes the prose that a reader of the page would read, and nothing else."""

import re
import textwrap

import pytest

from data.text.documents import Documents
from data.text.wikitext import prose

SENTENCE = "The river rises in the hills and flows through three towns to the sea."


@pytest.mark.parametrize(
    ("wikitext", "expected"),
    [
        ("The '''river''' ''rises'' in the [[hill]]s of the [[Foo (region)|region]].",
         "The river rises in the hills of the region."),
        ("{{Infobox river|length={{convert|5|km}}}}\n" + SENTENCE, SENTENCE),
        (SENTENCE + "<ref>A book, p. 5.</ref><ref name=\"a\" /> <!-- hidden\n\ntext -->", SENTENCE),
        ("[[File:River.jpg|thumb|A [[river]] in spring, with a long caption.]]\n" + SENTENCE, SENTENCE),
        (SENTENCE + "\n[[Category:Rivers]]\n[[de:Fluss]]\n[[zh-yue:河]]", SENTENCE),
        ("== Course ==\n" + SENTENCE + "\n=== Upper course ===\n" + SENTENCE, f"{SENTENCE}\n{SENTENCE}"),
        (SENTENCE + "\n* one item of a list, which ends here.\n# another one.\n: indented.", SENTENCE),
        (SENTENCE + "\n; term: and what it means, at some length, for the reader.", SENTENCE),
        ("{| class=\"wikitable\"\n|-\n| a cell with a whole sentence in it.\n{|\n| nested\n|}\n|}\n" + SENTENCE,
         SENTENCE),
        ("The river rises in the hills\nand flows through three\ntowns to the sea.", SENTENCE),
        ("The river&nbsp;rises in the hills and flows through three towns&#32;to the sea.", SENTENCE),
        ("See [http://example.org the survey of the river] or http://example.org [http://example.org] for its length.",
         "See the survey of the river or for its length."),
        ("The river (; {{IPA-en|rɪvə}}, {{lang|fr|rivière}}, {{audio|x.ogg}}) rises in the hills to the north.",
         "The river (rivière) rises in the hills to the north."),
        ("The river ({{IPAc-en|r|ɪ}}; {{audio|x.ogg}}) rises in the green hills to the north.",
         "The river rises in the green hills to the north."),
        ("It is {{convert|1300|mi|km}} long and {{convert|5|to|7|m|ft}} deep, {{nowrap|as a rule}}, at its mouth.",
         "It is 1300 mi long and 5 to 7 m deep, as a rule, at its mouth."),
        ("Where <math>x^2</math> is the flow, the river function() gives {{frac|1|2}} of it to the sea.",
         "Where is the flow, the river function() gives 1/2 of it to the sea."),
        (SENTENCE + "\n{{quote|" + SENTENCE + "|Somebody}}\n" + SENTENCE, "\n".join([SENTENCE] * 3)),
        (SENTENCE + "\n code: preformatted, with a full stop at its very end, and long.", SENTENCE),
        ("The main towns on the river are, from its source to its mouth:\n* A\n* B", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_what_stays_and_what_goes(wikitext: str, expected: str) -> None:
    assert prose(wikitext) == expected


def test_apparatus_goes_with_its_subsections_and_prose_after_it_stays() -> None:
    page = textwrap.dedent(f"""\
        {SENTENCE}
        == See also ==
        {SENTENCE}
        === Rivers of the north ===
        {SENTENCE}
        == History ==
        The towns on the river were founded by fishermen, it is said.
        ==References==
        {SENTENCE}
        """)
    assert prose(page) == f"{SENTENCE}\nThe towns on the river were founded by fishermen, it is said."


def test_namespaces_of_the_dump_name_what_is_dropped() -> None:
    page = f"[[Datei:Fluss.jpg|mini|Ein Fluss, mit langer Unterschrift, die ein Satz ist.]]{SENTENCE}"
    assert prose(page, {"datei"}) == SENTENCE
    assert prose(page, {"file"}) != SENTENCE


def test_genuine_pages_read_as_prose(wikipedia: Documents) -> None:
    texts = [document["text"] for document in wikipedia]
    marks = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||<ref|</|'''|thumb\||\(\s*[,;)]|  |\n\n|^[*#:;|!=]", re.MULTILINE)
    assert [found for text in texts for found in marks.findall(text)] == []
    anarchism = next(document["text"] for document in wikipedia if document["title"] == "Anarchism")
    assert anarchism.startswith(
        "Anarchism is a political philosophy that advocates self-governed societies based on voluntary institutions."
    )
    words = sum(len(text.split()) for text in texts)
    assert 380_000 < words < 420_000, (
        f"{words} words: has the cleaning of pages changed? Then raise the builder's VERSION."
    )
