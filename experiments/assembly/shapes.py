"""Shapes of what a run computes with, before anything is computed: the state, a batch."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from models.model import Model
from models.student_teacher import as_teacher
from objectives import Objective
from training.state import TrainState, Update
from training.step import corrupted


def boxed_state(model: Model, update: Update, seed: int) -> TrainState:
    """Step 0 with the logical axes of the parameters still on them."""
    return update.first(model.init(jax.random.key(seed, impl="threefry2x32"), **model.blank()))


def boxed_state_shapes(model: Model, update: Update) -> TrainState:
    """Shapes of `boxed_state`."""
    return jax.eval_shape(update.first, model.boxed_shapes())


def boxed_frozen(teacher: Model) -> PyTree:
    """Shapes of a teacher's variables with their logical axes still on them, as a student that is joined with it wants them."""
    return as_teacher(teacher.boxed_shapes())


def abstract_batch(objective: Objective, example: Mapping[str, np.ndarray], batch_size: int):
    """Shapes of a corrupted batch and its dropout keys, without computing anything."""
    shapes = {
        name: jax.ShapeDtypeStruct((batch_size, *np.shape(value)), np.asarray(value).dtype)
        for name, value in example.items()
    }
    return jax.eval_shape(lambda batch: corrupted(objective, 0, batch), shapes)
