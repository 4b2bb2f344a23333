"""Predictions on annotated texts: labels of words, answer spans, and choices."""

import html
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.contract import Prepared
from experiments.show.html import class_guess, gap
from inference.scores import softmax
from objectives.losses import IGNORED

Arrays = Mapping[str, np.ndarray]


def shown_by(data: Prepared, seen: Arrays) -> Callable[[Prepared, Arrays, Arrays], list[str]] | None:
    """The function that shows predictions on such examples; `None` for texts without annotations."""
    labels = seen.get("labels", np.zeros(0))
    if "start_positions" in seen:
        return answers
    if seen["input_ids"].ndim == 3:
        return choices
    return tags if labels.ndim == 2 and data.vocabulary.labels else None


def tags(data: Prepared, seen: Arrays, outputs: Arrays) -> list[str]:
    """Sentences with the predicted label after each labelled token."""
    names, blocks = data.vocabulary.labels, []
    for row, labels in enumerate(seen["labels"]):
        parts = []
        for place in np.flatnonzero(seen["attention_mask"][row]):
            parts.append(html.escape(data.tokenizer.id_to_token(int(seen["input_ids"][row][place]))))
            if labels[place] != IGNORED:
                guess, label = int(outputs["guess"][row][place]), int(labels[place])
                right = None if guess == label else names[label]
                parts.append(gap(names[guess], float(outputs["probability"][row][place]), right))
        blocks.append(f"<div class=sentence>{' '.join(parts)}</div>")
    return blocks


def answers(data: Prepared, seen: Arrays, outputs: Arrays) -> list[str]:
    """Questions with their windows, the predicted span, and the right one; [CLS] means no answer."""
    blocks = []
    for row, ids in enumerate(seen["input_ids"]):
        ids = ids[seen["attention_mask"][row] > 0]

        def text(first: int, last: int, ids: np.ndarray = ids) -> str:
            return data.tokenizer.decode(ids[first : last + 1].tolist(), skip_special_tokens=False)

        scores = [softmax(outputs[f"{name}_logits"][row][: len(ids)]) for name in ("start", "end")]
        guess = [int(score.argmax()) for score in scores]
        right = [int(seen[f"{name}_positions"][row]) for name in ("start", "end")]
        probability = float(scores[0][guess[0]] * scores[1][guess[1]])
        said = gap(text(*guess) or "nothing", probability, None if guess == right else text(*right))
        blocks.append(f"<div class=sentence>{html.escape(data.tokenizer.decode(ids.tolist()))}<div>{said}</div></div>")
    return blocks


def choices(data: Prepared, seen: Arrays, outputs: Arrays) -> list[str]:
    """Texts with their choices, and the number of the predicted one."""
    blocks = []
    for ids, logits, label in zip(seen["input_ids"], outputs["logits"], seen["labels"], strict=True):
        lines = "".join(f"<li>{html.escape(data.tokenizer.decode(choice.tolist()))}</li>" for choice in ids)
        guess = class_guess(logits, int(label), data.vocabulary.labels)
        blocks.append(f"<div class=sentence><ol start=0>{lines}</ol><div>{guess}</div></div>")
    return blocks


def span_asked(data: Any, seen: Arrays) -> str:
    """The right span of an example, as text."""
    first, last = int(seen["start_positions"]), int(seen["end_positions"])
    if first == IGNORED:
        return "Nothing is asked: the tokenizer leaves nothing of the answer."
    said = data.tokenizer.decode(seen["input_ids"][first : last + 1].tolist(), skip_special_tokens=False)
    return f"start_positions {first}, end_positions {last}: {said!r}"
