"""Labelled pictures: what is read, what is refused and how, the split, and examples that are functions of seed and place."""

import dataclasses
import functools
import importlib.util
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.host_augmentation import FILL, OPERATIONS, padded_crop, rand_augment, random_box, turned
from data.images.source import Images
from data.loader import load

SIZE = 12
MIXED = Augmentation(mixup=0.2)


def silent(_: str) -> None:
    pass


def noise(seed: int, height: int = 40, width: int = 60) -> Image.Image:
    """Smooth colours, another for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def write_folder(folder: Path, classes: dict[str, int], ending: str = "jpg") -> Path:
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise(100 * number + index).save(folder / name / f"{index}.{ending}")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures") / "zoo", {"cat": 9, "ant": 8, "dog": 7})


def test_a_folder_gives_its_classes_by_name(folder: Path) -> None:
    prepared = Images(source=str(folder), held_out=0.25, crop="none", crop_pct=1.0).prepare(0, Path(), silent)
    assert prepared.vocabulary.labels == ("ant", "cat", "dog")
    assert sum(prepared.counts) == 24 and min(prepared.counts) >= 2
    shown = {}
    for examples in (prepared.training(ImageForm(SIZE), 0), prepared.held_out(ImageForm(SIZE))):
        batch = examples.batch(np.arange(len(examples)))
        assert {name: (x.dtype, x.shape[1:]) for name, x in batch.items()} == {
            "index": (np.dtype("uint32"), ()),
            "pixel_values": (np.dtype("uint8"), (SIZE, SIZE, 3)),
            "labels": (np.dtype("int32"), ()),
        }
        shown |= {x.tobytes(): int(label) for x, label in zip(batch["pixel_values"], batch["labels"], strict=True)}
    expected = {}
    for label, name in enumerate(prepared.vocabulary.labels):
        for path in (folder / name).iterdir():
            image = Image.open(path).resize((SIZE * 60 // 40, SIZE), Image.Resampling.BICUBIC)
            expected[np.asarray(image.crop((3, 0, 15, SIZE))).tobytes()] = label
    assert shown == expected and len(shown) == 24  # the resize and centre crop of every file, and its folder's label


def test_the_split_is_by_picture_and_of_its_seed_alone(folder: Path) -> None:
    settings = Images(source=str(folder), held_out=0.3)
    one, again, other = (
        x.prepare(0, Path(), silent) for x in (settings, settings, dataclasses.replace(settings, split_seed=1))
    )
    assert np.array_equal(one.held_out_items, again.held_out_items)
    assert not np.array_equal(one.held_out_items, other.held_out_items)
    assert sorted([*one.training_items, *one.held_out_items]) == list(range(24))
    assert one.fingerprint == other.fingerprint


def test_a_folder_may_have_splits_of_its_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "val", {"dog": 4})
    prepared = Images(source=str(tmp_path)).prepare(0, Path(), silent)
    assert (prepared.vocabulary.labels, prepared.counts) == (("cat", "dog"), (5, 4))
    assert prepared.held_out(ImageForm(SIZE)).batch(np.arange(4))["labels"].tolist() == [1] * 4
    write_folder(tmp_path / "val", {"eel": 1})
    with pytest.raises(DataError, match=r"val has a class 'eel', which .*train lacks"):
        Images(source=str(tmp_path)).prepare(0, Path(), silent)


def test_the_fingerprint_is_of_the_pictures_alone(tmp_path: Path) -> None:
    one, copy = (write_folder(tmp_path / name, {"a": 2, "b": 2}, "png") for name in ("one", "copy"))
    first, same = (Images(source=str(path)).prepare(0, Path(), silent).fingerprint for path in (one, copy))
    noise(7, 50).save(copy / "a" / "0.png")
    assert first == same != Images(source=str(copy)).prepare(0, Path(), silent).fingerprint


def test_the_digits_of_scikit_learn() -> None:
    prepared = Images(crop="none", crop_pct=1.0).prepare(0, Path(), silent)
    assert prepared.vocabulary.labels == tuple("0123456789")
    assert sum(prepared.counts) == 1797 and 60 < prepared.counts[1] < 120
    batch = prepared.held_out(ImageForm(8)).batch(np.arange(prepared.counts[1]))
    assert batch["pixel_values"].max() == 255 and (batch["pixel_values"] == batch["pixel_values"][..., :1]).all()
    ones, zeros = (batch["pixel_values"][batch["labels"] == label].mean(0) for label in (1, 0))
    assert zeros[3:5, 3:5].mean() < 60 < 150 < ones[3:5, 3:5].mean()  # a 0 is hollow, a 1 is not


def write_tfds(
    name: str,
    root: Path,
    splits: dict[str, list[dict]],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...] = (),
) -> None:
    """The real builder of TFDS, with the few examples given, as array_record."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import sequential_writer

    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    builder = tfds.builder(name, data_dir=root, try_gcs=False, file_format="array_record")
    if names:  # of classes that the builder knows only once it has downloaded them
        builder.info.features["label"].names = names
    os.makedirs(builder.data_dir)
    writer = sequential_writer.SequentialWriter(builder.info, 2, overwrite=True, file_format="array_record")
    writer.initialize_splits(list(splits))
    writer.add_examples(splits)
    writer.close_all()
    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=root))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def cifar(count: int, first: int) -> list[dict]:
    return [
        {"id": f"{first + index}", "image": png(noise(first + index, 32, 32)), "label": index % 10}
        for index in range(count)
    ]


