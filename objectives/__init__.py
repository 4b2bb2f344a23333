"""Objectives: what a model sees and what it is asked, one file each (`objective` is the contract)."""

from objectives.masked import MaskedLM
from objectives.next_sentence import NextSentence
from objectives.objective import Losses, Objective, ObjectiveError, Sum, check_fit

__all__ = ["Losses", "MaskedLM", "NextSentence", "Objective", "ObjectiveError", "Sum", "check_fit"]
