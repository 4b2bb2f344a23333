"""Writes a folder of each `Flax…` class as `transformers` 4.57 does, for `from_flax.py`: `python flax_folders.py FOLDER`.

Needs transformers and Flax alone, of an environment with another version of them. A folder has a small random model and
`expected.npz`, its inputs and what it gives for them. `FOLDER/classes.json` names them all, with what failed.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("USE_TF", "0")
os.environ.setdefault("USE_TORCH", "0")

import jax
import numpy as np
import transformers

SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=99)
POSITIONS = dict(max_position_embeddings=24)
ENCODER_DECODER = dict(
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    vocab_size=99,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
    decoder_start_token_id=2,
    forced_eos_token_id=2,
    **POSITIONS,
)
SETTINGS = {
    "Bert": SHAPE | POSITIONS,
    "DistilBert": dict(n_layers=2, n_heads=4, dim=32, hidden_dim=48, vocab_size=99, **POSITIONS),
    "Electra": SHAPE | POSITIONS | dict(embedding_size=24),
    "GPT2": dict(n_layer=2, n_head=4, n_embd=32, n_positions=24, vocab_size=99, bos_token_id=1, eos_token_id=2),
    "Llama": SHAPE | POSITIONS | dict(num_key_value_heads=2),
    "Bart": ENCODER_DECODER,
    "MBart": ENCODER_DECODER,
    "Marian": ENCODER_DECODER,
    "T5": dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=99, decoder_start_token_id=0),
    "ViT": dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
    ),
    "ResNet": dict(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], layer_type="basic"),
}
"""Fields of the small models, by the beginning of their classes' names."""

OUTPUTS = (
    *("logits", "prediction_logits", "seq_relationship_logits", "start_logits", "end_logits"),
    *("last_hidden_state", "pooler_output"),
)
"""What is compared, where a class gives it."""


def classes() -> dict[str, list[str]]:
    """{architecture: names of its Flax classes}, those that are no base."""
    found = {}
    for name in SETTINGS:
        module = getattr(transformers, f"Flax{name}PreTrainedModel").__module__
        names = sys.modules[module].__all__
        found[name] = [each for each in names if each.startswith(f"Flax{name}") and "PreTrainedModel" not in each]
    return found


def perturbed(tree):
    """Parameters none of which is zero or one; running variances stay positive."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.asarray(x + 0.2 * (random.random(x.shape) - 0.5), np.float32), jax.device_get(tree)
    )


def inputs_of(kind: type, config) -> dict[str, np.ndarray]:
    """Two examples, the second of them with padding."""
    random = np.random.default_rng(1)
    if "pixel_values" in kind.__call__.__code__.co_varnames:
        return {"pixel_values": random.normal(size=(2, 3, 32, 32)).astype(np.float32)}
    shape = (2, 3, 9) if kind.__name__.endswith("MultipleChoice") else (2, 9)
    inputs = {"input_ids": random.integers(5, 99, shape), "attention_mask": np.ones(shape, int)}
    if config.model_type in ("bert", "electra"):  # those of ELECTRA are 1 in Flax where they are not given, in torch 0
        inputs["token_type_ids"] = (np.arange(9) > 4) + np.zeros(shape, int)
    if kind.__name__.endswith("SequenceClassification") and config.is_encoder_decoder:
        inputs["input_ids"][:, -1] = config.eos_token_id  # its place is what is classified
    else:
        inputs["attention_mask"][1, ..., 6:] = 0
        if config.is_encoder_decoder and not kind.__name__.endswith(("QuestionAnswering", "EncoderModel", "CausalLM")):
            inputs["decoder_input_ids"] = random.integers(5, 99, (2, 5))
    return inputs


def write(kind: type, config, folder: Path, **settings) -> None:
    """A folder with a model and `expected.npz`."""
    model = kind(config, seed=0, input_shape=(1, 32, 32, 3)) if config.model_type == "resnet" else kind(config, seed=0)
    model.params = perturbed(model.params)
    inputs = inputs_of(kind, model.config)
    outputs = model(**inputs)
    model.save_pretrained(folder, **settings)
    found = {name: np.asarray(outputs[name]) for name in OUTPUTS if name in outputs and outputs[name] is not None}
    np.savez(folder / "expected.npz", **{f"input {name}": x for name, x in inputs.items()}, **found)


def main() -> None:
    clip = jax.numpy.clip  # once with `a_min` and `a_max`, which those classes still say
    jax.numpy.clip = lambda x, a_min=None, a_max=None, **bounds: clip(x, a_min, a_max, **bounds)
    root, failed = Path(sys.argv[1]), {}
    found = classes()
    for architecture, names in found.items():
        for name in names:
            kind = getattr(transformers, name)
            config = kind.config_class(**SETTINGS[architecture])
            if name.endswith("CausalLM") and architecture in ("Bert", "Electra", "Bart"):
                config.is_decoder = True
            try:
                write(kind, config, root / name)
                if name == "FlaxBertForPreTraining":
                    write(kind, config, root / f"{name}-sharded", max_shard_size="40KB")
                if name == "FlaxResNetModel":
                    config.layer_type = "bottleneck"
                    write(kind, config, root / f"{name}-bottleneck")
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
    about = {"version": transformers.__version__, "classes": found, "failed": failed}
    (root / "classes.json").write_text(json.dumps(about, indent=2))


if __name__ == "__main__":
    main()
