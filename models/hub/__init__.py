"""Published checkpoints in and out: folders with `config.json` and `*.safetensors`, as `transformers` reads and writes them.

An architecture's names stand in `models/hub/<model_type>.py`, its config and its classes in `models/<model_type>.py`.
Neither torch nor a pickle is ever touched.
"""

import dataclasses
import importlib
import logging
import pkgutil
from collections.abc import Iterable, Mapping
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
from models.hub.names import Name, NameTable

__all__ = ["load", "model_class", "save"]

log = logging.getLogger("lacuna")

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""What a published parameter may be; quantised ones mean nothing without their scales."""


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


def read_config(folder: Path, changes: Mapping[str, Any]) -> tuple[dict[str, Any], ModelConfig]:
    """A folder's `config.json` as it stands, and as a config of ours with `changes`."""
    path = folder / "config.json"
    published = files.read_json(path)
    kind = published.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(f"{path}: model_type={kind!r}, expected the name of an architecture")
    name_table(kind)
    wanted = config_class(kind)
    fields = [field.name for field in dataclasses.fields(wanted)]
    for name in changes:
        if name not in fields:
            raise ModelError(f"{wanted.__name__} has no field {name!r}: {nearest(name, fields)}")
    try:
        return published, wanted.from_json(published, **changes)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{path} describes no {wanted.__name__}: {error}") from None


