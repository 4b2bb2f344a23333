"""Forms: what an example looks like, one small dataclass a shape. A phase of an experiment sets one."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import tyro

from data.errors import DataError


@dataclasses.dataclass(frozen=True)
class Form:
    """Base of all forms.

    Attributes:
        items: what speed is counted in.
        shown: how many examples a report shows.
        reads: names of the arrays that the objective reads.
        together: examples of a batch, which have the length of one bucket.
    """

    items: ClassVar[str] = "examples"
    shown: ClassVar[int] = 6

    reads: tyro.conf.Suppress[tuple[str, ...]] = dataclasses.field(default=(), repr=False, kw_only=True)
    together: tyro.conf.Suppress[int] = dataclasses.field(default=1, repr=False, kw_only=True)

    @property
    def length(self) -> int:
        """Of the longest input of the model: tokens, or pixels on a side."""
        raise NotImplementedError

    @property
    def most_tokens(self) -> int:
        """Of the longest text of an example, where there are texts."""
        return self.length

    @property
    def amount(self) -> int:
        """How many `items` an example is."""
        return 1

    @property
    def buckets(self) -> int:
        """How many lengths batches of ragged items have, at most, which is how many programs are compiled."""
        return 1

    @classmethod
    def before_forms(cls, phase: Mapping[str, Any], data: Mapping[str, Any]) -> "Form":
        """The form of a phase that was described before there were forms.

        Args:
            data: the description of the source.
        """
        raise NotImplementedError

    def at_size(self, pixels: int) -> Self:
        """The same with pictures of so many pixels on a side.

        Raises:
            DataError: there is no picture, or no pixel.
        """
        raise DataError(f"a size of {pixels} pixels is one of pictures, and examples here are a {type(self).__name__}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of a ragged form those that its buckets have at most, one a side."""
        return (self.length,)

    def of_lengths(self, *lengths: int) -> Self:
        """The same of other lengths, of a ragged form."""
        (length,) = lengths
        return dataclasses.replace(self, length=length)

    def read_by(self, objective: Any) -> Self:
        """The same as `objective` reads it."""
        return dataclasses.replace(self, reads=tuple(objective.reads))


@dataclasses.dataclass(frozen=True)
class TextForm(Form):
    """Windows of one document, pieces of packed documents where the objective reads `document_ids`, or whole texts.

    Attributes:
        length: tokens of an example as the model sees it, of ragged texts the most.
        buckets: of labelled texts: how many lengths batches have, at most, which is how many programs are compiled.
        raw: tokens of the text that it is made from; the objective decides.
        overlap: tokens that a piece of packed text has in common with the next; the objective decides.
    """

    items: ClassVar[str] = "tokens"

    length: int = 128
    buckets: int = 1
    raw: tyro.conf.Suppress[int | None] = dataclasses.field(default=None, repr=False)
    overlap: tyro.conf.Suppress[int] = dataclasses.field(default=0, repr=False)

    @property
    def amount(self) -> int:
        return self.length

    @property
    def packed(self) -> bool:
        return "document_ids" in self.reads

    @property
    def text_alone(self) -> bool:
        """Whether the raw text is wanted, and nothing that is made of it."""
        return "tokens" in self.reads and "input_ids" not in self.reads

    def read_by(self, objective: Any) -> Self:
        raw = objective.length_read(self.length)
        return dataclasses.replace(self, reads=tuple(objective.reads), raw=raw, overlap=objective.overlap)

    @classmethod
    def before_forms(cls, phase: Mapping[str, Any], data: Mapping[str, Any]) -> "TextForm":
        return cls(phase["sequence_length"])

    def check_text(self) -> None:
        """Raise where a text alone cannot give such examples."""
        if {"input_ids", "labels"} <= set(self.reads):
            raise DataError("the objective reads input_ids and labels, which a text alone does not give")


@dataclasses.dataclass(frozen=True)
class PairForm(Form):
    """A text and another one to make of it.

    Attributes:
        source, target: tokens of either, at most.
        buckets: how many lengths of both batches have, at most, which is how many programs are compiled.
    """

    items: ClassVar[str] = "tokens"

    source: int = 128
    target: int = 128
    buckets: int = 1

    @property
    def length(self) -> int:
        return max(self.source, self.target)

    @property
    def lengths(self) -> tuple[int, int]:
        return self.source, self.target

    def of_lengths(self, *lengths: int) -> Self:
        source, target = lengths
        return dataclasses.replace(self, source=source, target=target)

    @property
    def amount(self) -> int:
        return self.source

    @classmethod
    def before_forms(cls, phase: Mapping[str, Any], data: Mapping[str, Any]) -> "PairForm":
        return cls(phase["sequence_length"], data.get("target_length") or phase["sequence_length"])


