"""Inputs, targets and predictions of text models, in a terminal and in reports."""

import functools
import html
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from rich.markup import escape
from rich.table import Table

from data.contract import Prepared
from experiments.assembly.assembly import Assembly
from experiments.show import annotated
from experiments.show.html import class_guess, classes_asked, gap
from objectives.losses import IGNORED
from objectives.objective import Example

CAPTION = (
    "Held-out text, asked as in training. For each token asked (or for the text) the guess, its probability, and what is"
    " right where the guess is wrong."
)

GROUPS = (("tokens", "sentence_ids"), ("other_tokens", "other_sentence_ids"), ("tokens", "document_ids"))
"""Texts of the data, and the ids that divide each into sentences or documents."""

LABELS = {
    "next_sentence_label": ("follows the first", "is from another document"),
    "sentence_order_label": ("follows the first", "stands before the first in the text"),
}
"""Labels of pairs of segments, and the meaning of 0 and 1."""

COLUMNS = {
    "token_type_ids": "segment",
    "position_ids": "position",
    "segment_ids": "document",
    "prefix_mask": "prefix",
    "attention_mask": "attended",
    "decoder_attention_mask": "attended",
    "special_tokens_mask": "special",
}
"""Other inputs with a value for each token, and the titles of their columns."""


def guesses(
    assembly: Assembly,
    batch: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> list[str]:
    """Held-out texts with the prediction for each target token, or for the text; empty for a model without either."""
    labels, word, blocks = seen.get("labels", np.zeros(0)), functools.partial(written, assembly.data), []
    annotated_guesses = annotated.shown_by(assembly.data, seen)
    if annotated_guesses is not None:
        return annotated_guesses(assembly.data, seen, outputs)
    if "logits" in outputs and labels.ndim == 1:
        names, decode = assembly.data.vocabulary.labels, assembly.data.tokenizer.decode
        number = np.issubdtype(labels.dtype, np.floating)
        return [
            f"<div class=sentence>{html.escape(decode(ids.tolist()))}<div>"
            f"{f'{logits[0]:.2f} ({label:g})' if number else class_guess(logits, int(label), names)}</div></div>"
            for ids, logits, label in zip(seen["input_ids"], outputs["logits"], labels, strict=True)
        ]
    if "guess" not in outputs or outputs["guess"].shape != labels.shape:
        return []
    for row, labels in enumerate(seen["labels"]):
        ids = seen["input_ids"][row][seen["attention_mask"][row] > 0]
        read = [html.escape(written(assembly.data, token, source=True)) for token in ids]
        asked = labels != IGNORED
        gaps = [
            gap(word(guess), probability, None if guess == label else word(label))
            for label, guess, probability in zip(
                labels[asked], outputs["guess"][row][asked], outputs["probability"][row][asked], strict=True
            )
        ]
        if "masked_positions" in seen:
            for position, text in zip(seen["masked_positions"][row][asked], gaps, strict=True):
                read[int(position)] = f" {text}"
            lines = "".join(read)
        elif "decoder_input_ids" in seen:
            lines = f"<div class=dim>{''.join(read)}</div>{' '.join(gaps)}"
        else:
            lines = f"{read[0]} {' '.join(gaps)}"
        blocks.append(f"<div class=sentence>{lines}{verdict(outputs, seen, row)}</div>")
    return blocks


def verdict(outputs: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray], row: int) -> str:
    """The prediction of a next-sentence head about the second segment."""
    if "seq_relationship_logits" not in outputs or "next_sentence_label" not in seen:
        return ""
    answer, truth = int(outputs["seq_relationship_logits"][row].argmax()), int(seen["next_sentence_label"][row])
    names = ("follows", "from elsewhere")
    return f"<div class=dim>second segment: {names[answer]}, says the model; in truth {names[truth]}</div>"


def written(data: Prepared, token: int, source: bool = False) -> str:
    """A token as text, of the source or the target tokenizer, with a space before it if it begins a word."""
    tokenizer, starts_word = data.tokenizer, data.vocabulary.starts_word
    if source and data.source_tokenizer is not None:
        text = data.source_tokenizer.id_to_token(int(token)) or f"<{token}>"
        return text.replace("Ġ", " ").replace("▁", " ")
    text = tokenizer.decode([int(token)], skip_special_tokens=False).strip().removeprefix("##")
    if not text:
        text = tokenizer.id_to_token(int(token)) or f"<{token}>"
    return (" " if token >= len(starts_word) or starts_word[token] else "") + text


