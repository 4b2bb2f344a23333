"""What a run reads: its batches to train on and the examples that are held out, this process' part of each."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from data.contract import Examples, Outline, Prepared
from data.forms import Form
from data.loader import load
from experiments.experiment import Experiment
from objectives import Objective
from training.parallel import Spread
from training.step import corrupted

EVALUATION_SEED = 0xE7A1
"""Masks of the held-out examples: the same in every run and at every evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """An experiment's data, as its objective wants them, spread over processes.

    Attributes:
        objective: what is asked of held-out examples.
        training_objective: the same of training examples, which an image source augments.
        losses: names of the objective's losses, among its metrics.
    """

    experiment: Experiment
    data: Prepared | Outline
    objective: Objective
    training_objective: Objective
    spread: Spread
    losses: tuple[str, ...]

    def form(self, phase: int, held_out: bool = False) -> Form:
        """What examples a phase wants, to train on or to be held out."""
        objective = self.objective if held_out else self.training_objective
        return self.experiment.form(phase).read_by(objective)

    def forms(self, phase: int) -> dict[Form, float]:
        """The forms that training batches of a phase have, one a bucket of ragged data, with their shares of the batches."""
        form = self.form(phase)
        if form.buckets == 1 or isinstance(self.data, Outline):
            return {form: 1.0}
        buckets = self.data.training(form, self.experiment.seed).buckets
        shares = np.bincount(buckets.members, minlength=len(buckets.lengths)) / len(buckets.members)
        forms = (dataclasses.replace(form.of_lengths(*lengths), buckets=1) for lengths in buckets.lengths.tolist())
        return dict(zip(forms, shares.tolist(), strict=True))

    def batches(self, phase: int, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the training batches of a phase, from `first_step` on."""
        experiment = self.experiment
        return iter(
            load(
                self.data.training(self.form(phase), experiment.seed),
                batch_size=experiment.batch_size,
                first_step=first_step,
                last_step=experiment.phase_ends[phase],
                shard=self.spread.share,
                micro_batches=experiment.parallel.micro_batches,
                workers=experiment.data.workers,
            )
        )

    def held_out(self, form: Form | None = None) -> Examples:
        """The held-out examples, of the last phase's form where none is given."""
        return self.data.held_out(self.form(-1, held_out=True) if form is None else form.read_by(self.objective))

    def evaluation_batches(
        self, form: Form | None = None, share: tuple[int, int] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """This process' share of the held-out batches `[1, rows, ...]`: examples spread evenly over the documents.

        The last batch is smaller, where they do not divide. Where its examples do not divide among the devices either, each
        is there several times, as often as the others of that batch: its sums and weights are to be divided by that.

        Args:
            form: of the examples, where not the last phase's.
            share: (k, n) in the place of this process'; then no example is there twice.
        """
        process, processes = share or self.spread.share
        experiment = self.experiment
        held_out = self.held_out(form)
        count = min(experiment.evaluation_examples, len(held_out))
        for begin in range(0, count, experiment.batch_size):
            numbers = np.arange(begin, min(begin + experiment.batch_size, count))
            numbers = np.repeat(numbers, 1 if share else self._copies(len(numbers)))
            mine = numbers.reshape(processes, -1)[process] * len(held_out) // count
            yield {name: x[None] for name, x in held_out.batch(mine).items()}

    def counted_batches(self, form: Form | None = None) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """This process' share of the held-out batches, and how often each example of a batch is there."""
        left = min(self.experiment.evaluation_examples, len(self.held_out(form)))
        for batch in self.evaluation_batches(form):
            examples = min(left, self.experiment.batch_size)
            left -= examples
            yield batch, self._copies(examples)

    def last_batches(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """This process' share of the last training batches, with about as many examples as are held out; each is there once."""
        steps, ends = self.experiment.steps, [0, *self.experiment.phase_ends]
        wanted = -(-self.experiment.evaluation_examples // self.experiment.batch_size)
        for batch in self.batches(len(ends) - 2, max(ends[-2], steps - wanted)):
            yield batch, 1

    def _copies(self, examples: int) -> int:
        """How often each of so many held-out examples must be there for them to divide among the devices."""
        shards = self.spread.mesh.shape["data"] * self.spread.mesh.shape["fsdp"]
        return shards // math.gcd(examples, shards)

    def seen(self, batch: Mapping[str, np.ndarray], seed: int | None = None) -> dict[str, np.ndarray]:
        """A batch `[batch, ...]` of training examples, or of held-out ones with `EVALUATION_SEED`, as the model is to see it."""
        objective = self.objective if seed == EVALUATION_SEED else self.training_objective
        seed = self.experiment.seed if seed is None else seed
        return jax.device_get(jax.jit(lambda b: corrupted(objective, seed, b)[0])(dict(batch)))