@dataclasses.dataclass(frozen=True)
class SpanForm(Form):
    """A question and a window of the context that its answer is a span of.

    Attributes:
        length: tokens of an example, the question among them, at most.
        stride: tokens that a window has in common with the next, as in `transformers`.
        question: tokens of a question, which is cut beyond.
        buckets: how many lengths batches have, at most, which is how many programs are compiled.
    """

    items: ClassVar[str] = "tokens"

    length: int = 384
    stride: int = 128
    question: int = 64
    buckets: int = 1

    @property
    def amount(self) -> int:
        return self.length

    def __post_init__(self) -> None:
        if not self.stride >= 0 or self.question < 1:
            raise DataError(f"{self!r}: expected a stride of 0 or more, and room for a question")


@dataclasses.dataclass(frozen=True)
class ChoiceForm(Form):
    """A text with several that may follow it, of which one is right.

    Attributes:
        length: tokens of the text with one of the choices, at most.
        choices: how many there are.
        buckets: how many lengths batches have, at most, which is how many programs are compiled.
    """

    items: ClassVar[str] = "tokens"

    length: int = 128
    choices: int = 4
    buckets: int = 1

    @property
    def amount(self) -> int:
        return self.length * self.choices


@dataclasses.dataclass(frozen=True)
class ImageForm(Form):
    """A square picture: pixels on a side."""

    items: ClassVar[str] = "images"
    shown: ClassVar[int] = 24

    size: int = 224

    @property
    def length(self) -> int:
        return self.size

    @classmethod
    def before_forms(cls, phase: Mapping[str, Any], data: Mapping[str, Any]) -> "ImageForm":
        return cls(phase.get("image_size", 224))

    def at_size(self, pixels: int) -> Self:
        if pixels < 1:
            raise DataError(f"a picture of {pixels} pixels: give a number of 1 or more")
        return dataclasses.replace(self, size=pixels)


@dataclasses.dataclass(frozen=True)
class SceneForm(Form):
    """A picture of any shape with what is to be found in it: objects with boxes and masks, or the depth of each pixel.

    Masks are made where the objective reads `mask_labels`, and depth where it reads `labels`.

    Attributes:
        size: (height, width) of the canvas, which pictures are padded to below and on the right, at most.
        objects: of a picture, at most; 0 where none are asked for.
        buckets: how many sizes batches have, at most, which is how many programs are compiled.
        of_bucket: whether it is of one bucket, and larger pictures are of others.
    """

    items: ClassVar[str] = "images"
    shown: ClassVar[int] = 12

    size: tuple[int, int] = (1333, 1333)
    objects: int = 100
    buckets: int = 1
    of_bucket: tyro.conf.Suppress[bool] = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1 or self.objects < 0:
            raise DataError(f"{self!r}: expected a height and a width of 1 or more, and 0 objects or more")

    @property
    def length(self) -> int:
        return max(self.size)

    @property
    def lengths(self) -> tuple[int, int]:
        return self.size

    def of_lengths(self, *lengths: int) -> Self:
        height, width = lengths
        return dataclasses.replace(self, size=(height, width), of_bucket=True)

    def at_size(self, pixels: int) -> Self:
        return dataclasses.replace(self, size=(pixels, pixels))


@dataclasses.dataclass(frozen=True)
class AudioForm(Form):
    """A recording: samples, and tokens of its transcript.

    Attributes:
        length: samples of an example, at most.
        target: tokens of a transcript, at most; 0 where there is none.
        buckets: how many lengths batches have, at most, which is how many programs are compiled.
        of_bucket: whether it is of one bucket, and longer recordings are of others.
    """

    items: ClassVar[str] = "samples"

    length: int = 250_000
    target: int = 0
    buckets: int = 1
    of_bucket: tyro.conf.Suppress[bool] = dataclasses.field(default=False, repr=False)

    @property
    def most_tokens(self) -> int:
        return self.target

    def of_lengths(self, *lengths: int) -> Self:
        return dataclasses.replace(super().of_lengths(*lengths), of_bucket=True)

    @property
    def amount(self) -> int:
        return self.length