def explained(assembly: Assembly, before: Example, seen: Example, number: int) -> Iterator[str | Table]:
    """Describes an example: the texts of the data, and the model's inputs and targets token by token."""
    tokenizer, vocabulary = assembly.data.tokenizer, assembly.data.vocabulary

    def word(token: int) -> str:
        return tokenizer.id_to_token(int(token)) or f"<{token}>"

    for tokens, groups in GROUPS:
        if tokens in before and groups in before:
            what = groups.removesuffix("_ids").removeprefix("other_")
            yield f"\nthe data give {tokens}, by {what}:"
            for group in np.unique(before[groups][before[groups] >= 0]):
                words = " ".join(word(t) for t in before[tokens][before[groups] == group]).replace(" ##", "")
                yield f"  {group}: {words}"
    decodes, labels = "decoder_input_ids" in seen, asked(seen)
    own = assembly.data.source_tokenizer

    def read(token: int) -> str:
        return word(token) if own is None else own.id_to_token(int(token)) or f"<{token}>"

    if seen["input_ids"].ndim == 2:  # a text for each choice
        texts = {name: x for name, x in seen.items() if np.ndim(x) == 2}
        for number in range(len(seen["input_ids"])):
            yield side(assembly, {name: x[number] for name, x in texts.items()}, "input_ids", {}, word)
    else:
        yield side(assembly, seen, "input_ids", {} if decodes else labels, read)
    if "start_positions" in seen:
        yield annotated.span_asked(assembly.data, seen)
    if decodes:
        yield side(assembly, seen, "decoder_input_ids", labels, word)
    if "masked_positions" in seen:
        kept = sum(int(seen["input_ids"][place]) == label for place, label in labels.items())
        hidden = sum(int(seen["input_ids"][place]) == vocabulary.mask for place in labels)
        yield (
            f"{len(labels)} tokens asked in {len(seen['masked_positions'])} slots: {hidden} shown as"
            f" {word(vocabulary.mask)}, {kept} as they are, {len(labels) - hidden - kept} as another token."
        )
    for name, (no, yes) in LABELS.items():
        if name in seen:
            yield f"{name} {seen[name]}: the second segment {(no, yes)[int(seen[name])]}."
    yield from classes_asked(seen, vocabulary.labels)
    if "sampling_key" in seen:
        yield "The generator draws what stands in the place of the masks when the discriminator reads the text."


def asked(seen: Example) -> dict[int, int]:
    """{place: target token}."""
    labels = seen.get("labels", np.zeros(0, np.int32))
    if labels.ndim == 0:  # the class of the text
        return {}
    places = seen.get("masked_positions", seen.get("label_positions", np.arange(len(labels))))
    return {int(place): int(label) for place, label in zip(places, labels, strict=True) if label != IGNORED}


def side(assembly: Assembly, seen: Example, name: str, labels: dict[int, int], word: Callable[[int], str]) -> Table:
    """A table of the inputs and targets of the encoder or the decoder, token by token, without padding."""
    ids, decodes = seen[name], name.startswith("decoder_")
    inputs, classes = assembly.model.inputs, assembly.data.vocabulary.labels
    columns = {
        other: title
        for other, title in COLUMNS.items()
        if other in seen
        and len(seen[other]) == len(ids)
        and other.startswith("decoder_") == decodes
        and (other in inputs or other == "special_tokens_mask")
    }
    used = seen.get("decoder_attention_mask" if decodes else "attention_mask", np.ones(len(ids), int)) > 0
    places = np.flatnonzero(used | np.isin(np.arange(len(ids)), list(labels)))
    what = "what the decoder reads and is asked" if decodes else "what the model sees and is asked"
    if not decodes and "decoder_input_ids" in seen:
        what = "what the encoder reads"
    table = Table(title=what, caption=f"{len(ids) - len(places)} places of padding (attended 0, weight 0)")
    heads = ("asked for", "weight") if labels else ()
    for column in ("place", "input", *columns.values(), *heads):
        table.add_column(column, justify="left" if column in ("input", "asked for") else "right")
    masked = bool({"masked_positions", "label_positions"} & set(seen))
    for place in places.tolist():
        token, label = int(ids[place]), labels.get(place)
        style = "yellow" if masked and label not in (None, token) else "cyan" if masked and label == token else None
        named = word if decodes or not classes else classes.__getitem__
        answer = ("" if label is None else escape(named(label)), str(int(label is not None))) if labels else ()
        values = (str(seen[other][place]) for other in columns)
        table.add_row(str(place), escape(word(token)), *values, *answer, style=style)
    return table
