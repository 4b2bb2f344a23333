"""What the table of folders that go out is made of: small models, published folders of each kind, and how two are compared."""

import dataclasses
import inspect
import itertools
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from data.text.token_ids import with_token_ids
from data.text.tokenizers import Vocabulary
from inference.pipeline import pipeline, writing_task
from models import hub
from tests.parity.reference import difference, perturbed, tensors, torch, transformers
from tests.parity.test_tokenizer_files import WORDS, about, byte_pairs, piece_model, wordpieces

SIZE, LONGEST, NEW = 600, 48, 6
ASKED = (
    "the river ran past the mill",
    "a cat",
    "more lines, things: the miller's tabs",
)
"""A batch of three lengths."""
ODD = (
    *ASKED,
    "The  River: it's NAÏVE, 123 ½ — “isn't it?”",
    " the mill ",
    "ひら 天气\tand\nlines\n\nmore 🙂",
    "x",
)
"""Texts whose ids are compared."""
BART = dict(
    vocab_size=SIZE,
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=24,
    decoder_ffn_dim=24,
    max_position_embeddings=LONGEST,
)
BERT = dict(
    vocab_size=SIZE,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=LONGEST,
)
GPT2 = dict(vocab_size=SIZE, n_embd=16, n_layer=1, n_head=2, n_positions=LONGEST)
T5 = dict(vocab_size=SIZE, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        shape: fields of the config.
        published: the tokenizers that it is published with, keys of `PUBLISHED`.
    """

    model_type: str
    head: str
    shape: dict[str, Any]
    published: tuple[str, ...]


ARCHITECTURES = {
    "BERT": Architecture("bert", "BertForMaskedLM", BERT, ("vocab.txt", "BertTokenizer")),
    "DistilBERT": Architecture(
        "distilbert",
        "DistilBertForMaskedLM",
        dict(vocab_size=SIZE, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=LONGEST),
        ("vocab.txt", "BertTokenizer"),
    ),
    "ELECTRA": Architecture(
        "electra", "ElectraForPreTraining", {**BERT, "embedding_size": 8}, ("vocab.txt", "BertTokenizer")
    ),
    "GPT-2": Architecture("gpt2", "GPT2LMHeadModel", GPT2, ("vocab.json of GPT-2", "GPT2Tokenizer")),
    "DistilGPT-2": Architecture("gpt2", "GPT2LMHeadModel", {**GPT2, "n_embd": 8}, ("vocab.json of GPT-2",)),
    "Llama": Architecture(
        "llama",
        "LlamaForCausalLM",
        {**BERT, "num_key_value_heads": 1},
        ("tokenizer.model", "LlamaTokenizer", "tokenizer.json of Llama 3"),
    ),
    "Transformer": Architecture("transformer", "TransformerForConditionalGeneration", BART, ()),
    "Marian": Architecture(
        "marian", "MarianMTModel", {**BART, "pad_token_id": 2, "decoder_start_token_id": 2}, ("source.spm",)
    ),
    "BART": Architecture("bart", "BartForConditionalGeneration", BART, ("vocab.json of BART", "RobertaTokenizer")),
    "mBART": Architecture("mbart", "MBartForConditionalGeneration", BART, ("sentencepiece.bpe.model",)),
    "T5": Architecture("t5", "T5ForConditionalGeneration", T5, ("spiece.model", "T5Tokenizer")),
    "T5 1.1": Architecture(
        "t5",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        ("spiece.model",),
    ),
}


def sentences() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=12)) + draw.choice(".!?,;:—") for _ in range(200)] + list(ODD)


# ── Tokenizers as they are published ─────────────────────────────────────────────────────────────────────────────────


def write_words(folder: Path) -> None:
    wordpieces(about(folder, "bert", do_lower_case=True, model_max_length=32), sentences())


def write_pairs_of_gpt2(folder: Path) -> None:
    byte_pairs(about(folder, "gpt2", model_max_length=1024), sentences(), ["<|endoftext|>"])


def write_pairs_of_bart(folder: Path) -> None:
    byte_pairs(about(folder, "bart"), sentences(), ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


def write_pairs_of_llama3(folder: Path) -> None:
    """Byte pairs behind `<|begin_of_text|>`, with a chat template, a side and an end that the settings name."""
    from tokenizers import decoders, models, pre_tokenizers, processors

    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    byte_pairs(about(folder, "llama"), sentences(), special)
    tokenizer = Tokenizer(
        models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"), ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", 0)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    about(
        folder,
        "llama",
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        padding_side="left",
        chat_template="{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
        model_input_names=["input_ids", "attention_mask"],
    )


def write_pieces_of_llama(folder: Path) -> None:
    piece_model(
        sentences(), about(folder, "llama", add_bos_token=True, add_eos_token=False) / "tokenizer.model", vocab_size=500,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, allow_whitespace_only_pieces=True,
    )  # fmt: skip


def write_pieces_of_t5(folder: Path) -> None:
    about(folder, "t5", extra_ids=5)
    piece_model(sentences(), folder / "spiece.model", vocab_size=300, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def write_pieces_of_mbart(folder: Path) -> None:
    about(folder, "mbart", tokenizer_class="MBartTokenizer", src_lang="en_XX")
    path = folder / "sentencepiece.bpe.model"
    piece_model(sentences(), path, vocab_size=300, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)


def write_pieces_of_marian(folder: Path) -> None:
    about(folder, "marian", source_lang="en", target_lang="fr")
    pieces = {"</s>": 0, "<unk>": 1}
    for name in ("source", "target"):
        piece_model(sentences(), folder / f"{name}.spm", vocab_size=200, character_coverage=1.0)
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        for index in range(3, model.get_piece_size()):
            pieces.setdefault(model.id_to_piece(index), len(pieces))
    pieces["<pad>"] = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces))


def saved(write, name: str):
    """The same tokenizer as `transformers` 5 writes it: one `tokenizer.json`, and the class."""

    def write_saved(folder: Path) -> None:
        write(folder)
        tokenizer = getattr(transformers, name).from_pretrained(folder)
        for path in folder.iterdir():
            path.unlink()
        tokenizer.save_pretrained(folder)
        assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}

    return write_saved


PUBLISHED = {
    "vocab.txt": write_words,
    "BertTokenizer": saved(write_words, "BertTokenizer"),
    "vocab.json of GPT-2": write_pairs_of_gpt2,
    "GPT2Tokenizer": saved(write_pairs_of_gpt2, "GPT2Tokenizer"),
    "vocab.json of BART": write_pairs_of_bart,
    "RobertaTokenizer": saved(write_pairs_of_bart, "RobertaTokenizer"),
    "tokenizer.json of Llama 3": write_pairs_of_llama3,
    "tokenizer.model": write_pieces_of_llama,
    "LlamaTokenizer": saved(write_pieces_of_llama, "LlamaTokenizer"),
    "spiece.model": write_pieces_of_t5,
    "T5Tokenizer": saved(write_pieces_of_t5, "T5Tokenizer"),
    "sentencepiece.bpe.model": write_pieces_of_mbart,
    "source.spm": write_pieces_of_marian,
}
"""Folders of a tokenizer, by the file or the class that they are read by."""


# ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def config_of(architecture: Architecture, vocabulary: Vocabulary):
    """The config with the ids of special tokens that the tokenizer has."""
    config = hub.config_class(architecture.model_type)(**architecture.shape)
    return with_token_ids(config, vocabulary, vocabulary.pad if architecture.model_type == "t5" else vocabulary.eos)


def our_model(architecture: Architecture, vocabulary: Vocabulary):
    """A model of ours with random parameters, as if it were trained here."""
    model = hub.model_class(architecture.model_type, architecture.head)(config_of(architecture, vocabulary))
    draw = np.random.default_rng(0)
    values = {path: 0.3 * draw.normal(size=shape.shape) for path, shape in hub.shapes_of(model).items()}
    return model, hub.nested({path: jnp.asarray(value, jnp.float32) for path, value in values.items()}, model)


def their_model(architecture: Architecture, vocabulary: Vocabulary):
    """One of `transformers` with random parameters."""
    config = getattr(transformers, architecture.head).config_class
    shape = architecture.shape
    if architecture.model_type == "marian":  # whose tokenizer cannot decode an id beyond its own
        shape = {**shape, "vocab_size": vocabulary.size}
    named = dataclasses.asdict(config_of(architecture, vocabulary))
    ids = {name: index for name, index in named.items() if name.endswith("_token_id") and index is not None}
    return perturbed(architecture.head, config(**{**shape, **ids}))


# ── What is compared ─────────────────────────────────────────────────────────────────────────────────────────────────


def same_ids(ours: Tokenizer, theirs, size: int, texts=ODD) -> None:
    """Every text and every pair has the same ids, none of them beyond the model's embeddings, and no token was added."""
    assert len(theirs) == max(ours.get_vocab_size(), len(theirs.get_vocab())) <= size
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text).ids and max(ids, default=0) < size, text
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special_tokens=True), text
    for first, second in itertools.pairwise(texts):
        both = theirs(first, second)
        assert both["input_ids"] == ours.encode(first, second).ids, (first, second)
        if "token_type_ids" in both:
            assert both["token_type_ids"] == ours.encode(first, second).type_ids
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        token = getattr(theirs, f"{role}_token")
        assert token is None or ours.token_to_id(token) == getattr(theirs, f"{role}_token_id") < size, role


