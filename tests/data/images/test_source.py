"""Labelled pictures: what is read, by which labels, and how it is split."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError
from data.forms import ImageForm
from data.images.source import Images
from data.loader import load
from tests.data.images.samples import ALL, SIZE, cifar, noise, png, silent, write_folder, write_tfds


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


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_that_is_there_several_times_is_on_one_side(seed: int, folder: Path, tmp_path: Path) -> None:
    """Whatever it is called, and in whichever class."""
    for name in ("cat", "ant", "dog"):
        for copy in ("cat", "ant", "copy"):
            shutil.copytree(folder / name, tmp_path / copy / name)
    prepared = Images(source=str(tmp_path), held_out=0.3, split_seed=seed).prepare(0, Path(), silent)
    sides = [
        {Path(prepared.pictures[place].source).read_bytes() for place in items}
        for items in (prepared.training_items, prepared.held_out_items)
    ]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 24 and sum(prepared.counts) == 72


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


def test_importing_brings_in_neither_tensorflow_nor_torch() -> None:
    names = "pictures processor host_augmentation sources source"
    code = "import sys\n" + "".join(f"import data.images.{name}\n" for name in names.split())
    code += "print(sorted({'tensorflow', 'torch', 'models', 'sklearn', 'tensorflow_datasets'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert run.stdout.strip() == "[]"
