"""Framing: what a tokenizer's template puts around texts, read off whatever says it."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.processors import BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing

from data import DataError
from data.text.framing import Framing

BOS, EOS, LANGUAGE, TEXT = 0, 1, 4, 2


def tokenizer(template) -> Tokenizer:
    ids = {"<s>": BOS, "</s>": EOS, "a": TEXT, "Ġ": 3, "en_XX": LANGUAGE}
    made = Tokenizer(models.BPE(ids, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<s>", "</s>", "en_XX"])
    if template is not None:
        made.post_processor = template
    return made


def template(single: str, pair: str) -> processors.PostProcessor:
    return TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", BOS), ("</s>", EOS), ("en_XX", LANGUAGE)]
    )


TEMPLATES = {
    "none": (None, Framing(second_type=1)),
    "GPT-2": (ByteLevel(), Framing(second_type=1)),
    "RoBERTa": (
        RobertaProcessing(("</s>", EOS), ("<s>", BOS)),
        Framing((BOS,), (EOS,), (BOS,), (EOS, EOS), (EOS,)),
    ),
    "BERT": (BertProcessing(("</s>", EOS), ("<s>", BOS)), Framing((BOS,), (EOS,), (BOS,), (EOS,), (EOS,), 1)),
    "Llama 3": (
        Sequence([ByteLevel(), template("<s> $A", "<s> $A <s>:1 $B:1")]),
        Framing((BOS,), (), (BOS,), (BOS,), (), 1),
    ),
    "mBART": (template("$A </s> en_XX", "$A $B </s> en_XX"), Framing((), (EOS, LANGUAGE), (), (), (EOS, LANGUAGE))),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_stands_around_texts_is_read_off_the_template(name: str) -> None:
    post_processor, expected = TEMPLATES[name]
    made = tokenizer(post_processor)
    framing = Framing.of(made)
    assert framing == expected
    ids = made.encode("aa", add_special_tokens=False).ids
    assert framing.text(ids) == made.encode("aa").ids
    assert framing.pair(ids, ids[:1]) == made.encode("aa", "a").ids
    assert made.encode("aa", "a").type_ids[-1] == framing.second_type
    assert framing.count == len(made.encode("aa").ids) - 2
    assert framing.pair_count == len(made.encode("aa", "a").ids) - 3


def test_a_prompt_goes_in_without_an_end() -> None:
    framing = Framing.of(tokenizer(template("<s> $A </s>", "<s> $A </s> $B </s>")))
    assert framing.prompt([TEXT]) == [BOS, TEXT]
    assert framing.document_end(9) == (EOS,), "a document of packed text ends as the template says"
    assert Framing.of(tokenizer(None)).document_end(9) == (9,), "or with the token that ends a text"


def test_a_text_that_is_too_long_loses_its_end_and_not_its_frame() -> None:
    framing = Framing((BOS,), (EOS,))
    assert framing.text([TEXT] * 9, longest=4) == [BOS, TEXT, TEXT, EOS]
    with pytest.raises(DataError, match="no room"):
        framing.text([TEXT], longest=2)