def test_a_prepared_tfds_data_set_is_read_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    write_tfds("cifar10", tmp_path, {"train": cifar(12, 0), "test": cifar(5, 50)}, monkeypatch, names)
    settings = Images(source="cifar10", crop="padded", padding=0, crop_pct=1.0, held_out=0.25)
    prepared = settings.prepare(0, Path(), silent)
    assert prepared.vocabulary.labels == names
    assert sum(prepared.counts) == 12 and 1 <= prepared.counts[1] <= 6
    tested = dataclasses.replace(settings, held_out_split="test").prepare(0, Path(), silent)
    assert tested.counts == (12, 5)
    batch = tested.training(ImageForm(32), 0).batch(np.arange(12))
    found = {x.tobytes(): int(label) for x, label in zip(batch["pixel_values"], batch["labels"], strict=True)}
    assert found == {np.asarray(noise(index, 32, 32)).tobytes(): index % 10 for index in range(12)}
    assert "tensorflow" not in sys.modules
    alone, helped = (
        list(load(tested.training(ImageForm(32), 0), batch_size=4, first_step=0, last_step=3, workers=workers))
        for workers in (0, 1)
    )
    for one, other in zip(alone, helped, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    with pytest.raises(DataError, match="cifar10 has no split 'dev', but train, test"):
        dataclasses.replace(settings, held_out_split="dev").prepare(0, Path(), silent)


def test_broken_pictures_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is the same data; what is broken in it is found and left out."""
    names = tuple(f"class{label}" for label in range(10))
    broken = {"id": "99", "image": png(noise(99, 32, 32))[:-40], "label": 3}
    prints = []
    for root in ("one", "two"):
        with monkeypatch.context() as patched:
            write_tfds("cifar10", tmp_path / root, {"train": [*cifar(12, 0), broken]}, patched, names)
            settings = Images(source="cifar10", cache=str(tmp_path / f"cache-{root}"), held_out=0.25)
            for _ in range(2):
                with pytest.raises(DataError, match=r"picture \d+ of cifar10/.*, train is a broken picture"):
                    settings.prepare(0, Path(), silent)
            left = dataclasses.replace(settings, broken="skip").prepare(0, Path(), silent)
            assert sum(left.counts) == 12
            left.training(ImageForm(8), 0).batch(np.arange(24))
            survey = settings.survey(lambda done, count: None)
            assert len(survey.broken) == 1 and survey.counts["classes"] == "10, of 1 to 2 pictures"
            prints.append(left.fingerprint)
    assert prints[0] == prints[1]


@pytest.mark.parametrize("damage", ["missing", "cut", "another"])
def test_a_file_of_a_data_set_that_is_damaged_is_named(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where everything was read before, and nothing else would be looked at until an example of it is due."""
    from array_record.python import array_record_module

    names = tuple(f"class{label}" for label in range(10))
    write_tfds("cifar10", tmp_path, {"train": cifar(12, 0)}, monkeypatch, names)
    settings = Images(source="cifar10", cache=str(tmp_path / "cache"), held_out=0.25)
    settings.prepare(0, Path(), silent)
    first = min(tmp_path.rglob("*train*.array_record*"))
    if damage == "missing":
        first.unlink()
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:-100])
    else:
        writer = array_record_module.ArrayRecordWriter(str(first), "group_size:1")
        writer.write(b"one record")
        writer.close()
    said = "holds 1 examples of 2" if damage == "another" else "is missing or damaged"
    with pytest.raises(DataError, match=rf"{first.name} {said}: prepare cifar10/.* again"):
        settings.prepare(0, Path(), silent)


