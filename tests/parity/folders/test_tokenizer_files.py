"""Tokenizer files of every published kind: ids, masks and kinds of token as live `transformers` gives them on the same folder.

Sentencepiece models are held against `sentencepiece` itself, too, where `transformers` departs from it.
"""

import io
import itertools
import json
import random
import re

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from data.text.sentencepiece_files import MBART50_LANGUAGES, MBART_LANGUAGES
from data.text.tokenizer_files import load

transformers = pytest.importorskip("transformers")

TEXTS = [
    "The river ran past the mill, and the miller's cat slept.",
    "the  mill   of the river ",
    "A naïve café: £5.50 — “quoted” ﬁne ½ Ⅷ",
    "天气好 and 123,456 things!",
    "emoji 🙂 and ✓\ttabs\nlines\n\nmore",
    "",
    "   ",
    "UPPER lower MiXeD",
    "ßharp ÅNGSTRÖM é e\u0301 \u200bzero",
    "don't we'll it's, isn't it?",
    "x" * 40 + " http://a.b/c?d=e&f=g",
    "the <mask> of the mill",
    "ひらがな カタカナ 한국어",
]
WORDS = re.findall(
    r"\S+",
    "the river ran past mill and miller cat slept of a naive café things tabs lines more upper lower sharp don't we'll it's",
)


@pytest.fixture(scope="module")
def sentences():
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=12)) + draw.choice(".!?,;:—") for _ in range(400)] + TEXTS[:5]


def piece_model(sentences, path, **settings):
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        num_threads=1,
        minloglevel=2,
        hard_vocab_limit=False,
        **settings,
    )
    path.write_bytes(written.getvalue())


def about(folder, model_type, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def wordpieces(folder, sentences, **settings):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(sentences, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    words = [*sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get), "The", "U", "\u2028", "##É", "É", "e\u0301"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return words


def byte_pairs(folder, sentences, special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        [*sentences, "## ## # # #"],
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    content = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in content["merges"]))


def check(folder, texts=TEXTS, size=True, pairs=True):
    """Every text alone, pairs, and a padded batch give the same ids and masks as `AutoTokenizer`."""
    ours, theirs = load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    if size:
        # transformers takes the token U+2028 for an empty one
        mine, other = ({token.strip("\u2028"): index for token, index in x.get_vocab().items()} for x in (ours, theirs))
        assert mine == other
    for text in texts:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        assert ours.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False)["input_ids"], (
            text
        )
    for first, second in itertools.pairwise(filter(str.strip, texts)) if pairs else ():
        mine, other = ours.encode(first, second), theirs(first, second, return_token_type_ids=True)
        assert (mine.ids, mine.type_ids) == (other["input_ids"], other["token_type_ids"]), (first, second)
    if theirs.pad_token is not None:
        theirs.padding_side = "right"
        batch = theirs(list(texts), padding=True)
        ours.enable_padding(pad_id=theirs.pad_token_id, pad_token=theirs.pad_token)
        mine = ours.encode_batch(list(texts))
        assert [x.ids for x in mine] == batch["input_ids"]
        assert [x.attention_mask for x in mine] == batch["attention_mask"]
    return ours, theirs


BERT = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
    {"tokenizer_class": "BertTokenizerFast", "do_lower_case": None} | {"do_lower_case": False},
]


@pytest.mark.parametrize("settings", BERT)
@pytest.mark.parametrize("model_type", ["bert", "electra", "distilbert"])
def test_wordpieces(tmp_path, sentences, settings, model_type):
    wordpieces(about(tmp_path, model_type, **settings), sentences)
    check(tmp_path)


