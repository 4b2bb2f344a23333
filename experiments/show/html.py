"""HTML that reports share: tables, predictions with probabilities, classes."""

import html
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from inference.scores import softmax
from objectives.objective import Example

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { padding: .25rem .8rem .25rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #e3e6ea; } 
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } .sentence { margin: .8rem 0; line-height: 2.1; }
.gap { border-radius: 4px; padding: .1rem .3rem; white-space: nowrap; } 
.right { background: #d3f2dc; } .wrong { background: #fde2dd; }
.gap small { color: #57606a; } details { margin-top: .6rem; } .dim { color: #57606a; }
figure { display: inline-block; margin: .4rem .8rem .4rem 0; vertical-align: top; }
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """An HTML table; the columns in `numbers` are right-aligned."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = (f"<{tag} class=number>" if i in numbers else f"<{tag}>" for i in range(len(cells)))
        return "<tr>" + "".join(f"{mark}{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True)) + "</tr>"

    return "<table>" + (row(head, "th") if head else "") + "".join(row(cells, "td") for cells in rows) + "</table>"


def gap(guess: str, probability: float, original: str | None) -> str:
    """A predicted token with its probability, and the right token if it differs."""
    wrong = "" if original is None else f" <small>✗ {html.escape(original.strip())}</small>"
    kind = "right" if original is None else "wrong"
    return f"<span class='gap {kind}'>{html.escape(guess.strip())} <small>{probability:.0%}</small>{wrong}</span>"


def class_guess(logits: Float[np.ndarray, " classes"], label: int | None, names: Sequence[str]) -> str:
    """The predicted class with its probability, and the right class if it differs."""
    scores = softmax(logits)
    guess = int(scores.argmax())
    return gap(names[guess], float(scores[guess]), None if label in (None, guess) else names[label])


def classes_asked(seen: Example, names: Sequence[str]) -> Iterator[str]:
    """The names of an example's labels."""
    for name in ("labels", "other_labels"):
        if name in seen and np.ndim(seen[name]) == 0 and np.issubdtype(np.asarray(seen[name]).dtype, np.floating):
            yield f"{name}: {float(seen[name]):g}"
        elif name in seen and np.ndim(seen[name]) == 0:
            yield f"{name} {int(seen[name])}: {names[int(seen[name])]}"
