"""What lies beside the parameters of a folder: settings of generation, and what goes along when a published folder is
written again."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.hub import files, flax_trees
from models.model import Model

GENERATION = "generation_config.json"

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WEIGHTS = (".safetensors", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".ot", ".tflite", ".mlmodel", ".npz")
CODE = (".py", ".pyc")

WRITTEN = ("config.json", files.SINGLE, files.INDEX)
"""What `hub.save` writes itself."""

STALE = ("transformers_version", "torch_dtype", "_name_or_path", "_commit_hash")
"""Keys of a `config.json` that are about the file which they stand in."""
UNFIT = {
    "auto_map": "it names code, which does not go along",
    "quantization_config": "the parameters are written as plain numbers",
}
"""Keys of a `config.json` that are not true of the folder that is written, and why."""


def generation_config(model: Model) -> dict[str, Any] | None:
    """The `generation_config.json` of a model: the special tokens that generation reads in its config, under the same names.

    `None` where the model writes no text.
    """
    if not model.generates:
        return None
    values = dataclasses.asdict(model.config)
    return {name: value for name, value in values.items() if name.endswith("_token_id") and value is not None}


@dataclasses.dataclass(frozen=True)
class Beside:
    """What a published folder holds beside its parameters.

    Attributes:
        folder: where it lies.
        files: what goes along, as paths inside of the folder.
        config: the `config.json`, without what is not true of the folder that is written.
        left: {name: why} of what does not go along.
    """

    folder: Path
    files: tuple[Path, ...]
    config: Mapping[str, Any]
    left: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Beside":
        """Of a folder whose model can be loaded.

        Raises:
            ModelError: its `config.json` cannot be read.
        """
        published = files.read_json(folder / "config.json")
        config = {name: value for name, value in published.items() if name not in (*STALE, *UNFIT)}
        left = {f"{name} of config.json": why for name, why in UNFIT.items() if published.get(name)}
        along = []
        flax = (flax_trees.SINGLE, flax_trees.INDEX) if flax_trees.alone(folder) else ()
        read = [path.name for path in (files.indexed(folder, *flax) if flax else files.shards(folder))]
        for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
            inside = path.relative_to(folder)
            if str(inside) in (*WRITTEN, *flax, *read):
                continue
            why = reason(path, inside)
            if why is None:
                along.append(inside)
            elif not any(part.startswith(".") for part in inside.parts[:-1]):
                left[str(inside)] = why
        return cls(folder, tuple(along), config, left)

    def write(self, target: Path) -> None:
        """Copy the files into `target`, each whole or not at all."""
        for name in self.files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_whole({target / name: self._copy(self.folder / name) for name in self.files})

    @staticmethod
    def _copy(source: Path):
        return lambda path: shutil.copyfile(source, path)


def reason(path: Path, inside: Path) -> str | None:
    """Why a file does not go along; `None` where it does."""
    if any(part.startswith(".") for part in inside.parts):
        return "it is hidden"
    if not path.is_file():
        return "it is no file, or a link to none"
    if inside.name.endswith(PICKLES):
        return "a pickle can run code"
    if inside.name.endswith(WEIGHTS) or inside.name.endswith(
        tuple(f"{ending}.index.json" for ending in (*PICKLES, *WEIGHTS))
    ):
        return "it holds parameters in another form"
    if inside.name.endswith(CODE):
        return "it is code"
    return None