def test_a_data_set_to_evaluate_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [
        {"image": png(noise(index)), "original_label": 9, "real_label": [7] * (index % 2) + [index] * (index > 0)}
        | {"file_name": f"{index}.JPEG"}
        for index in range(4)
    ]
    write_tfds("imagenet2012_real", tmp_path, {"validation": pictures}, monkeypatch)
    prepared = Images(source="imagenet2012_real").prepare(0, Path(), silent)
    assert (*prepared.counts, len(prepared.vocabulary.labels)) == (0, 4, 1000)
    labels = prepared.held_out(ImageForm(SIZE)).batch(np.arange(4))["labels"]
    assert labels.shape == (4, 1000)
    assert sorted(np.flatnonzero(row).tolist() for row in labels) == [[], [1, 7], [2], [3, 7]]
    with pytest.raises(DataError, match="imagenet2012_real has no split `train`: it is there to evaluate on alone"):
        prepared.training(ImageForm(SIZE), 0)


def test_a_label_of_no_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of ImageNet's test pictures, which are -1."""
    pictures = [{"image": png(noise(0)), "label": -1, "file_name": "0.JPEG"}] * 2
    write_tfds("imagenet2012", tmp_path, {"train": pictures}, monkeypatch)
    with pytest.raises(
        DataError, match=r"picture 0 of imagenet2012/.*, train has the label -1, and there are 1000.*; 2 of"
    ):
        Images(source="imagenet2012", held_out=0.5).prepare(0, Path(), silent)


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 4])


