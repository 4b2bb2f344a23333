"""Sources of documents: what is read, what is refused and how, and the split."""

import bz2
import functools
import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from data import DataError
from data.text.documents import Documents, open_documents
from data.wikipedia_dump import wikipedia_dump_dataset_builder as builder
from data.wikipedia_dump.dump import articles

DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="de">
<siteinfo><namespaces>
<namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace>
</namespaces></siteinfo>
{pages}
</mediawiki>
"""
PAGE = """<page><title>{title}</title><ns>{namespace}</ns><id>1</id>{redirect}
<revision><id>2</id><text xml:space="preserve">{text}</text></revision></page>"""
LONG = "This sentence is here so that the page is long enough to be kept as an article of the encyclopedia. " * 3


def page(title: str, text: str, namespace: int = 0, redirect: str = "") -> str:
    return PAGE.format(title=title, text=text, namespace=namespace, redirect=redirect)


def write_dump(path: Path, *pages: str) -> Path:
    content = DUMP.format(pages="\n".join(pages)).encode()
    path.write_bytes(bz2.compress(content) if path.suffix == ".bz2" else content)
    return path


def write_folder(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_dump_gives_its_articles_in_order(tmp_path: Path) -> None:
    pages = (
        page("Umleitung", "#REDIRECT [[Fluss]]"),
        page("Alt", LONG, redirect='<redirect title="Fluss" />'),
        page("Diskussion:Fluss", LONG, namespace=1),
        page("Fluss", "[[Datei:Fluss.jpg|mini|Ein Bild, das nicht in den Text gehört.]]" + LONG),
        page("Kurz", "Short."),
        page("Quelle", LONG + "&lt;ref&gt;A book.&lt;/ref&gt;"),
    )
    for name in ("dump.xml", "dump.xml.bz2"):
        documents = open_documents(str(write_dump(tmp_path / name, *pages)), tmp_path / "cache")
        assert [document["title"] for document in documents] == ["Fluss", "Quelle"]
        assert [document["text"] for document in documents] == [LONG.strip()] * 2


def test_a_dump_is_streamed(tmp_path: Path) -> None:
    """Pages come before the file has been read to its end: here the end is missing."""
    path = write_dump(tmp_path / "dump.xml", *(page(str(index), LONG * 50) for index in range(100)))
    path.write_bytes(path.read_bytes()[:-1000])
    pages = articles(path)
    assert [next(pages).title for _ in range(50)] == [str(index) for index in range(50)]
    with pytest.raises(DataError):
        list(pages)


def test_a_dump_that_changes_is_prepared_anew(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "dump.xml", page("Eins", LONG))
    first = open_documents(str(path), tmp_path / "cache")
    write_dump(path, page("Zwei", LONG.replace("sentence", "proposal")))  # of the same size
    second = open_documents(str(path), tmp_path / "cache")
    assert (first[0]["title"], second[0]["title"]) == ("Eins", "Zwei")
    assert first.fingerprint != second.fingerprint


def test_a_dump_elsewhere_is_the_same_data(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "dump.xml", page("Eins", LONG), page("Zwei", LONG.replace("sentence", "proposal")))
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / "other.XML"
    moved.write_bytes(path.read_bytes())
    one, other = (open_documents(str(where), tmp_path / "cache") for where in (path, moved))
    assert one.fingerprint == other.fingerprint


def test_several_processes_parse_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "PAGES", 2)
    pages = [page for page, _ in zip(articles(builder.sample()), range(40), strict=False)]
    assert list(builder._parsed(pages, workers=2)) == list(builder._parsed(pages, workers=0))


def test_the_sample_of_wikipedia(wikipedia: Documents, wikipedia_cache: Path) -> None:
    assert len(wikipedia) == 97
    again = open_documents("wikipedia_dump", wikipedia_cache)
    assert again.fingerprint == wikipedia.fingerprint and again[3] == wikipedia[3]


def test_a_folder_gives_a_document_per_file_by_name(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "texts", {"b.txt": "Zwei.", "a/c.txt": "Drei – 河.", "note.md": "No."})
    documents = open_documents(str(folder), tmp_path)
    assert list(documents) == [{"title": "c", "text": "Drei – 河."}, {"title": "b", "text": "Zwei."}]


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    texts = {"a.txt": "One text.", "b.txt": "Other text."}
    one = open_documents(str(write_folder(tmp_path / "one", texts)), tmp_path / "cache")
    copy = open_documents(str(write_folder(tmp_path / "copy", texts)), tmp_path / "cache")
    assert one.fingerprint == copy.fingerprint
    write_folder(tmp_path / "one", {"b.txt": "0ther text."})  # of the same size
    assert open_documents(str(tmp_path / "one"), tmp_path / "cache").fingerprint != copy.fingerprint


def test_a_prepared_tfds_data_set_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets as tfds
    import tensorflow_datasets.text
    from tensorflow_datasets.core import sequential_writer

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    builder = tfds.builder(
        "wikipedia/20230601.en", data_dir=tmp_path / "tfds", try_gcs=False, file_format="array_record"
    )
    os.makedirs(builder.data_dir)
    pages = [{"title": name, "text": f"The text of {name}."} for name in ("Anarchism", "Autism", "Albedo")]
    writer = sequential_writer.SequentialWriter(builder.info, 2, overwrite=True, file_format="array_record")
    writer.initialize_splits(["train"])
    writer.add_examples({"train": pages})
    writer.close_all()
    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=tmp_path / "tfds"))
    documents = open_documents("wikipedia/20230601.en", tmp_path / "cache")
    assert sorted(documents, key=str) == sorted(pages, key=str)


def _broken(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


WHOLE = bz2.compress(b"<mediawiki>" + random.Random(0).randbytes(5000).hex().encode() + b"</mediawiki>")
CORRUPT = WHOLE[:10] + bytes(255 - byte for byte in WHOLE[10:14]) + WHOLE[14:]  # the checksum of the first block
BAD_SOURCES = {
    "missing folder": (lambda root: str(root / "nowhere"), "there is no folder .*nowhere: give a folder"),
    "missing dump": (lambda root: str(root / "no.xml.bz2"), r"there is no dump .*no\.xml\.bz2"),
    "empty folder": (lambda root: str(root), r"holds no \.txt file"),
    "unknown name": (lambda root: "wikipedai/20230601.en", "nearest TFDS name is 'wikipedia'"),
    "unknown config": (lambda root: "wikipedia/20230601_en", "nearest configuration is '20230601.en'"),
    "no text in it": (lambda root: "mnist", "has no feature `text`, but image, label"),
    "not prepared": (lambda root: "wikipedia/20230601.en", "is not prepared under .* preparing it takes apache-beam"),
    "some other file": (lambda root: _broken(root / "a.pdf", b"%PDF"), "neither a dump .* nor a folder"),
    "truncated": (lambda root: _broken(root / "a.xml.bz2", WHOLE[:-100]), "ends in the middle of its bz2 stream"),
    "corrupt": (lambda root: _broken(root / "a.xml.bz2", CORRUPT), "cannot be read as a dump"),
    "not bz2": (lambda root: _broken(root / "a.xml.bz2", b"<mediawiki/>"), "its content is not bz2"),
    "not XML": (lambda root: _broken(root / "a.xml", b"Once upon a time"), "is not the whole XML of a MediaWiki dump"),
    "cut XML": (lambda root: _broken(root / "a.xml", b"<mediawiki><page>"), "is not the whole XML of a MediaWiki dump"),
    "empty file": (lambda root: _broken(root / "a.xml", b""), "is not the whole XML of a MediaWiki dump"),
    "other XML": (lambda root: _broken(root / "a.xml", b"<html></html>"), "its root is <html>, not <mediawiki>"),
    "no article": (lambda root: str(write_dump(root / "a.xml", page("A", LONG, 1))), "holds no article"),
    "blank files": (lambda root: str(write_folder(root, {"a.txt": " \n"})), "holds no text: all of its 1"),
    "not UTF-8": (lambda root: _broken(root / "a.txt", "ok é".encode("latin-1"))[:-6], "a.txt is not UTF-8 .byte 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_bad_source_is_refused_in_one_sentence(
    case: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "apache_beam" else find_spec(name))
    make, message = BAD_SOURCES[case]
    cache = tmp_path_factory.mktemp("cache")
    for _ in range(2):  # the second time there must be nothing left of the first
        with pytest.raises(DataError, match=message) as caught:
            open_documents(make(tmp_path), cache)
        assert "\n" not in str(caught.value)


def test_without_gensim_the_sample_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="install the `demo` extra"):
        open_documents("wikipedia_dump", tmp_path)


def test_importing_brings_in_neither_jax_nor_tensorflow_nor_the_rest_of_the_project() -> None:
    names = "contents splits loader file_contents text.documents text.pairs text.files text.tokenizers text.corpus"
    names += " text.windows text.wikitext wikipedia_dump.wikipedia_dump_dataset_builder"
    code = "import sys\n" + "".join(f"import data.{name}\n" for name in names.split())
    code += "print(sorted({'jax', 'tensorflow', 'torch', 'models', 'objectives', 'training'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert run.stdout.strip() == "[]"


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffOnce upon a time".encode())
    assert open_documents(str(tmp_path), tmp_path / "cache")[0]["text"] == "Once upon a time"
