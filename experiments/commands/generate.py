"""`lacuna generate`: have a model go on with a text, or write another from it."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from inference.pipeline import pipeline, writing_task
from models import hub
from training.progress import working


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """How a text is written; what is not said is as the model's `generation_config.json` has it.

    Attributes:
        max_new_tokens: tokens after which a text ends at the latest (20).
        min_new_tokens: tokens before which it does not end.
        do_sample: draw tokens at random.
        temperature: more than 1 draws more freely, less than 1 less.
        top_k: draw from the k likeliest tokens alone.
        top_p: draw from the likeliest tokens that together have this probability.
        num_beams: follow so many texts at a time, and take the likeliest.
        length_penalty: power of its length by which the score of a beam is divided.
        early_stopping: end the search as soon as there are so many whole texts, or `never` before none can be better.
        num_return_sequences: so many texts for each beginning.
        no_repeat_ngram_size: so many tokens in a row never come twice in a text.
        repetition_penalty: tokens that a text has already become less likely by this factor.
        forced_bos_token_id: the first token that an encoder-decoder writes.
        stop_strings: strings that end a text as soon as they stand in it.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    num_return_sequences: int | None = None
    no_repeat_ngram_size: int | None = None
    repetition_penalty: float | None = None
    forced_bos_token_id: int | None = None
    stop_strings: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Options(Rules):
    """Have a model go on with a text: `lacuna generate "Once upon a time" --model openai-community/gpt2`.

    An encoder-decoder writes a text from the one it reads: `lacuna generate "translate English to German: That is good."
    --model google-t5/t5-small`.

    What is not said is as the model's `generation_config.json` has it; without one the likeliest token is taken each time.
    On a terminal the text is printed as it comes; elsewhere, and of beams, one line of JSON a text.

    Attributes:
        text: one or more beginnings, or texts to read.
        model: folder of a published checkpoint, its name on the Hugging Face hub, or the `model` folder of a run.
        source_language: of a translator of several languages, that of the text, as the model calls it (`fr_XX`).
        target_language: the one to translate into (`de_DE`).
        stream: print the text as it comes (or one line of JSON a text), wherever that goes.
        seed: of what is drawn.
    """

    text: tyro.conf.Positional[tuple[str, ...]]
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME")]
    source_language: str | None = None
    target_language: str | None = None
    stream: bool | None = None
    seed: int = 0


def spelled_out(arguments: list[str]) -> list[str]:
    """The arguments with `True` behind each yes-or-no flag that stands alone."""
    flags, values = ("--do-sample", "--early-stopping", "--stream"), ("True", "False", "None", "never")
    found = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        found.append(argument)
        if argument.replace("_", "-") in flags and following not in values:
            found.append("True")
    return found


class Terminal:
    """Texts in their order, each piece as soon as it comes and all before it is whole."""

    def __init__(self) -> None:
        self.waiting: dict[int, str] = {}
        self.whole: set[int] = set()
        self.place = 0

    def show(self, place: int, piece: str) -> None:
        self.waiting[place] = self.waiting.get(place, "") + piece
        if not piece:
            self.whole.add(place)
        while True:
            print(self.waiting.pop(self.place, ""), end="", flush=True)
            if self.place not in self.whole:
                return
            print()
            self.place += 1


def has_beams(folder: Path) -> bool:
    """Whether a folder's texts come from beams."""
    files = (folder / name for name in ("config.json", "generation_config.json"))
    published = {
        name: value for path in files if path.is_file() for name, value in json.loads(path.read_text()).items()
    }
    return (published.get("num_beams") or 1) > 1


def main(arguments: list[str]) -> None:
    options = tyro.cli(Options, args=spelled_out(arguments), prog="lacuna generate")
    settings = dataclasses.asdict(options)
    texts, model, stream = list(settings.pop("text")), settings.pop("model"), settings.pop("stream")
    with working(f"opening {model}"):
        folder = hub.checkpoint_folder(model)
        write = pipeline(writing_task(folder), folder)
    beams = has_beams(folder) if options.num_beams is None else options.num_beams > 1
    if stream is None:
        stream = sys.stdout.isatty() and not beams and options.num_return_sequences in (None, 1)
    if stream:
        write(texts, **settings, on_text=Terminal().show)
        return
    with working("compiling and writing"):
        written = write(texts, **settings)
    for answers in written:
        for answer in answers:
            print(json.dumps(answer, ensure_ascii=False))