def architecture_named(folder: Path, published: Mapping[str, Any]) -> str:
    """The class that a `config.json` names, the base model where it names none."""
    names = published.get("architectures") or [f"{published['model_type'].capitalize()}Model"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{folder / 'config.json'}: architectures={names!r}, expected a list of class names")
    return names[0]


def load(
    folder: str | Path,
    *,
    architecture: str | type[nn.Module] | None = None,
    initialize: Key[Array, ""] | None = None,
    **config_changes: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Read a published checkpoint: `model.apply(variables, **inputs)` then gives what it gives.

    Heads that the file has and the class does not want are left out, and the log says so.

    Args:
        folder: with `config.json` and `model.safetensors`, or several files and their index.
        architecture: the class wanted, where it is not the one that `config.json` names; tensors outside the base model
            that nobody here knows are then left out too.
        initialize: key of fresh parameters for those that the file lacks (a new head); without it they are an error.
        config_changes: fields of the config to set otherwise, such as `dtype` or `scan_layers`.

    Raises:
        ModelError: what is wrong with the folder; all missing, unexpected and misshapen tensors at once.
    """
    folder = Path(folder)
    published, config = read_config(folder, config_changes)
    table = name_table(config.model_type)
    wanted = architecture.__name__ if isinstance(architecture, type) else architecture
    model = model_class(config.model_type, wanted or architecture_named(folder, published))(config)
    shapes = shapes_of(model)
    base = table.is_base(shapes)
    with files.tensors(folder) as handles:
        there = published_names(folder, handles, table, base)
        for name, attributes in table.optional.items():
            if base and initialize is None and table.today(name, base) not in there:
                model = type(model)(config, **attributes)
                shapes = shapes_of(model)
        parameters, missing, misshapen, used = read_parameters(handles, there, table.by_ours(shapes), shapes)
        refuse_untied(folder, handles, there, table, used)
    extra = set(there) - used - {table.today(name, base) for name in (*table.aliases, *table.ignored)}
    known = {table.today(name.published, base) for name in table.names}
    left_out = sorted(name for name in extra if name in known or (wanted is not None and not table.in_base(name)))
    unexpected = sorted(extra - set(left_out))
    if unexpected or misshapen or (missing and initialize is None):
        lists = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        hint = "" if unexpected or misshapen else " (load(..., initialize=key) makes the missing anew)"
        raise ModelError(f"{folder} does not fit {type(model).__name__}: {said}{hint}")
    if left_out:
        log.log(
            logging.WARNING if wanted is None else logging.INFO,
            "%s: left out, for %s has no use for them: %s",
            folder,
            type(model).__name__,
            ", ".join(left_out),
        )
    if missing:
        log.warning("%s: freshly initialised, for the file lacks them: %s", folder, ", ".join(missing))
        fresh = nn.unbox(model.init(initialize, jnp.zeros((1, 2), jnp.int32)))["params"]
        parameters = flatten_dict(fresh, sep="/") | parameters
    return model, {"params": unflatten_dict(parameters, sep="/")}


def read_parameters(
    handles: Mapping[str, Any],
    there: Mapping[str, str],
    names: Mapping[str, Name],
    shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[dict[str, Array], list[str], list[str], set[str]]:
    """The parameters called `names`, the published tensors that are missing and misshapen, and all that were wanted."""
    parameters, missing, misshapen, used = {}, [], [], set()
    for path, name in names.items():
        shape, layered = shapes[path], "{layer}" in name.published
        parts = [name.published.format(layer=i) for i in range(shape.shape[0])] if layered else [name.published]
        used |= set(parts)
        absent = [part for part in parts if part not in there]
        missing += absent
        if absent:
            continue
        arrays = [name.transform(files.read(handles, there[part])) for part in parts]
        expected = shape.shape[1:] if layered else shape.shape
        wrong = [
            f"{part} {x.dtype}{list(x.shape)} for {shape.dtype}{list(expected)}"
            for part, x in zip(parts, arrays, strict=True)
            if x.shape != expected or x.dtype.name not in FLOATS
        ]
        misshapen += wrong
        if not wrong:
            parameters[path] = jnp.asarray(np.stack(arrays) if layered else arrays[0], shape.dtype)
    return parameters, missing, misshapen, used


def refuse_untied(
    folder: Path, handles: Mapping[str, Any], there: Mapping[str, str], table: NameTable, used: set[str]
) -> None:
    """Raise where a part in use has two tensors that ours ties, and they differ."""
    for alias, name in table.aliases.items():
        part = alias.rsplit(".", 2)[0]
        if alias not in there or there[alias] == there[name] or not any(wanted.startswith(part) for wanted in used):
            continue
        if not np.array_equal(files.read(handles, there[alias]), files.read(handles, there[name])):
            raise ModelError(f"{folder}: {alias} differs from {name}, and untied ones are not implemented")


def published_names(folder: Path, names: Iterable[str], table: NameTable, base: bool) -> dict[str, str]:
    """{name of today: name in the files} of all tensors; one that is there only under an alias has its own name too."""
    there: dict[str, str] = {}
    for name in names:
        today = table.today(name, base)
        if today in there:
            raise ModelError(f"{folder} holds {today} twice: as {there[today]} and as {name}")
        there[today] = name
    for alias, name in table.aliases.items():
        if table.today(alias, base) in there:
            there.setdefault(table.today(name, base), there[table.today(alias, base)])
    return there


def save(folder: str | Path, model: nn.Module, variables: dict[str, Any], tokenizer: str | Path | None = None) -> None:
    """Write a checkpoint folder that `transformers` loads with no missing and no unexpected key.

    Each file appears whole or not at all.

    Args:
        tokenizer: a `tokenizer.json` to lie beside it.

    Raises:
        ModelError: the variables are not those of the model, or a file cannot be read or written.
    """
    folder = Path(folder)
    config = model.config
    table = name_table(config.model_type)
    flat = flatten_dict(nn.unbox(dict(variables).get("params", {})), sep="/")
    shapes = {path: shape.shape for path, shape in shapes_of(model).items()}
    found = {path: np.shape(value) for path, value in flat.items()}
    if found != shapes:
        differ = sorted(
            f"{path} {found.get(path, 'missing')} for {shapes.get(path, 'none')}"
            for path in found.keys() | shapes.keys()
            if found.get(path) != shapes.get(path)
        )
        raise ModelError(f"these are not the parameters of this {type(model).__name__}: {', '.join(differ)}")
    published: dict[str, np.ndarray] = {}
    for path, name in table.by_ours(flat).items():
        value = np.asarray(flat[path])
        if "{layer}" in name.published:
            published |= {name.published.format(layer=i): name.transform(x) for i, x in enumerate(value)}
        else:
            published[name.published] = name.transform(value)
    try:
        text = None if tokenizer is None else Path(tokenizer).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the tokenizer {tokenizer}: {error}") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    files.write_tensors(folder, published)
    about = {"architectures": [type(model).__name__], **config.to_json(), "dtype": config.param_dtype}
    if getattr(type(model), "unlabelled", False):  # transformers would shape the head by them
        about = {name: value for name, value in about.items() if name not in ("id2label", "label2id")}
    files.write_json(folder / "config.json", about)
    if text is not None:
        write_tokenizer(folder, text, config)


def write_tokenizer(folder: Path, text: str, config: ModelConfig) -> None:
    """`tokenizer.json`, which holds `text`, and the little that `transformers.AutoTokenizer` wants to know beside it."""
    files.write_whole(folder / "tokenizer.json", lambda path: path.write_text(text, encoding="utf-8"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "model_max_length": config.max_position_embeddings,
        **special,
    }
    files.write_json(folder / "tokenizer_config.json", about)
