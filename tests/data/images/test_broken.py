"""Sources of pictures that are refused in a sentence, and broken pictures, which are named before training."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import pytest

from data import DataError
from data.forms import ImageForm
from data.images.source import Images
from tests.data.images.samples import SIZE, cut, noise, silent, write_folder


def bare(root: Path, *names: str) -> str:
    for name in names:
        (root / name).mkdir(parents=True)
    return str(root)


BAD_SOURCES = {
    "missing folder": (lambda root: str(root / "nowhere"), "there is no folder .*nowhere: give one of class folders"),
    "a file": (lambda root: str(noise(0).save(root / "a.png") or root / "a.png"), r"a\.png is no folder"),
    "no class folder": (lambda root: bare(root), "holds no folder: give one that holds a folder of pictures"),
    "one class": (lambda root: str(write_folder(root, {"cat": 2})), "holds the one class 'cat'"),
    "empty class": (lambda root: bare(write_folder(root, {"cat": 2, "dog": 2}), "eel"), "class folder .*eel holds no picture"),
    "unknown name": (lambda root: "cifar11", "'cifar11' is neither a folder of class folders, nor .* 'cifar10"),
    "no pictures in it": (lambda root: "wikipedia/20230601.en", "no feature `image`, but .*: choose a data set of pictures"),
    "no labels in it": (lambda root: "div2k", "no feature `image`|no feature `label`"),
    "not prepared": (lambda root: "imagenet2012", "is not prepared under .*, and preparing it failed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_bad_source_is_refused_in_one_sentence(
    case: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
    make, message = BAD_SOURCES[case]
    with pytest.raises(DataError, match=message) as caught:
        Images(source=make(tmp_path)).prepare(0, Path(), silent)
    assert "\n" not in str(caught.value)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/1\.jpg is empty"):
        Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent)


@pytest.mark.parametrize("small", [0, 2**28])
def test_broken_pictures_are_found_before_training_and_may_be_left_out(
    small: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are all decoded or, of more than `small` bytes, their headers and ends are looked at."""
    from data import file_contents as picture_files

    monkeypatch.setattr(picture_files, "SMALL", small)
    write_folder(tmp_path / "jpg", {"a": 6, "b": 6}, "jpg")
    write_folder(tmp_path / "png", {"a": 6, "b": 6}, "png")
    write_folder(tmp_path / "gif", {"a": 6, "b": 6}, "gif")
    for ending in ("jpg", "png", "gif"):
        folder = tmp_path / ending
        source = Images(source=str(folder), held_out=0.25, crop="none")
        whole = source.prepare(0, Path(), silent)
        cut(folder / "a" / f"3.{ending}")
        (folder / "b" / f"0.{ending}").write_bytes(b"<html>404</html>")
        (folder / "b" / f"gone.{ending}").symlink_to(folder / "nothing")
        for _ in range(2):
            with pytest.raises(DataError, match=rf"a/3\.{ending} is a broken picture.*; 3 of the 13 pictures"):
                source.prepare(0, Path(), silent)
        said: list[str] = []
        left = dataclasses.replace(source, broken="skip").prepare(0, Path(), said.append)
        assert sum(left.counts) == 10 and any("3 of the 13 pictures" in line for line in said)
        assert left.fingerprint != whole.fingerprint
        for examples in (left.training(ImageForm(SIZE), 0), left.held_out(ImageForm(SIZE))):
            examples.batch(np.arange(len(examples)))
        for name in (f"a/3.{ending}", f"b/0.{ending}", f"b/gone.{ending}"):
            (folder / name).unlink()
        assert source.prepare(0, Path(), silent).fingerprint == left.fingerprint


def test_damage_that_only_decoding_shows_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import file_contents as picture_files

    monkeypatch.setattr(picture_files, "SMALL", 0)
    write_folder(tmp_path, {"a": 4, "b": 4}, "png")
    path, source = tmp_path / "a" / "1.png", Images(source=str(tmp_path), held_out=0.25)
    content = path.read_bytes()
    begin = content.index(b"IDAT")
    data = content[begin : begin + 4 + int.from_bytes(content[begin - 4 : begin], "big") // 2]
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    path.write_bytes(content[: begin - 4] + chunk + content[content.index(b"IEND") - 4 :])  # all checksums are right
    prepared = source.prepare(0, Path(), silent)
    with pytest.raises(DataError, match=r"a/1\.png is a broken picture: .*; `lacuna check` names all"):
        for examples in (prepared.training(ImageForm(SIZE), 0), prepared.held_out(ImageForm(SIZE))):
            examples.batch(np.arange(len(examples)))
    survey = source.survey(lambda done, count: None)
    assert [reason.startswith(f"{path} is a broken picture") for reason in survey.broken] == [True]
    with pytest.raises(DataError, match=r"a/1\.png is a broken picture"):
        source.prepare(0, Path(), silent)


def test_a_survey_counts_what_is_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "val", {"cat": 1, "dog": 4})  # one cat is one of those trained on
    (tmp_path / "val" / "dog" / "again.jpg").write_bytes((tmp_path / "val" / "dog" / "2.jpg").read_bytes())
    reported = []
    survey = Images(source=str(tmp_path)).survey(lambda done, count: reported.append((done, count)))
    assert survey.broken == () and (5, 5) in reported and (6, 6) in reported
    assert survey.counts == {
        "pictures that can be read": "11",
        "pictures that came before": "4",
        "held-out pictures that are trained on, too": "3",
        "pictures to train on": "5",
        "pictures held out": "6 (54.5 %)",
        "pixels": f"{11 * 40 * 60:,}",
        "classes": "2, of 4 to 7 pictures",
    }


def test_a_file_is_read_again_only_where_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import file_contents as picture_files

    write_folder(tmp_path, {"a": 4, "b": 4}, "png")
    read, look = [], picture_files._content
    monkeypatch.setattr(picture_files, "_content", lambda path, *settings: read.append(path) or look(path, *settings))
    source = Images(source=str(tmp_path), held_out=0.25)
    first = source.prepare(0, Path(), silent)
    assert len(read) == 8
    noise(900).save(tmp_path / "a" / "2.png")
    noise(901).save(tmp_path / "b" / "99.png")
    (tmp_path / "a" / "0.png").unlink()
    read.clear()
    second = source.prepare(0, Path(), silent)
    assert sorted(read) == [str(tmp_path / "a" / "2.png"), str(tmp_path / "b" / "99.png")]
    fresh = dataclasses.replace(source, cache=str(tmp_path / "another")).prepare(0, Path(), silent)
    assert first.fingerprint != second.fingerprint == fresh.fingerprint


def test_a_png_with_a_wrong_checksum_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import file_contents as picture_files

    monkeypatch.setattr(picture_files, "SMALL", 0)
    path = write_folder(tmp_path, {"a": 3, "b": 3}, "png") / "a" / "1.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a/1\.png is a broken picture"):
        Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent)
