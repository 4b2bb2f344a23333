"""Pictures for tests: smooth colours in folders, and TFDS data sets of a few examples."""

import functools
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images.augmentation import Augmentation

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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 4])


ALL = dict(rotation=10, shear=5, rand_augment=2, repeats=3, augment=MIXED, held_out=0.25)


def recognised(examples, indices: np.ndarray) -> list[int]:
    return examples.places[examples.items(indices)].tolist()
