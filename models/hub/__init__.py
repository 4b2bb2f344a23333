"""Published checkpoints in and out: folders with `config.json` and `*.safetensors`, as `transformers` reads and writes them.

Where a folder is asked for, a name on the Hugging Face hub will do, too.

An architecture's names stand in `models/hub/tables/<model_type>.py`, its config and its classes in `models/<model_type>.py`.
Neither torch nor a pickle is ever touched.

A `config.json` means what `transformers` takes it to mean. What is not implemented is refused with the field's name: decoders
made of encoders (`is_decoder` of BERT, ELECTRA and T5), attention to an encoder in GPT-2 (`add_cross_attention`), `rope_type`s
of Llama but default, linear, dynamic and llama3, its `partial_rotary_factor`, layers that are skipped in training and heads
that are not tied (`encoder_layerdrop`, `decoder_layerdrop`, `tie_word_embeddings` of BART, mBART, Marian and Whisper),
vocabularies that Marian's encoder and decoder have each alone, activations with parameters (`prelu`, `xielu`), tokens' positions
other than absolute ones in BERT (`position_embedding_type`), adapters in Wav2Vec2 (`add_adapter`, `adapter_attn_dim`), and
norms before layers or other strides in Mask2Former (`pre_norm`, `common_stride`, `feature_strides`).
`tests/parity/test_config_fields.py` tries every field.
"""

import dataclasses
import importlib
import inspect
import logging
import pkgutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Key

from models.config import ModelConfig, ModelError, nearest
from models.hub import files, flax_trees, tables, tokenizer_folder
from models.hub.beside import GENERATION, Beside, generation_config
from models.hub.downloads import checkpoint_folder
from models.hub.names import NameTable
from models.hub.reading import Read, differ, published_names, read_parameters, refuse_untied
from models.model import Model

__all__ = ["checkpoint_folder", "load", "model_class", "outline", "save"]

log = logging.getLogger("lacuna")


def model_types() -> list[str]:
    """All architectures, by the `model_type` of their published configs."""
    return sorted(module.name for module in pkgutil.iter_modules(tables.__path__))


def name_table(model_type: str) -> NameTable:
    """The names of an architecture.

    Raises:
        ModelError: there is none, with the nearest of those there are.
    """
    known = model_types()
    if model_type not in known:
        raise ModelError(f"unknown model_type {model_type!r}: {nearest(str(model_type), known)}")
    return importlib.import_module(f"models.hub.tables.{model_type}").TABLE


def names_of(config: ModelConfig) -> NameTable:
    """The names of an architecture's models of this shape, those among them that the shape decides (`of_shape`)."""
    table = name_table(config.model_type)
    return table.extended(*table.of_shape(config))


def classes_in(model_type: str, base: type) -> dict[str, type]:
    """The classes that `models/<model_type>.py` defines on `base`, but those that are themselves bases."""
    module = importlib.import_module(f"models.{model_type}")
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
        if not inspect.isabstract(value)
    }


def model_classes(model_type: str) -> dict[str, type[Model]]:
    """The models in `models/<model_type>.py`, by the names that `transformers` has for them."""
    return classes_in(model_type, Model)


def model_class(model_type: str, architecture: str) -> type[Model]:
    """The class that `transformers` calls `architecture`, in `models/<model_type>.py`."""
    classes = model_classes(model_type)
    if architecture not in classes:
        raise ModelError(
            f"unknown architecture {architecture!r} of {model_type}: {nearest(architecture, list(classes))}"
        )
    return classes[architecture]


def config_class(model_type: str) -> type[ModelConfig]:
    """The config that stands beside the models of this type, and is called so."""
    (config,) = (x for x in classes_in(model_type, ModelConfig).values() if x.model_type == model_type)
    return config


LABELS = ("id2label", "label2id")
"""Keys of a `config.json` that name the outputs of a classification head."""

COLLECTIONS = ("params", "batch_stats")
"""The variables that a published file holds: parameters, and the running statistics of batch norms."""


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """{path: variable} of what a file holds. Parameters and statistics have no path in common."""
    variables = nn.unbox(dict(variables))
    return {path: x for name in COLLECTIONS for path, x in flatten_dict(variables.get(name, {}), sep="/").items()}