def show(title: str, heads: tuple[str, ...], cells: Mapping[tuple[str, ...], Mapping[str, str]], mode: str) -> None:
    """Print a table of cells, and write it into the file that `LACUNA_TABLE` names.

    Args:
        heads: of the columns; those behind a cell's own names are the results'.
        mode: to open the file in.
    """
    rows = [[*cell, *(found.get(what, "") for what in heads[len(cell) :])] for cell, found in cells.items()]
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    print("\n" + "\n".join(lines))
    if os.environ.get("LACUNA_TABLE"):
        with open(os.environ["LACUNA_TABLE"], mode, encoding="utf-8") as file:
            file.write(f"{title}\n\n" + "\n".join(lines) + "\n")


apply = jax.jit(lambda model, variables, inputs: model.apply(variables, **inputs), static_argnums=0)


def same_outputs(folder: Path, theirs, tokenizer, imported: bool = False) -> float:
    """Largest difference between their outputs and ours, of a padded batch of three, as a share of the largest value.

    Args:
        imported: the folder's tokenizer files are not ours.
    """
    batch = dict(tokenizer(list(ASKED), padding="max_length", max_length=24, return_tensors="np"))
    assert batch["attention_mask"].sum(axis=1).min() < batch["attention_mask"].sum(axis=1).max() < 24
    places = batch["attention_mask"] > 0
    if theirs.config.is_encoder_decoder:
        start = theirs.config.decoder_start_token_id
        batch["decoder_input_ids"] = np.array([[2 if start is None else start, 7, 9, 11]] * 3)
        places = np.ones((3, 4), bool)
    model, variables = hub.load(folder)
    with torch.no_grad():
        expected = theirs(**tensors(batch))
    taken = inspect.signature(type(model).__call__).parameters
    assert set(batch) <= set(taken) or imported  # of a published folder some classes return what their models ignore
    found = apply(
        model, variables, {name: jnp.asarray(value, jnp.int32) for name, value in batch.items() if name in taken}
    )
    return difference(np.asarray(found["logits"])[places], expected["logits"].numpy()[places])


def same_text(folder: Path, theirs, tokenizer) -> list[str]:
    """What both write greedily for a padded batch of three, which is returned where it is the same."""
    asked = list(ASKED)
    ours = [
        answers[0]["generated_text"] for answers in pipeline(writing_task(folder), folder)(asked, max_new_tokens=NEW)
    ]
    batch = tokenizer(asked, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = theirs.generate(**batch, max_new_tokens=NEW, do_sample=False, num_beams=1)
    written = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    if not theirs.config.is_encoder_decoder:
        read = [tokenizer.decode(row, skip_special_tokens=True) for row in batch["input_ids"]]
        written = [text + whole[len(part) :] for text, part, whole in zip(asked, read, written, strict=True)]
    assert ours == written
    return ours
