"""Safetensors folders: reading tensors one at a time, writing them whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.config import ModelError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that a checkpoint folder must have."""
    if not path.parent.is_dir():
        raise ModelError(f"no checkpoint folder {str(path.parent)!r}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}: expected a published checkpoint folder") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder: the whole one before the pieces, as `transformers` chooses too."""
    if (folder / SINGLE).is_file():
        paths = [folder / SINGLE]
    elif (folder / INDEX).exists():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{folder / INDEX} has no weight_map from tensors to files")
        paths = [folder / Path(name).name for name in sorted(set(weight_map.values()))]
    else:
        paths = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which its index names")
    if not paths:
        pickles = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
        )
        hint = (
            f"; {pickles[0]} is a pickle, which can run code and is never read: open it with transformers where you trust"
            " it, and save_pretrained writes safetensors"
            if pickles
            else ""
        )
        raise ModelError(f"{folder} has no *.safetensors{hint}")
    return paths


@contextmanager
def tensors(folder: Path) -> Iterator[Mapping[str, Any]]:
    """{name: handle} of all tensors in a folder; `read(handle, name)` reads one."""
    with ExitStack() as stack:
        handles = {}
        for path in shards(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="flax"))
                handles |= dict.fromkeys(file.keys(), file)
            except (SafetensorError, OSError, ValueError, OverflowError) as error:
                raise ModelError(f"{path} is no whole safetensors file ({error}): fetch or write it again") from None
        yield handles


def read(handles: Mapping[str, Any], name: str) -> np.ndarray:
    """One tensor as a numpy array (bfloat16 too)."""
    try:
        return np.asarray(handles[name].get_tensor(name))
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelError(f"tensor {name!r} cannot be read ({error}): fetch or write the file again") from None


def write_whole(path: Path, write) -> None:
    """Let `write(temporary path)` write a file that becomes `path` only when it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        os.chmod(temporary, mode)  # safetensors lets nobody else read what it writes
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    except SafetensorError as error:
        raise ModelError(f"cannot write {path}: {error}; what was there before is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(folder: Path, values: Mapping[str, np.ndarray]) -> None:
    contiguous = {name: np.ascontiguousarray(value) for name, value in values.items()}
    write_whole(folder / SINGLE, lambda path: save_file(contiguous, str(path), metadata={"format": "pt"}))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))
