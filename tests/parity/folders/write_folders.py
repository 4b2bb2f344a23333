"""Writes folders as the installed `transformers` does, for test_folders.py: `python write_folders.py FOLDER`.

Needs torch and transformers alone, so that an environment with another version of them can run it. Of every class in `MODELS`
there are `single`, `sharded` (several files and an index), `bfloat16`, `float16` and, where the classes of Flax are still
there, `flax`; beside each `expected.npz`, the inputs and the logits that its numbers give in f32.
"""

import copy
import os
import sys
from pathlib import Path

os.environ.setdefault("USE_TF", "0")

import numpy as np
import torch
import transformers

LAYERS = dict(num_hidden_layers=2, num_attention_heads=4, hidden_size=32, intermediate_size=48, vocab_size=120)
GPT2 = dict(n_layer=2, n_head=4, n_embd=32, n_positions=32, vocab_size=120, bos_token_id=1, eos_token_id=2)
BART = dict(
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=32,
    vocab_size=120,
)
T5 = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=120)
MODELS = {
    "bert": ("BertForPreTraining", LAYERS),
    "bert-classifier": ("BertForSequenceClassification", LAYERS | {"num_labels": 3}),
    "distilbert": ("DistilBertForMaskedLM", dict(n_layers=2, n_heads=4, dim=32, hidden_dim=48, vocab_size=120)),
    "electra": ("ElectraForPreTraining", LAYERS | {"embedding_size": 24}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "llama": ("LlamaForCausalLM", LAYERS | {"num_key_value_heads": 2}),
    "llama-tied": ("LlamaForCausalLM", LAYERS | {"tie_word_embeddings": True}),
    "bart": ("BartForConditionalGeneration", BART),
    "bart-classifier": ("BartForSequenceClassification", BART),
    "mbart": ("MBartForConditionalGeneration", BART),
    "marian": ("MarianMTModel", BART | {"pad_token_id": 1, "decoder_start_token_id": 1}),
    "t5": ("T5ForConditionalGeneration", T5 | {"decoder_start_token_id": 0}),
    "t5-v1.1": (
        "T5ForConditionalGeneration",
        T5 | {"decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
}
FORMS = ("single", "sharded", "bfloat16", "float16", "flax")


def configuration(architecture: str, settings: dict):
    return getattr(transformers, architecture).config_class(**settings)


def perturbed(architecture: str, settings: dict):
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(configuration(architecture, settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # the sinusoids of Marian are none of the training's
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def write(model, folder: Path, form: str) -> bool:
    """The folder of one form, with its `expected.npz`; false where this version of the library cannot write it."""
    kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    tied = model.config.tie_word_embeddings
    if form == "flax":
        import jax

        kind = getattr(transformers, "Flax" + type(model).__name__, None)
        # `FlaxLlamaForCausalLM` does not tie its head, whatever its config says.
        if kind is None or "dummy" in kind.__module__ or (kind.__name__.startswith("FlaxLlama") and tied):
            return False
        model.save_pretrained(folder / "torch")
        clip = jax.numpy.clip  # once with `a_min` and `a_max`, which those classes still say
        jax.numpy.clip = lambda x, a_min=None, a_max=None, **bounds: clip(x, a_min, a_max, **bounds)
        kind.from_pretrained(folder / "torch", from_pt=True).save_pretrained(folder)
        jax.numpy.clip = clip
    else:
        kind = kinds.get(form, torch.float32)
        stored = copy.deepcopy(model).to(kind)
        stored.save_pretrained(folder, **({"max_shard_size": "15KB"} if form == "sharded" else {}))
        with torch.no_grad():  # not `stored.float()`: what Llama computes from its config is not rounded by a file
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(parameter.to(kind).float())
    random = np.random.default_rng(0)
    inputs = {"input_ids": random.integers(5, 120, (3, 14)), "attention_mask": np.ones((3, 14), np.int64)}
    inputs["attention_mask"][1, 9:] = 0
    if model.config.is_encoder_decoder:
        classifier = type(model).__name__.endswith("SequenceClassification")
        if classifier:
            inputs["input_ids"][:, -1] = model.config.eos_token_id
            inputs["attention_mask"][:] = 1
        else:
            inputs["decoder_input_ids"] = random.integers(5, 120, (3, 6))
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(value) for name, value in inputs.items()})
    logits = outputs.get("logits", outputs.get("prediction_logits"))
    np.savez(folder / "expected.npz", logits=logits.numpy(), **{f"input {name}": x for name, x in inputs.items()})
    return True


def main() -> None:
    root = Path(sys.argv[1])
    for name, (architecture, settings) in MODELS.items():
        for form in FORMS:
            if not write(perturbed(architecture, settings), root / name / form, form):
                print(f"{name} {form}: transformers {transformers.__version__} cannot write it")


if __name__ == "__main__":
    main()