@pytest.mark.parametrize("small", [0, 2**28])
def test_broken_pictures_are_found_before_training_and_may_be_left_out(
    small: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are all decoded or, of more than `small` bytes, their headers and ends are looked at."""
    from data.images import files as picture_files

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
    from data.images import files as picture_files

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
    from data.images import files as picture_files

    write_folder(tmp_path, {"a": 4, "b": 4}, "png")
    read, look = [], picture_files._content
    monkeypatch.setattr(picture_files, "_content", lambda path, decode: read.append(path) or look(path, decode))
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


def test_one_more_picture_moves_no_other(folder: Path, tmp_path: Path) -> None:
    import shutil

    more = shutil.copytree(folder, tmp_path / "more")
    for index in range(4):
        noise(700 + index).save(more / "ant" / f"0{index}.jpg")

    def sides(source: Path) -> list[set[bytes]]:
        prepared = Images(source=str(source), held_out=0.25).prepare(0, Path(), silent)
        return [
            {Path(prepared.pictures[place].source).read_bytes() for place in places}
            for places in (prepared.training_items, prepared.held_out_items)
        ]

    before, after = sides(folder), sides(more)
    assert before[0] <= after[0] and before[1] <= after[1]


@pytest.mark.parametrize("name", ["train", "test", "val"])
def test_a_class_called_as_a_split_is_a_class(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, {"bus": 3, "car": 3, name: 3})
    (tmp_path / "bus" / ".ipynb_checkpoints").mkdir()
    noise(0).save(tmp_path / "bus" / ".ipynb_checkpoints" / "0.jpg")
    noise(0).save(tmp_path / "car" / "._0.jpg", "jpeg")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    prepared = Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent)
    assert prepared.vocabulary.labels == tuple(sorted(["bus", "car", name])) and sum(prepared.counts) == 9


def test_classes_of_folders_beside_one_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path, {"bus/red": 2, "train/steam": 2, "train/fast": 2})
    assert Images(source=str(tmp_path)).prepare(0, Path(), silent).vocabulary.labels == ("bus", "train")


def test_classes_train_and_test_with_pictures_of_their_own(tmp_path: Path) -> None:
    write_folder(tmp_path, {"test": 2, "train": 2, "train/steam": 2})
    assert Images(source=str(tmp_path)).prepare(0, Path(), silent).vocabulary.labels == ("test", "train")


def test_a_png_with_a_wrong_checksum_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import files as picture_files

    monkeypatch.setattr(picture_files, "SMALL", 0)
    path = write_folder(tmp_path, {"a": 3, "b": 3}, "png") / "a" / "1.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a/1\.png is a broken picture"):
        Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent)


def test_splits_beside_folders_without_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2}, "png")
    write_folder(tmp_path / "test", {"cat": 2, "dog": 2}, "png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "classes.txt").write_text("cat dog")
    settings = Images(source=str(tmp_path), held_out=0.25)
    prepared = settings.prepare(0, Path(), silent)
    assert prepared.vocabulary.labels == ("cat", "dog") and sum(prepared.counts) == 5
    assert dataclasses.replace(settings, held_out_split="test").prepare(0, Path(), silent).counts == (5, 4)


def test_settings_that_mean_nothing_are_refused() -> None:
    for settings in (
        dict(crop="round"), dict(interpolation="cubic"), dict(scale=(0.5, 0.1)), dict(ratio=(0, 1)),
        dict(crop_pct=0), dict(magnitude=11), dict(padding=-1), dict(rand_augment=-1), dict(repeats=0),
        dict(rotation=-1), dict(rotation=181), dict(shear=61),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"{next(iter(settings))}="):
            Images(**settings)
    with pytest.raises(DataError, match="between 0 and 1"):
        Images(held_out=1.0).prepare(0, Path(), silent)
    prepared = Images().prepare(0, Path(), silent)
    with pytest.raises(DataError, match="seed=-1"):
        prepared.training(ImageForm(8), -1)
    with pytest.raises(DataError, match="size=0"):
        prepared.held_out(ImageForm(0))
    with pytest.raises(IndexError):
        prepared.training(ImageForm(8), 0).batch(np.array([-1]))
    held_out = prepared.held_out(ImageForm(8))
    with pytest.raises(IndexError, match=f"0 to {len(held_out) - 1}"):
        held_out.batch(np.array([len(held_out)]))


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="install the `demo` extra"):
        Images().prepare(0, Path(), silent)


# ── The stream ───────────────────────────────────────────────────────────────────────────────────────────────────────


ALL = dict(rotation=10, shear=5, rand_augment=2, repeats=3, augment=MIXED, held_out=0.25)


@pytest.mark.parametrize("settings", [{}, ALL, {**ALL, "crop": "padded"}, {**ALL, "crop": "none"}])
def test_an_example_is_a_function_of_seed_and_place(settings: dict, folder: Path) -> None:
    """Whatever else is in its batch, in whichever process."""
    examples = Images(source=str(folder), **settings).prepare(0, Path(), silent).training(ImageForm(SIZE), 5)
    whole = examples.batch(np.arange(40))
    places = np.array([39, 4, 4, 17, 16])
    some = examples.batch(places)
    source = Images(source=str(folder), **settings)
    blank = source.outline(6).training(ImageForm(SIZE), 0)[0]
    assert whole.keys() == some.keys() == examples[0].keys() == blank.keys()
    for name in whole:
        assert np.array_equal(whole[name][places], some[name])
        assert np.array_equal(whole[name][7], examples[7][name])
        assert (blank[name].shape, blank[name].dtype) == (examples[7][name].shape, examples[7][name].dtype)
    again = (
        Images(source=str(folder), **settings)
        .prepare(0, Path(), silent)
        .training(ImageForm(SIZE), 6)
        .batch(np.arange(40))
    )
    assert not np.array_equal(whole["labels"], again["labels"])
    assert np.array_equal(whole["index"], np.arange(40)) and whole["index"].dtype == np.uint32


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_hosts_change_nothing(workers: int, folder: Path) -> None:
    examples = Images(source=str(folder), **ALL).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    settings = dict(batch_size=12, first_step=1, last_step=3, micro_batches=2)
    expected = [examples.batch(np.arange(step * 12, step * 12 + 12)) for step in (1, 2)]
    shares = [list(load(examples, shard=(host, 2), workers=workers, **settings)) for host in range(2)]
    for step, batch in enumerate(expected):
        for name, array in batch.items():
            found = np.concatenate([shares[host][step][name] for host in range(2)], axis=1)  # [micro, host rows]
            assert np.array_equal(found.reshape(array.shape), array)


def recognised(examples, indices: np.ndarray) -> list[int]:
    return examples.places[examples.items(indices)].tolist()


def test_each_epoch_visits_every_picture_once_in_an_order_of_its_own(folder: Path) -> None:
    examples = Images(source=str(folder), held_out=0.25).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    epochs = [recognised(examples, np.arange(len(examples)) + len(examples) * epoch) for epoch in range(3)]
    assert all(sorted(epoch) == examples.places.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeats_are_neighbours_and_never_mixed_with_themselves(repeats: int, folder: Path) -> None:
    examples = (
        Images(source=str(folder), held_out=0.25, repeats=repeats)
        .prepare(0, Path(), silent)
        .training(ImageForm(SIZE), 0)
    )
    examples = dataclasses.replace(examples, places=np.arange(18))
    shown = np.array(recognised(examples, np.arange(18 * repeats)))
    assert np.bincount(shown)[examples.places].tolist() == [repeats] * 18
    for picture in examples.places:
        where = np.flatnonzero(shown == picture)
        assert where[-1] - where[0] == 2 * (repeats - 1)
    assert (shown != shown[np.arange(len(shown)) ^ 1]).all()
    if repeats > 1:
        pixels = examples.batch(np.array([0, 2]))["pixel_values"]
        assert not np.array_equal(*pixels)  # altered anew


def test_the_other_picture_is_that_of_the_neighbour(folder: Path) -> None:
    examples = Images(source=str(folder), **ALL).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    batch = examples.batch(np.arange(24))
    for name, other in (("pixel_values", "other_pixel_values"), ("labels", "other_labels")):
        assert np.array_equal(batch[other], batch[name][np.arange(24) ^ 1])
    assert np.array_equal(examples.batch(np.array([5]))["other_pixel_values"][0], batch["pixel_values"][4])


def test_a_picture_needed_twice_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import examples as images

    examples = Images(source=str(folder), augment=MIXED).prepare(0, Path(), silent).training(ImageForm(SIZE), 0)
    count, opened = [], images.opened
    monkeypatch.setattr(images, "opened", lambda *source: count.append(source) or opened(*source))
    examples.batch(np.arange(10))
    assert len(count) == 10


# ── What becomes of a picture ────────────────────────────────────────────────────────────────────────────────────────


def test_random_boxes_have_the_shares_and_shapes_asked_for() -> None:
    generator, size = np.random.default_rng(0), (300, 400)
    boxes = np.array([random_box(generator, size, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 400).all() and (boxes[:, 3] <= 300).all()
    share, ratio = width * height / 120_000, width / height
    assert 0.075 < share.min() < 0.1 and share.max() > 0.95
    assert 0.73 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.37
    small = share < 0.4  # all of these fit: so the shapes are as drawn, and the places uniform
    assert abs(np.log(ratio[small]).mean()) < 0.02
    assert abs(np.corrcoef(share[small], ratio[small])[0, 1]) < 0.06
    free = boxes[small, 0] / np.maximum(400 - width[small], 1)
    assert abs(free.mean() - 0.5) < 0.03 and abs(free.std() - 12**-0.5) < 0.03
    # Shares are uniform where every draw fits: below 9/16 here, where the widest is as high as the picture.
    inside = share[share < 0.5]
    assert abs(inside.mean() - (0.08 + 0.5) / 2) < 0.01


def test_a_box_that_never_fits_is_the_middle() -> None:
    for size, expected in (((10, 1000), (493, 0, 506, 10)), ((1000, 10), (0, 493, 10, 506))):
        assert random_box(np.random.default_rng(0), size, (0.9, 1.0), (3 / 4, 4 / 3)) == expected
    assert random_box(np.random.default_rng(0), (1, 1), (0.08, 1.0), (3 / 4, 4 / 3)) == (0, 0, 1, 1)


def test_a_random_part_is_that_part_resized(tmp_path: Path) -> None:
    """By the long way: the part cut out and resized, to where Pillow's interpolation at its edges sees more of it."""
    write_folder(tmp_path, {"a": 3, "b": 3}, "png")
    settings = Images(source=str(tmp_path), scale=(0.3, 1.0))
    examples = settings.prepare(0, Path(), silent).training(ImageForm(SIZE), 3)
    batch = examples.batch(np.arange(5))
    for index in range(5):
        picture = examples.pictures[int(examples.places[examples.items(np.array([index]))[0]])]
        key = np.array([np.random.SeedSequence(3).generate_state(1, np.uint64)[0], index], np.uint64)
        box = random_box(np.random.Generator(np.random.Philox(key=key)), (40, 60), settings.scale, settings.ratio)
        expected = np.asarray(Image.open(picture.source).crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        inner = np.abs(batch["pixel_values"][index].astype(int) - expected)[2:-2, 2:-2]
        assert inner.max() <= 3


def test_padded_crops_move_the_picture_by_up_to_the_padding() -> None:
    image, generator = noise(0, 8, 8), np.random.default_rng(0)
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    windows = {padded[r : r + 8, c : c + 8].tobytes(): (r, c) for r in range(5) for c in range(5)}
    seen = [windows[np.asarray(padded_crop(generator, image, 2)).tobytes()] for _ in range(500)]
    assert len(set(seen)) == 25


def test_a_jpeg_decoded_small_is_nearly_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import examples as images

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        noise(ord(name), 640, 960).save(tmp_path / name / "0.jpg", quality=95)
        noise(9 + ord(name), 640, 960).save(tmp_path / name / "1.jpg", quality=95)
    examples = Images(source=str(tmp_path), held_out=0.25).prepare(0, Path(), silent).training(ImageForm(32), 0)
    decoded, sizes = images.decoded, []
    monkeypatch.setattr(images, "decoded", lambda image: sizes.append(image.size) or decoded(image))
    fast = examples.batch(np.arange(24))["pixel_values"].astype(int)
    assert {(240, 160), (480, 320)} <= set(sizes) and len(sizes) == 24
    monkeypatch.setattr(images, "GAP", 1e9)
    slow = examples.batch(np.arange(24))["pixel_values"].astype(int)
    assert np.abs(fast - slow).max() <= 6 and np.abs(fast - slow).mean() < 0.5


def affine(*matrix: float):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, resample=3, fillcolor=FILL)


def levels(image: Image.Image, change) -> Image.Image:
    return Image.fromarray(change(np.asarray(image).astype(int)).clip(0, 255).astype(np.uint8))


class Noted(np.random.Generator):
    """A generator that draws these numbers, then its own, and keeps them all."""

    def __init__(self, *numbers: float):
        super().__init__(np.random.Philox(0))
        self.numbers, self.drawn = list(numbers), []

    def uniform(self, least: float, most: float) -> float:
        self.drawn.append(self.numbers.pop(0) if self.numbers else super().uniform(least, most))
        return self.drawn[-1]


def test_pictures_are_turned_about_their_middle() -> None:
    image = noise(5, 16, 16)
    quarter = turned(Noted(90.0, 0.0), image, 180, 0, 0)
    assert np.array_equal(np.asarray(quarter), np.asarray(image.rotate(-90)))
    same = turned(Noted(0.0, 0.0), image, 30, 30, 3)
    assert np.array_equal(np.asarray(same), np.asarray(image))
    slanted = np.asarray(turned(Noted(0.0, 45.0), image, 0, 45, 0))
    for row in range(16):  # at 45° a row is moved by its distance from the middle, and black comes into view
        moved = np.zeros((16, 3), np.uint8)
        for column in range(16):
            source = int(np.floor(column + 0.5 + (row + 0.5 - 8)))
            if 0 <= source < 16:
                moved[column] = np.asarray(image)[row, source]
        assert np.array_equal(slanted[row], moved), row


def test_the_angles_of_turned_pictures_fill_their_range() -> None:
    generator, image = Noted(), noise(0)
    for _ in range(500):
        turned(generator, image, 20, 10, 0)
    for angles, most in ((generator.drawn[::2], 20), (generator.drawn[1::2], 10)):
        assert -most <= min(angles) < -0.97 * most and 0.97 * most < max(angles) <= most
        assert abs(np.mean(angles)) < 0.1 * most


def test_the_operations_of_rand_augment() -> None:
    """Against timm's, written out for a level of 9, to the side of a negative sign where there are sides."""
    from PIL import ImageEnhance, ImageOps

    image = noise(3, 20, 30)
    expected = [
        ImageOps.autocontrast(image),
        ImageOps.equalize(image),
        levels(image, lambda x: 255 - x),
        image.rotate(-27, resample=3, fillcolor=FILL),
        levels(image, lambda x: x // 128 * 128),
        levels(image, lambda x: np.where(x < 26, x, 255 - x)),
        levels(image, lambda x: np.where(x < 128, x + 99, x)),
        ImageEnhance.Color(image).enhance(0.19),
        ImageEnhance.Contrast(image).enhance(0.19),
        ImageEnhance.Brightness(image).enhance(0.19),
        ImageEnhance.Sharpness(image).enhance(0.19),
        affine(1, -0.27, 0, 0, 1, 0)(image),
        affine(1, 0, 0, -0.27, 1, 0)(image),
        affine(1, 0, -0.405 * 30, 0, 1, 0)(image),
        affine(1, 0, 0, 0, 1, -0.405 * 20)(image),
    ]
    assert len(OPERATIONS) == len(expected)
    for place, (operation, other) in enumerate(zip(OPERATIONS, expected, strict=True)):
        found, other = (np.asarray(x).astype(int) for x in (operation(image, 0.9, -1, 3), other))
        assert np.abs(found - other).max() <= 1, place
        assert place in (0, 1) or not np.array_equal(found, np.asarray(image)), place
    for level in (0.0, 1.0):
        assert all(operation(image, level, sign, 2).size == image.size for operation in OPERATIONS for sign in (-1, 1))


def test_rand_augment_does_half_of_what_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from data.images import host_augmentation

    done = []
    operations = [
        lambda image, level, sign, resample, number=number: done.append((number, level, sign)) or image
        for number in range(15)
    ]
    monkeypatch.setattr(host_augmentation, "OPERATIONS", operations)
    generator, image = np.random.default_rng(0), noise(0)
    for _ in range(3000):
        rand_augment(generator, image, operations=2, magnitude=9.0, magnitude_std=0.5, resample=3)
    numbers, drawn, signs = (np.array(x) for x in zip(*done, strict=True))
    assert abs(len(done) / 6000 - 0.5) < 0.03
    assert np.abs(np.bincount(numbers, minlength=15) / len(done) * 15 - 1).max() < 0.25
    assert abs((signs == 1).mean() - 0.5) < 0.03
    assert drawn.max() <= 1 and abs(drawn.mean() - 0.9) < 0.01 and abs(np.median(drawn) - 0.9) < 0.005
    assert 0.04 < drawn.std() < 0.051  # 0.05, less what is cut off at 1


def test_importing_brings_in_neither_tensorflow_nor_torch() -> None:
    names = "pictures processor host_augmentation sources source"
    code = "import sys\n" + "".join(f"import data.images.{name}\n" for name in names.split())
    code += "print(sorted({'tensorflow', 'torch', 'models', 'sklearn', 'tensorflow_datasets'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert run.stdout.strip() == "[]"
