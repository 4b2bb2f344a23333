"""Published checkpoints in and out: folders with `config.json` and `*.safetensors`, as `transformers` reads and writes them.

An architecture's names stand in `models/hub/<model_type>.py`, its config and its classes in `models/<model_type>.py`.
Neither torch nor a pickle is ever touched.
"""

import importlib
import importlib.util
import logging
import pkgutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Key

from models.config import ModelConfig, ModelError, nearest
from models.hub import files
from models.hub.names import NameTable

__all__ = ["load", "model_class", "save"]

log = logging.getLogger("lacuna")


def name_table(model_type: str) -> NameTable:
    """The names of an architecture.

    Raises:
        ModelError: there is none, with the nearest of those there are.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in ("files", "names"))
    if model_type not in known:
        raise ModelError(f"unknown model_type {model_type!r}: {nearest(str(model_type), known)}")
    return importlib.import_module(f"models.hub.{model_type}").TABLE


def model_class(model_type: str, architecture: str) -> type[nn.Module]:
    """The class that `transformers` calls `architecture`, in `models/<model_type>.py`."""
    module = importlib.import_module(f"models.{model_type}")
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    known = [name for name in classes if "For" in name or name.endswith("Model")]
    if architecture not in known:
        raise ModelError(f"unknown architecture {architecture!r} of {model_type}: {nearest(architecture, known)}")
    return classes[architecture]


def config_class(model_type: str) -> type[ModelConfig]:
    """The config that stands beside the models of this type."""
    module = importlib.import_module(f"models.{model_type}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ModelConfig) and value.__module__ == module.__name__
    )


def shapes_of(model: nn.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape and dtype} of a model's parameters."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    return flatten_dict(nn.unbox(variables)["params"], sep="/")


def load(
    folder: str | Path,
    *,
    architecture: str | type[nn.Module] | None = None,
    initialize: Key[Array, ""] | None = None,
    **config_changes: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Read a published checkpoint: `model.apply(variables, **inputs)` then gives what it gives.

    Args:
        folder: with `config.json` and `model.safetensors`, or several files and their index.
        architecture: the class wanted, where it is not the one that `config.json` names; parts that it has no use for
            are then left out.
        initialize: key of fresh parameters for those that the file lacks (a new head); without it they are an error.
        config_changes: fields of the config to set otherwise, such as `dtype` or `scan_layers`.

    Raises:
        ModelError: what is wrong with the folder; all missing, unexpected and misshapen tensors at once.
    """
    folder = Path(folder)
    published = files.read_json(folder / "config.json")
    model_type = str(published.get("model_type", ""))
    table = name_table(model_type)
    config = config_class(model_type).from_json(published, **config_changes)
    wanted = architecture.__name__ if isinstance(architecture, type) else architecture
    named = (published.get("architectures") or [f"{model_type.capitalize()}Model"])[0]
    model = model_class(model_type, wanted or named)(config)
    shapes = shapes_of(model)
    base = not any(path.startswith(table.prefix[1]) for path in shapes)
    with files.tensors(folder) as handles:
        there = {table.today(name, base): name for name in handles}
        if wanted is None and base and "pooler.dense.weight" not in there:
            model = type(model)(config, add_pooling_layer=False)
            shapes = shapes_of(model)
        parameters, missing, misshapen, used = {}, [], [], set()
        for path, name in table.by_ours(shapes).items():
            shape, layered = shapes[path], "{layer}" in name.published
            parts = [name.published.format(layer=i) for i in range(shape.shape[0])] if layered else [name.published]
            absent = [part for part in parts if part not in there]
            used |= set(parts)
            if absent:
                missing += absent
                continue
            arrays = [name.transform(files.read(handles, there[part])) for part in parts]
            expected = shape.shape[1:] if layered else shape.shape
            wrong = [(part, x.shape) for part, x in zip(parts, arrays, strict=True) if x.shape != expected]
            if wrong:
                misshapen += [f"{part} {found} for {expected}" for part, found in wrong]
                continue
            whole = np.stack(arrays) if layered else arrays[0]
            parameters[path] = jnp.asarray(whole, shape.dtype)
    prefix = table.prefix[0]
    extra = {name for name in there if name not in used}
    extra -= {name.removeprefix(prefix) if base else name for name in {*table.aliases, *table.ignored}}
    left_out, unexpected = (sorted(extra), []) if wanted is not None else ([], sorted(extra))
    if left_out:
        log.info("%s: left out, for %s has no use for them: %s", folder, wanted, ", ".join(left_out))
    if unexpected or misshapen or (missing and initialize is None):
        lists = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        raise ModelError(f"{folder} does not fit {type(model).__name__}: {said}")
    if missing:
        log.warning("%s: freshly initialised, for the file lacks them: %s", folder, ", ".join(missing))
        fresh = nn.unbox(model.init(initialize, jnp.zeros((1, 2), jnp.int32)))["params"]
        parameters = flatten_dict(fresh, sep="/") | parameters
    return model, {"params": unflatten_dict(parameters, sep="/")}


def save(folder: str | Path, model: nn.Module, variables: dict[str, Any], tokenizer: str | Path | None = None) -> None:
    """Write a checkpoint folder that `transformers` loads with no missing and no unexpected key.

    Each file appears whole or not at all.

    Args:
        tokenizer: a `tokenizer.json` to lie beside it.

    Raises:
        ModelError: it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    config = model.config
    table = name_table(config.model_type)
    flat = flatten_dict(nn.unbox(variables["params"]), sep="/")
    published: dict[str, np.ndarray] = {}
    for path, name in table.by_ours(flat).items():
        value = np.asarray(flat[path])
        if "{layer}" in name.published:
            published |= {name.published.format(layer=i): name.transform(x) for i, x in enumerate(value)}
        else:
            published[name.published] = name.transform(value)
    files.write_tensors(folder, published)
    about = {"architectures": [type(model).__name__], **config.to_json(), "dtype": config.param_dtype}
    files.write_json(folder / "config.json", about)
    if tokenizer is not None:
        write_tokenizer(folder, Path(tokenizer), config)


def write_tokenizer(folder: Path, tokenizer: Path, config: ModelConfig) -> None:
    """`tokenizer.json` and the little that `transformers.AutoTokenizer` wants to know beside it."""
    text = tokenizer.read_text(encoding="utf-8")
    files.write_whole(folder / "tokenizer.json", lambda path: path.write_text(text, encoding="utf-8"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        **special,
    }
    files.write_json(folder / "tokenizer_config.json", about)