def test_wordpieces_with_tokens_of_the_folder(tmp_path, sentences):
    words = wordpieces(about(tmp_path, "bert"), sentences)
    end = len(words)
    token = dict(lstrip=False, rstrip=False, single_word=False, normalized=False, special=True)
    added = {str(end): {"content": "<new>", **token}, str(end + 1): {"content": "plain", **token, "special": False}}
    about(tmp_path, "bert", added_tokens_decoder=added, pad_token="<new>")
    ours, _ = check(tmp_path, [*TEXTS, "a <new> plain word"])
    assert ours.token_to_id("<new>") == end
    about(tmp_path, "bert")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": end, "plain": end + 1}))
    (tmp_path / "special_tokens_map.json").write_text('{"additional_special_tokens": ["<new>"]}')
    check(tmp_path, [*TEXTS, "a <new> plain word"])


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"add_bos_token": True}, {"pad_token": "[PAD]"}])
def test_byte_pairs_of_gpt2(tmp_path, sentences, settings):
    byte_pairs(about(tmp_path, "gpt2", **settings), sentences, ["<|endoftext|>"])
    texts = [*TEXTS, "# # ## ###", "one<|endoftext|>two"]
    ours, _ = check(tmp_path, texts)
    ours.save(str(tmp_path / "tokenizer.json"))
    check(tmp_path, texts)


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"tokenizer_class": "BartTokenizer"}])
def test_byte_pairs_of_bart(tmp_path, sentences, settings):
    byte_pairs(about(tmp_path, "bart", **settings), sentences, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    texts = [text for text in TEXTS if "<mask>" not in text]
    ours, theirs = check(tmp_path, texts)
    assert "Ġ" not in ours.encode("the <mask> of").tokens  # the mask stands for its space, too
    mine, other = ours.encode("past the mill"), theirs("past the mill", return_offsets_mapping=True)
    assert mine.offsets == other["offset_mapping"]
    ours.save(str(tmp_path / "tokenizer.json"))
    check(tmp_path)  # which says of the mask that it stands for its space, to both


@pytest.mark.parametrize(
    "settings", [{}, {"extra_ids": 7}, {"additional_special_tokens": ["<extra_id_0>", "<extra_id_1>"], "extra_ids": 2}]
)
def test_pieces_of_t5(tmp_path, sentences, settings):
    about(tmp_path, "t5", **settings)
    piece_model(sentences, tmp_path / "spiece.model", vocab_size=300, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    texts = [*TEXTS, "a <extra_id_0> b", "a</s>b", "<extra_id_1>"]
    ours, _ = check(tmp_path, texts)
    like_the_model(ours, tmp_path / "spiece.model", 0)
    ours.save(str(tmp_path / "tokenizer.json"))
    check(tmp_path, texts)


def like_the_model(ours, path, shift, texts=TEXTS):
    """The same pieces as sentencepiece, U+0085 and leading spaces included."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    unknown = model.id_to_piece(model.unk_id())
    for text in [*texts, "a\u0085b", " the mill", "  the", "▁the"]:
        if "<mask>" in text:
            continue
        mine = [token for token in ours.encode(text, add_special_tokens=False).ids]
        expected = [
            ours.token_to_id(unknown if index == model.unk_id() else model.id_to_piece(index))
            for index in model.encode(text)
        ]
        assert mine == expected, (text, ours.encode(text).tokens, model.encode(text, out_type=str))


@pytest.mark.parametrize(
    "settings",
    [
        {"add_bos_token": True},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_bos_token": False},
        {"legacy": False, "add_bos_token": True},
    ],
)
def test_pieces_of_llama(tmp_path, sentences, settings):
    about(tmp_path, "llama", **settings)
    path = tmp_path / "tokenizer.model"
    piece_model(
        sentences, path, vocab_size=500, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, allow_whitespace_only_pieces=True,
    )  # fmt: skip
    texts = [text for text in TEXTS if not text.startswith(" ")]
    ours, _ = check(tmp_path, texts)
    if settings.get("legacy", True):
        like_the_model(ours, path, 0)


def test_a_llama_that_says_nothing_begins_its_texts(tmp_path, sentences):
    about(tmp_path, "llama")
    piece_model(sentences, tmp_path / "tokenizer.model", vocab_size=500, model_type="bpe", byte_fallback=True, unk_id=0)
    assert load(tmp_path).encode("the mill").tokens[0] == "<s>"


@pytest.mark.parametrize(
    ("name", "languages"), [("MBartTokenizer", MBART_LANGUAGES), ("MBart50Tokenizer", MBART50_LANGUAGES)]
)
@pytest.mark.parametrize("language", [None, "de_DE"])
def test_pieces_of_mbart(tmp_path, sentences, name, languages, language):
    about(tmp_path, "mbart", tokenizer_class=name, **({"src_lang": language} if language else {}))
    path = tmp_path / "sentencepiece.bpe.model"
    piece_model(sentences, path, vocab_size=300, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    # transformers 5 leaves out the model's normalisation; and of mBART-50 makes tokens of spaces
    texts = [text for text in TEXTS if normalizers.NFKC().normalize_str(text) == text and "\u200b" not in text]
    texts = [text for text in texts if text == " ".join(text.split())]
    assert len(texts) > 6
    ours, _ = check(tmp_path, texts)
    assert all(ours.token_to_id(language) is not None for language in languages)
    like_the_model(ours, path, 0)


@pytest.mark.parametrize("side", ["source", "target"])
def test_pieces_of_marian(tmp_path, sentences, side):
    about(tmp_path, "marian", source_lang="en", target_lang="fr")
    pieces = {"<unk>": 1, "</s>": 0}
    for name, texts in (("source", sentences[:200]), ("target", [text[::-1] for text in sentences])):
        piece_model(texts, tmp_path / f"{name}.spm", vocab_size=200, character_coverage=1.0)
        model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / f"{name}.spm"))
        for index in range(3, model.get_piece_size()):
            pieces.setdefault(model.id_to_piece(index), len(pieces))
    pieces[">>fr<<"] = len(pieces)
    pieces["<pad>"] = len(pieces)
    (tmp_path / "vocab.json").write_text(json.dumps(pieces))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.punc_normalizer = lambda text: text
    ours = load(tmp_path, side=side)
    assert ours.get_vocab() == theirs.get_vocab() == pieces
    for text in [*TEXTS, *sentences[-20:], ">>fr<< the mill", "the mill</s> river", " lead"]:
        expected = theirs(text)["input_ids"] if side == "source" else theirs(text_target=text)["input_ids"]
        assert ours.encode(text).ids == expected, (
            text,
            ours.encode(text).tokens,
            theirs.convert_ids_to_tokens(expected),
        )


@pytest.mark.parametrize(
    "settings", [{"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
)
def test_settings_beside_a_whole_file(tmp_path, sentences, settings):
    wordpieces(about(tmp_path, "bert"), sentences)
    load(tmp_path).save(str(tmp_path / "tokenizer.json"))
    about(tmp_path, "bert", tokenizer_class="BertTokenizer", **settings)
    check(tmp_path)
