"""The state of a run, and what the gradients of a step do to it."""

import dataclasses
import re
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Bool, PyTree

from models.layers.axes import LAYERS
from training.parallel import TrainingError


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and so all that a checkpoint must hold.

    Attributes:
        step: int32 scalar, the steps done. Unchecked, like the others: trees of shapes and shardings look alike.
        opt_state: of the parameters that are trained.
        batch_stats: running statistics of batch norms; `None` where the model has none.
        average: of the variables over the steps, as heavy as `Update.average_decay` says; `None` without.
    """

    step: Any
    params: Any
    opt_state: Any
    batch_stats: Any = None
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the model is applied with."""
        return variables_of(self.params, self.batch_stats)


def variables_of(params: PyTree, batch_stats: PyTree) -> dict[str, Any]:
    return {"params": params} if batch_stats is None else {"params": params, "batch_stats": batch_stats}


@dataclasses.dataclass(frozen=True)
class Update:
    """What the gradients of a step do to a state.

    Attributes:
        trainable: pattern of the parameters to train, searched for (`re.search`) in their paths, names joined by `/`; all of
            them where it is empty. The others have neither gradient nor moments. Where layers are stacked, it may name some:
            `encoder/layers/0/attention`; the others of the stack have moments of 0 and stay as they are.
        average_decay: what each step leaves of the average of the variables over the steps; no average where `None`.
    """

    optimizer: optax.GradientTransformation
    trainable: str = ""
    average_decay: float | None = None

    def first(self, variables: dict[str, Any]) -> TrainState:
        """Step 0; the average, where there is to be one, begins as the variables are."""
        params, batch_stats = variables["params"], variables.get("batch_stats")
        average = None if self.average_decay is None else variables_of(params, batch_stats)
        opt_state = self.optimizer.init(self.split(params)[0])
        return TrainState(jnp.zeros((), jnp.int32), params, opt_state, batch_stats, average)

    def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """The parameters to train, and the others.

        Raises:
            TrainingError: there are none to train.
        """
        if not self.trainable:
            return params, {}
        flat = flatten_dict(params)
        trained = {path: x for path, x in flat.items() if self.layers(path, x).any()}
        if not trained:
            some = ", ".join(sorted("/".join(path) for path in flat)[:: max(1, len(flat) // 5)])
            raise TrainingError(
                f"trainable={self.trainable!r}: the path of no parameter has this in it, such as {some}"
            )
        return unflatten_dict(trained), unflatten_dict({path: x for path, x in flat.items() if path not in trained})

    def layers(self, path: tuple[str, ...], x: Any) -> Bool[np.ndarray, " layers"]:
        """Which layers of a stacked parameter are trained; of another one, whether it is."""
        if re.search(self.trainable, "/".join(path)):
            return np.ones(1, bool)
        if LAYERS not in path:
            return np.zeros(1, bool)
        place = path.index(LAYERS) + 1
        count = jax.tree.leaves(x)[0].shape[0]
        numbered = ("/".join((*path[:place], str(layer), *path[place:])) for layer in range(count))
        return np.array([re.search(self.trainable, one) is not None for one in numbered])

    def masked(self, tree: PyTree) -> PyTree:
        """Gradients or updates of what is trained, 0 in the layers of a stack that are not."""
        if not self.trainable:
            return tree
        flat = {path: (x, self.layers(path, x)) for path, x in flatten_dict(tree).items()}
        kept = {
            path: x if layers.all() else x * jnp.asarray(layers, x.dtype).reshape(-1, *[1] * (x.ndim - 1))
            for path, (x, layers) in flat.items()
        }
        return unflatten_dict(kept)

    def __call__(self, state: TrainState, gradients: PyTree, batch_stats: PyTree) -> TrainState:
        """The next state, from the gradients of the parameters that are trained and the running statistics after the step."""
        trained, others = self.split(state.params)
        updates, opt_state = self.optimizer.update(self.masked(gradients), state.opt_state, trained)
        updates = self.masked(updates)  # what decays, too
        params = joined(optax.apply_updates(trained, updates), others)
        average = state.average
        if average is not None:
            decay, now = self.average_decay, variables_of(params, batch_stats)
            average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, now)
        return TrainState(state.step + 1, params, opt_state, batch_stats, average)

    def entered(self, state: TrainState) -> TrainState:
        """A state of another `trainable` as this one's: all moments begin at zero, the schedule of learning rates goes on."""

        def schedules(opt_state: PyTree) -> tuple[list[Any], Any]:
            return jax.tree.flatten(opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState))

        before = [leaf for leaf in schedules(state.opt_state)[0] if isinstance(leaf, optax.ScaleByScheduleState)]
        leaves, tree = schedules(self.optimizer.init(self.split(state.params)[0]))
        kept = iter(before)
        leaves = [next(kept) if isinstance(leaf, optax.ScaleByScheduleState) else leaf for leaf in leaves]
        return state.replace(opt_state=tree.unflatten(leaves))


def joined(trained: PyTree, others: PyTree) -> PyTree:
    """The inverse of `Update.split`."""
    return unflatten_dict({**flatten_dict(others), **flatten_dict(trained)}) if others else trained
