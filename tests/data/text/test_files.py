"""Text in files: what is a document, where long files are cut, and what is left of each in other systems' habits."""

import json
from pathlib import Path

import numpy as np
import pytest

from data import DataError
from data.text.documents import open_documents, split_documents
from data.text.files import LONGEST, SECTION, section_ends


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def opened(path: Path, cache: Path, **settings):
    return open_documents(str(path), cache, **settings)


def texts(documents) -> list[str]:
    return [document["text"] for document in documents]


def book(seed: int, paragraphs: int) -> str:
    random = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(500)]
    return "\n\n".join(" ".join(random.choice(words, random.integers(10, 60))) + "." for _ in range(paragraphs)) + "\n"


def test_hidden_files_are_no_documents_and_links_are_followed(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "texts",
        {
            "a.txt": "One.", "deep/er/b.TXT": "Two.", ".git/c.txt": "no", "._a.txt": b"\x00\x05\x16\x07\xff",
            ".ipynb_checkpoints/a.txt": "no", "deep/.DS_Store": b"\xff", "__MACOSX/a.txt": "no", "note.md": "no",
        },
    )  # fmt: skip
    write(tmp_path / "elsewhere", {"c.txt": "Three."})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "deep" / "round").symlink_to(folder)  # a folder inside itself
    assert sorted(texts(opened(folder, tmp_path / "cache"))) == ["One.", "Three.", "Two."]


