"""Objectives: what a model sees and what it is asked, one file each (`objective` is the contract)."""

import difflib

from objectives.audio.contrastive import Contrastive
from objectives.audio.ctc import Ctc
from objectives.audio.transcription import Transcription
from objectives.augmented import Augmented
from objectives.classification import Classification
from objectives.distillation import Distillation
from objectives.images.class_distillation import ClassDistillation
from objectives.images.depth import Depth
from objectives.images.mask_prediction import MaskPrediction
from objectives.images.masked_image import MaskedAutoencoder, MaskedImage
from objectives.images.set_prediction import SetPrediction
from objectives.objective import Losses, Objective, ObjectiveError
from objectives.regression import Regression
from objectives.sum import Sum
from objectives.text.answer_span import AnswerSpan
from objectives.text.causal import CausalLM
from objectives.text.infilling import Infilling
from objectives.text.masked import MaskedLM
from objectives.text.next_sentence import NextSentence
from objectives.text.replaced_token_detection import ReplacedTokenDetection
from objectives.text.sentence_order import SentenceOrder
from objectives.text.seq2seq import Seq2Seq
from objectives.text.span_corruption import MixtureOfDenoisers, SpanCorruption

KINDS: dict[str, type[Objective]] = {
    objective.__name__: objective
    for objective in (
        MaskedLM,
        NextSentence,
        SentenceOrder,
        ReplacedTokenDetection,
        CausalLM,
        Infilling,
        SpanCorruption,
        MixtureOfDenoisers,
        Seq2Seq,
        Distillation,
        Classification,
        ClassDistillation,
        Regression,
        AnswerSpan,
        MaskedImage,
        MaskedAutoencoder,
        Depth,
        SetPrediction,
        MaskPrediction,
        Contrastive,
        Ctc,
        Transcription,
    )
}
"""All objectives here that need no other, by the names that `named` knows."""


def named(names: str) -> Objective:
    """The objectives called `names`, as they are by default: `MaskedLM`, or several added, `masked_lm+next_sentence`.

    Raises:
        ObjectiveError: one has no such name.
    """

    def plain(name: str) -> str:
        return name.replace("_", "").replace("-", "").lower()

    kinds = {plain(name): objective for name, objective in KINDS.items()}
    objectives = []
    for name in names.split("+"):
        if plain(name) not in kinds:
            match = difflib.get_close_matches(plain(name), kinds, n=1)
            hint = f"did you mean {kinds[match[0]].__name__}? " if match else ""
            raise ObjectiveError(f"no objective {name!r}: {hint}known: {', '.join(KINDS)}")
        objectives.append(kinds[plain(name)]())
    return objectives[0] if len(objectives) == 1 else Sum(*objectives)


__all__ = ["KINDS", "Augmented", "Losses", "Objective", "ObjectiveError", "Sum", "named", *KINDS]