def nested(values: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The inverse of `flat`: variables to apply `model` with."""
    shapes = variable_shapes(model)
    return {
        name: unflatten_dict({path: values[path] for path in flatten_dict(shapes[name], sep="/")}, sep="/")
        for name in COLLECTIONS
        if name in shapes
    }


def variable_shapes(model: Model) -> dict[str, Any]:
    """Shapes and dtypes of all that `init` makes."""
    return nn.unbox(model.boxed_shapes())


def shapes_of(model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape and dtype} of a model's parameters, and of the running statistics of its batch norms."""
    return flat(variable_shapes(model))


def read_config(folder: Path, changes: Mapping[str, Any]) -> tuple[dict[str, Any], ModelConfig]:
    """A folder's `config.json` as it stands, and as a config of ours with `changes`."""
    path = folder / "config.json"
    published = files.read_json(path)
    model_type = published.get("model_type")
    if not isinstance(model_type, str):
        raise ModelError(f"{path}: model_type={model_type!r}, expected the name of an architecture")
    name_table(model_type)
    wanted = config_class(model_type)
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
    names = published.get("architectures") or [
        config_class(published["model_type"]).__name__.removesuffix("Config") + "Model"
    ]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{folder / 'config.json'}: architectures={names!r}, expected a list of class names")
    return names[0]


def outline(folder: str | Path, **config_changes: Any) -> Model:
    """The model that a published folder (or name on the hub) holds, by its `config.json`; no parameters are read."""
    folder = checkpoint_folder(folder, only="config.json")
    published, config = read_config(folder, config_changes)
    return model_class(config.model_type, architecture_named(folder, published))(config)


def load(
    folder: str | Path,
    *,
    architecture: str | type[Model] | None = None,
    initialize: Key[Array, ""] | None = None,
    **config_changes: Any,
) -> tuple[Model, dict[str, Any]]:
    """Read a published checkpoint: `model.apply(variables, **inputs)` then gives what it gives.

    Heads that the file has and the class does not want are left out, and the log says so. A model that `transformers` has
    only in parts is read from these, as `save` writes them.

    Args:
        folder: with `config.json` and `model.safetensors`, or several files and their index, or `flax_model.msgpack`
            where there is no safetensors file; or a name on the Hugging Face hub.
        architecture: the class wanted, where it is not the one that `config.json` names; tensors outside the base model
            that nobody here knows are then left out too.
        initialize: key of fresh parameters for those that the file lacks (a new head), and of a head for another number of
            `labels`; without it they are an error.
        config_changes: fields of the config to set otherwise, such as `dtype` or `scan_layers`.

    Raises:
        ModelError: what is wrong with the folder; all missing, unexpected and misshapen tensors at once.
    """
    folder = checkpoint_folder(folder)
    published, config = read_config(folder, config_changes)
    wanted = architecture.__name__ if isinstance(architecture, type) else architecture
    model_type = model_class(config.model_type, wanted or architecture_named(folder, published))
    if model_type.joined is not None:
        return model_type.joined(
            lambda part, its: load(folder / part, architecture=its, initialize=initialize, **config_changes)
        )
    tree = flax_trees.alone(folder)
    with nullcontext(flax_trees.tensors(folder)) if tree else files.tensors(folder) as handles:
        if not tree:
            files.refuse_quantised(folder, published, handles)
        model, read = read_model(
            folder, handles, model_type(config), fresh=initialize is not None, chosen=wanted is not None
        )
    count = len(config.labels_of(published))
    relabelled = initialize is not None and len(config_changes.get("labels", ())) not in (0, count)
    if relabelled:
        read = read.without_heads()
    if read.unexpected or read.misshapen or (read.missing and initialize is None):
        lists = {"missing": read.missing, "unexpected": read.unexpected, "misshapen": read.misshapen}
        wrong = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        hint = "" if read.unexpected or read.misshapen else " (load(..., initialize=key) makes the missing ones)"
        raise ModelError(f"{folder} does not fit {type(model).__name__}: {wrong}{hint}")
    if read.left_out:
        level = logging.WARNING if wanted is None else logging.INFO
        names = ", ".join(read.left_out)
        log.log(level, "%s: left out, for %s has no use for them: %s", folder, type(model).__name__, names)
    parameters = read.parameters
    if read.missing:
        why = f"lacks them or has them for {count} other labels" if relabelled and read.heads else "lacks them"
        log.warning("%s: freshly initialised, for the file %s: %s", folder, why, ", ".join(read.missing))
        parameters = flat(model.init(initialize, **model.blank())) | parameters
    return model, nested(parameters, model)


def read_model(
    folder: Path, handles: Mapping[str, Any], model: Model, *, fresh: bool, chosen: bool
) -> tuple[Model, Read]:
    """The model without the optional parts that a folder's tensors lack and with the parameters that it has untied, and what
    was read for it.

    Args:
        fresh: whether parts that are missing get fresh parameters, so that the model keeps them.
        chosen: whether somebody chose the class, so that heads that nobody here knows are left out.
    """
    shapes = shapes_of(model)
    table, base = names_of(model.config).of(shapes), names_of(model.config).is_base(shapes)
    there = published_names(folder, handles, table, base)
    for name, attributes in table.optional.items():
        if base and not fresh and table.today(name, base) not in there:
            model = type(model)(model.config, **attributes)
    for alias, changes in table.untied.items():
        if alias in table.aliases and differ(handles, there, alias, table.aliases[alias]):
            model = type(model)(dataclasses.replace(model.config, **changes))
    shapes = shapes_of(model)
    table = names_of(model.config).of(shapes)
    read, used = read_parameters(handles, there, table, shapes)
    refuse_untied(folder, handles, there, table, used, base)
    return model, read.with_unused(set(there), used, table, base, chosen)


def save(
    folder: str | Path,
    model: Model,
    variables: dict[str, Any],
    tokenizer: str | Path | None = None,
    max_shard_size: int | str = "5GB",
    beside: Beside | None = None,
) -> None:
    """Write a checkpoint folder that `transformers` loads with no missing and no unexpected key.

    Each file appears whole or not at all. A model that `transformers` has only in parts is written as these (`Model.published`).

    Args:
        tokenizer: a `tokenizer.json` to lie beside it, with the settings that `transformers.AutoTokenizer` wants.
        max_shard_size: bytes (or `"5GB"`) from which on the tensors are split into several files with an index.
        beside: what lay beside the parameters where the model was read from, to go along: files, and keys of `config.json`.
            Without it a model that writes text gets a `generation_config.json` of the special tokens in its config.

    Raises:
        ModelError: the variables are not those of the model, or a file cannot be read or written.
    """
    check_shapes(model, variables)
    for name, (part, its) in model.published(variables).items():
        save_one(Path(folder) / name, part, its, tokenizer, max_shard_size, beside)


def check_shapes(model: Model, variables: Mapping[str, Any]) -> None:
    """Raise `ModelError` where the variables are not those of the model."""
    shapes = {path: shape.shape for path, shape in shapes_of(model).items()}
    given = {path: np.shape(value) for path, value in flat(variables).items()}
    if given != shapes:
        differ = sorted(
            f"{path} {given.get(path, 'missing')} for {shapes.get(path, 'none')}"
            for path in given.keys() | shapes.keys()
            if given.get(path) != shapes.get(path)
        )
        raise ModelError(f"these are not the parameters of this {type(model).__name__}: {', '.join(differ)}")


def save_one(
    folder: Path,
    model: Model,
    variables: Mapping[str, Any],
    tokenizer: str | Path | None,
    max_shard_size: int | str,
    beside: Beside | None = None,
) -> None:
    """`save`, of a model that `transformers` has."""
    config = model.config
    table = names_of(config)
    values = flat(variables)
    published: dict[str, np.ndarray] = {}
    for path, name in table.by_ours(values).items():
        value = np.asarray(values[path])
        if name.layered:
            published |= {name.of_layer(i): name.publish(x) for i, x in enumerate(value)}
        else:
            published[name.published] = name.publish(value)
    copies = table.of(values).copies
    published |= {copy: published[name] for copy, name in copies.items()}
    if table.counted:
        counters = [name.removesuffix("running_mean") for name in published if name.endswith(".running_mean")]
        published |= {f"{name}num_batches_tracked": np.zeros((), np.int64) for name in counters}
    published |= table.constants(config, table.is_base(values))
    published = {table.written(name, config, published.keys()): x for name, x in published.items()}
    tokenizer_files = None if tokenizer is None else tokenizer_folder.tokenizer_files(tokenizer, model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    files.write_tensors(folder, published, max_shard_size)
    about = {"architectures": [type(model).__name__], **config.to_json(), "dtype": config.param_dtype}
    if model.labelled is False:  # transformers would shape the head by them
        about = {name: value for name, value in about.items() if name not in LABELS}
    if beside is not None:
        labels = {name: value for name, value in beside.config.items() if name in LABELS}
        about = {**beside.config, **about, **labels}
    files.write_json(folder / "config.json", about)
    generation = generation_config(model) if beside is None else None
    if generation is not None:
        files.write_json(folder / GENERATION, generation)
    if beside is not None:
        beside.write(folder)
    if tokenizer_files is not None:
        tokenizer_folder.write(folder, tokenizer_files)