def test_marks_and_line_ends_of_other_systems_are_no_text(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", {"a.txt": "One.\nTwo.", "b.txt": "Ünï."})
    other = write(tmp_path / "other", {"a.txt": b"\xef\xbb\xbfOne.\r\nTwo.", "b.txt": "\ufeffÜnï."})
    one, two = (opened(folder, tmp_path / "cache") for folder in (plain, other))
    assert texts(one) == texts(two) == ["One.\nTwo.", "Ünï."]
    assert one.fingerprint == two.fingerprint


def test_lines_of_json_are_documents(tmp_path: Path) -> None:
    lines = [{"text": "One.\nMore."}, {"text": "Two.", "title": "a title"}]
    folder = write(tmp_path / "j", {"a.jsonl": "\n\n".join(map(json.dumps, lines)) + "\n"})
    for path in (folder, folder / "a.jsonl"):
        documents = opened(path, tmp_path / "cache")
        assert list(documents) == [{"title": "", "text": "One.\nMore."}, {"title": "a title", "text": "Two."}]
    write(folder, {"a.jsonl": '{"text": "One."}\n{"txt": "Two."}\n'})
    with pytest.raises(DataError, match=r'a\.jsonl, line 2 has no text "text", but txt'):
        opened(folder, tmp_path / "cache")


@pytest.mark.parametrize("paragraphs", [12, 60, 3000])
def test_a_single_file_is_cut_at_paragraphs(tmp_path: Path, paragraphs: int) -> None:
    text = book(0, paragraphs)
    folder = write(tmp_path / "book", {"book.txt": text})
    for path in (folder, folder / "book.txt"):
        documents = opened(path, tmp_path / "cache")
        assert len(documents) > 1 and "".join(texts(documents)) == text
        whole = set(text.split("\n\n"))
        assert all(paragraph.strip("\n") in {p.strip("\n") for p in whole} for section in texts(documents)
                   for paragraph in section.strip("\n").split("\n\n"))  # fmt: skip
        train, held_out = split_documents(documents, 0.05, 0)
        assert len(train) and len(held_out)
        if paragraphs == 3000:  # as much as was asked
            assert 0.02 < documents.text_sizes[held_out].sum() / documents.text_sizes.sum() < 0.1


def test_a_change_in_one_place_of_a_file_leaves_other_sections_as_they_are(tmp_path: Path) -> None:
    text = book(1, 3000)
    before = opened(write(tmp_path / "a", {"a.txt": text}), tmp_path / "cache")
    after = opened(write(tmp_path / "b", {"b.txt": book(7, 1) + "\n" + text + "And more.\n"}), tmp_path / "cache")
    assert len(np.setdiff1d(before.text_hashes, after.text_hashes)) <= 10 < len(before) / 10
    sides = [split_documents(documents, 0.1, 0) for documents in (before, after)]
    (train, held_out), (train_after, held_out_after) = sides
    assert not np.isin(before.text_hashes[train], after.text_hashes[held_out_after]).any()
    assert not np.isin(before.text_hashes[held_out], after.text_hashes[train_after]).any()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_of_few_files_none_is_held_out_whole(tmp_path: Path, count: int) -> None:
    files = {f"{number}.txt": book(number, 120) for number in range(count)}
    assert all(20_000 < len(text) < LONGEST for text in files.values())
    documents = opened(write(tmp_path / "few", files), tmp_path / "cache")
    assert "".join(texts(documents)) == "".join(files.values())
    for seed in range(5):
        _, held_out = split_documents(documents, 0.1, seed)
        assert 0.02 < documents.text_sizes[held_out].sum() / documents.text_sizes.sum() < 0.3
    many = opened(
        write(tmp_path / "few", {f"{number}.txt": book(number, 120) for number in range(8)}), tmp_path / "cache"
    )
    assert texts(many) == [book(number, 120) for number in range(8)]


def test_a_long_file_among_others_is_held_out_by_its_amount(tmp_path: Path) -> None:
    files = {f"{number}.txt": f"A short text, number {number}." for number in range(30)} | {"book.txt": book(2, 4000)}
    assert len(files["book.txt"]) > 10 * LONGEST
    documents = opened(write(tmp_path / "mixed", files), tmp_path / "cache")
    for seed in range(5):
        _, held_out = split_documents(documents, 0.1, seed)
        assert 0.03 < documents.text_sizes[held_out].sum() / documents.text_sizes.sum() < 0.25
    assert [text for text in texts(documents) if text.startswith("A short")] == [
        files[name] for name in sorted(files) if name != "book.txt"
    ]


@pytest.mark.parametrize("line", [b"word " * 60 + b"\n", b"short\n"])
def test_sections_end_with_lines_where_there_are_no_paragraphs(line: bytes) -> None:
    ends = list(section_ends([line] * 5000, *SECTION))
    assert ends[-1] == 5000 * len(line) and all(end % len(line) == 0 for end in ends)
    sizes = np.diff([0, *ends])
    assert (sizes[:-1] >= SECTION[0]).all() and (sizes <= SECTION[1] + len(line)).all()
    assert list(section_ends([], *SECTION)) == []


def test_broken_documents_are_refused_or_left_out(tmp_path: Path) -> None:
    good = {f"{number}.txt": f"Text {number}." for number in range(6)}
    folder = write(tmp_path / "texts", {**good, "bad.txt": "né".encode("latin-1"), "wide.txt": "ab".encode("utf-16")})
    (folder / "gone.txt").symlink_to(tmp_path / "nothing")
    for _ in range(2):
        with pytest.raises(DataError, match=r"bad\.txt is not UTF-8 \(byte 1\).*; 3 of the 9 documents .* are broken"):
            opened(folder, tmp_path / "cache")
    said: list[str] = []
    documents = opened(folder, tmp_path / "cache", broken="skip", say=said.append)
    assert texts(documents) == list(good.values()) and "3 of the 9 documents" in said[0]
    assert [reason.split(": ")[0].split("/")[-1] for reason in documents.broken] == [
        "bad.txt is not UTF-8 (byte 1)", "gone.txt is not there, or is a link to nothing", "wide.txt is not UTF-8 (byte 0)",
    ]  # fmt: skip
    whole = opened(write(tmp_path / "whole", good), tmp_path / "cache")
    assert documents.fingerprint == whole.fingerprint
    with pytest.raises(DataError, match="broken='ignore': expected refuse or skip"):
        opened(folder, tmp_path / "cache", broken="ignore")


def test_a_file_that_is_mended_is_looked_at_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", {"a.txt": b"\xff", "b.txt": "Two."})
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8"):
        opened(folder, tmp_path / "cache")
    write(folder, {"a.txt": "1"})
    assert texts(opened(folder, tmp_path / "cache")) == ["1", "Two."]


def test_a_mistyped_source_names_what_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"my_texts/a.txt": "One."})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="nor a TFDS data set: the nearest on disk is 'my_texts', and the nearest TFDS"):
        open_documents("my_txets", tmp_path / "cache")
    with pytest.raises(DataError, match=r"there is no folder .*my_txets: the nearest on disk is '.*/my_texts'; give"):
        opened(tmp_path / "my_txets", tmp_path / "cache")
    with pytest.raises(DataError, match="the nearest on disk is 'my_texts'"):
        open_documents("my_txets/a", tmp_path / "cache")
