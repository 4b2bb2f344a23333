"""Safetensors folders: reading tensors one at a time, writing them whole or not at all."""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.config import ModelError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def elsewhere(folder: Path) -> str:
    """Where the model is that somebody looks for in `folder`, as the end of a sentence; empty where nobody knows."""
    if (folder / "model" / "config.json").is_file():
        return f": it is the folder of a run, whose model is in {folder / 'model'}"
    if (folder / "checkpoints").is_dir():
        return (
            ": it is the folder of a run without a model yet. The same `lacuna train` goes on to its end, and `lacuna export`"
            " writes one of its checkpoints"
        )
    missing = next((place for place in (*reversed(folder.parents), folder) if not place.exists()), None)
    if missing is None:
        return ""
    names = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    match = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    if not match:
        return ""
    nearest = missing.parent / match[0] / folder.relative_to(missing)
    return f": the nearest on disk is {str(nearest if nearest.exists() else missing.parent / match[0])!r}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that a checkpoint folder must have."""
    if not path.parent.is_dir():
        raise ModelError(f"no checkpoint folder {str(path.parent)!r}{elsewhere(path.parent)}")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent} has no {path.name}{elsewhere(path.parent) or ': expected a published checkpoint folder'}"
        ) from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value


def indexed(folder: Path, single: str, index: str) -> list[Path]:
    """The file `single`, or those that `index` names: the whole one before the pieces, as `transformers` chooses too."""
    if (folder / single).is_file() or not (folder / index).exists():
        return [path for path in [folder / single] if path.is_file()]
    weight_map = read_json(folder / index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelError(f"{folder / index} has no weight_map from tensors to files")
    paths = [folder / Path(name).name for name in sorted(set(weight_map.values()))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which its index names")
    return paths


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder."""
    paths = indexed(folder, SINGLE, INDEX)
    if not paths and not (folder / INDEX).exists():
        paths = sorted(path for path in folder.glob("[!.]*.safetensors") if path.is_file())
    if not paths:
        pickles = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
        )
        hint = f"; {pickles[0]} is a pickle, which can run code and is never read" if pickles else ""
        hint += (
            ": take the copy in safetensors that the hub makes of a published one (its revision is refs/pr/N: `hf download NAME"
            " --revision refs/pr/N --local-dir FOLDER`), or open it elsewhere with transformers, where you trust it, and"
            " save_pretrained writes safetensors"
        ) * bool(pickles)
        raise ModelError(f"{folder} has no *.safetensors{hint}")
    return paths


@contextmanager
def tensors(folder: Path) -> Iterator[Mapping[str, Any]]:
    """{name: handle} of all tensors in a folder; `read(handle, name)` reads one."""
    with ExitStack() as stack:
        handles = {}
        for path in shards(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="numpy"))
                handles |= dict.fromkeys(file.keys(), file)
            except (SafetensorError, OSError, ValueError, OverflowError) as error:
                raise ModelError(f"{path} is no whole safetensors file ({error}): fetch or write it again") from None
        yield handles


PLAIN = ("F64", "F32", "F16", "BF16", "I64", "BOOL")
"""What a parameter that means itself, and a counter or mask beside it, is stored as."""


def refuse_quantised(folder: Path, published: Mapping[str, Any], handles: Mapping[str, Any]) -> None:
    """Raise where a `config.json` says that its tensors are quantised, and they are: other numbers say what they mean."""
    about = published.get("quantization_config")
    stored = ((name, file.get_slice(name).get_dtype()) for name, file in (handles.items() if about else ()))
    first = next(((name, dtype) for name, dtype in stored if dtype not in PLAIN), None)
    if first is None:
        return
    method = about.get("quant_method") if isinstance(about, Mapping) else None
    raise ModelError(
        f"{folder} is quantised ({method or 'quantization_config'}: {first[0]} is {first[1]}), which is not read here: take"
        " the checkpoint that it was made of, or have transformers dequantise it and save it again"
    )


def read(handles: Mapping[str, Any], name: str) -> np.ndarray:
    """One tensor as a numpy array, of the type it is stored as (bfloat16 too).

    Raises:
        ModelError: it cannot be read, or numpy has no such type (float8, which are nothing without their scales).
    """
    try:
        return np.asarray(handles[name].get_tensor(name))
    except (AttributeError, TypeError):
        dtype = handles[name].get_slice(name).get_dtype()
        raise ModelError(
            f"tensor {name!r} is stored as {dtype}, which is not read here: take a checkpoint in float32, float16 or bfloat16"
        ) from None
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelError(f"tensor {name!r} cannot be read ({error}): fetch or write the file again") from None


def write_whole(writers: Mapping[Path, Callable[[Path], Any]]) -> None:
    """Let each `writer(temporary path)` write a file; they become the paths only when all are whole and on the disk."""
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in writers}
    path, before = None, "what was there before is untouched"
    try:
        for path, temporary in temporaries.items():
            temporary.touch()
            mode = temporary.stat().st_mode
            writers[path](temporary)
            os.chmod(temporary, mode)  # safetensors lets nobody else read what it writes
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
            before = "some files of the folder are new, some old: write it again"
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot write {path}: {reason}; {before}") from error
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def parse_size(size: int | str) -> int:
    """Bytes in `5GB`, `200MB`, `1000`, … (powers of 1,000, as `transformers` counts)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(size).strip(), re.IGNORECASE)
    parsed = round(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if parsed < 1:
        raise ModelError(f"max_shard_size={size!r}: expected a number of bytes, such as '5GB'")
    return parsed


def split(values: Mapping[str, np.ndarray], most: int) -> list[dict[str, np.ndarray]]:
    """`values` in order, as parts of at most `most` bytes each; a larger one is a part of its own."""
    parts: list[dict[str, np.ndarray]] = []
    room = 0
    for name, value in values.items():
        if not parts or value.nbytes > room:
            parts.append({})
            room = most
        parts[-1][name] = value
        room -= value.nbytes
    return parts


def write_tensors(folder: Path, values: Mapping[str, np.ndarray], max_shard_size: int | str) -> None:
    """Write `model.safetensors`, or where it would be larger than `max_shard_size` several files and their index."""

    def writer(part: Mapping[str, np.ndarray]) -> Callable[[Path], Any]:
        contiguous = {name: np.asarray(value, order="C") for name, value in part.items()}  # scalars stay scalars
        return lambda path: save_file(contiguous, str(path), metadata={"format": "pt"})

    parts = split(values, parse_size(max_shard_size))
    if len(parts) <= 1:
        write_whole({folder / SINGLE: writer(values)})
        return
    names = [SINGLE.replace(".", f"-{number + 1:05}-of-{len(parts):05}.") for number in range(len(parts))]
    sizes = [(value.size, value.nbytes) for value in values.values()]
    index = {
        "metadata": {"total_parameters": sum(size for size, _ in sizes), "total_size": sum(size for _, size in sizes)},
        "weight_map": {name: file for file, part in zip(names, parts, strict=True) for name in part},
    }
    writers = {folder / file: writer(part) for file, part in zip(names, parts, strict=True)}
    write_whole({**writers, folder / INDEX: json_writer(index)})
    (folder / SINGLE).unlink(missing_ok=True)  # it would be read instead


def json_writer(value: Mapping[str, Any]) -> Callable[[Path], Any]:
    return lambda path: path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole({path: json_writer(value)})
