"""Folders of small models with random weights, for every task."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from data.text.tokenizers import train_tokenizer
from models import bart, bert, hub, t5
from tests.inference.small_folders import TEXTS


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(TEXTS, vocab_size=90, path=path)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path):
    """Folder of a model with the head asked for."""

    def of(head: str, initializer_range: float = 0.5) -> Path:
        path = tmp_path_factory.getbasetemp() / "pipelines" / f"{head}-{initializer_range}"
        if not path.exists():
            model = getattr(bert, head)(
                bert.BertConfig(
                    vocab_size=90,
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    max_position_embeddings=40,
                    initializer_range=initializer_range,
                    labels=("bad", "so so", "good"),
                )
            )
            variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
            hub.save(path, model, variables, tokenizer=tokenizer)
        return path

    return of


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a BART with a vocabulary of bytes, and of a T5 with one without a mask token."""
    root = tmp_path_factory.mktemp("writers")
    train_tokenizer(TEXTS, kind="byte_bpe", vocab_size=300, path=root / "bytes.json")
    train_tokenizer(TEXTS, kind="unigram", vocab_size=60, path=root / "unigram.json")
    text = (root / "unigram.json").read_text().replace("<mask>", "<none>")
    (root / "unigram.json").write_text(text)
    shape = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2)
    shape |= dict(d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, init_std=0.5)
    models = {
        "bart": bart.BartForConditionalGeneration(bart.BartConfig(**shape, vocab_size=300)),
        "t5": t5.T5ForConditionalGeneration(
            t5.T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        ),
    }
    for (name, model), kind in zip(models.items(), ("bytes", "unigram"), strict=True):
        variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
        hub.save(root / name, model, variables, tokenizer=root / f"{kind}.json")
    return {name: root / name for name in models}
