"""Names on the Hugging Face hub: what `huggingface_hub` has in its cache, or fetches into it."""

import re
from pathlib import Path

from models.config import ModelError
from models.hub import flax_trees
from models.hub.files import elsewhere

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
WANTED = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model", "*.spm", "*.jinja", "README.md", "LICENSE*"]
"""The files of a repository that are read here or go along when it is written again; no pickles."""


def checkpoint_folder(name: str | Path, only: str | None = None) -> Path:
    """The folder that `name` means: itself, or the cached copy of the model `google-bert/bert-base-uncased`.

    A folder comes first. A `Path` is always one. With `HF_HUB_OFFLINE=1` nothing is fetched.

    Args:
        only: the one file that is wanted of a model on the hub.

    Raises:
        ModelError: neither a folder, nor a model that is cached or can be fetched.
    """
    path = Path(name).expanduser()
    if isinstance(name, Path) or path.exists() or not NAME.fullmatch(name):
        return path
    if only is not None:
        return fetched(name, [only])
    folder = fetched(name, WANTED)
    if not any(folder.glob("[!.]*.safetensors")):
        folder = fetched(name, [*WANTED, flax_trees.SINGLE, flax_trees.INDEX, "flax_model-*.msgpack"])
    return folder


def fetched(name: str, patterns: list[str]) -> Path:
    """The newest snapshot of a repository with its files that fit; where the hub cannot be reached, the cached one."""
    import huggingface_hub  # takes a third of a second, and most runs need none of it

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # of half a dozen libraries
        if getattr(error, "snapshot_path", None):  # cached in part: what is missing is an error when it is read
            return Path(error.snapshot_path)
        hint = elsewhere(Path(name)).replace(": ", " (", 1)
        hint += ")" if hint else ""
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"no checkpoint folder {name!r}{hint}, and no such model in the Hugging Face cache"
            f" {huggingface_hub.constants.HF_HUB_CACHE} nor to be fetched: {reason}"
        ) from None
