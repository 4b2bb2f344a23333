"""Folders of tokenizers of each kind, as they are published, and the texts that they are made from."""

import json
import random
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer

from tests.parity.folders.test_tokenizer_files import WORDS, about, byte_pairs, piece_model, wordpieces
from tests.parity.reference import transformers

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


def sentences() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=12)) + draw.choice(".!?,;:—") for _ in range(200)] + list(ODD)


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
