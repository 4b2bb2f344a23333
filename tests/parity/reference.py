"""What the comparisons with live `transformers` share: perturbed reference models, and all that is held against them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import hub

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TUPLES = (
    "hidden_states",
    "attentions",
    "encoder_hidden_states",
    "decoder_hidden_states",
    "encoder_attentions",
    "decoder_attentions",
    "cross_attentions",
)
"""Outputs that `transformers` gives as one array per layer."""

IMAGES = ("pixel_values", "reconstruction", "input_features")
"""Inputs and outputs with channels, or mels, last here and behind the batch there."""


def perturbed(architecture: str, config):
    """The reference model with every parameter perturbed: fresh ones hide swapped norms and forgotten biases."""
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def tensors(arrays) -> dict:
    """What `transformers` takes: whole numbers as int64, images with their channels first."""
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    arrays = {name: np.moveaxis(value, -1, 1) if name in IMAGES else value for name, value in arrays.items()}
    return {
        name: torch.tensor(value, dtype=torch.long if value.dtype.kind in "iu" else None)
        for name, value in arrays.items()
    }


def difference(ours, theirs, where: np.ndarray | None = None) -> float:
    """Largest difference, as a share of the largest value (of 0.01 where that is smaller), at the places `where`."""
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    if where is not None:
        ours, theirs = ours[..., where, :], theirs[..., where, :]
    return float(np.abs(ours - theirs).max() / max(0.01, np.abs(theirs).max()))


def differences(
    theirs,
    folder: Path,
    arrays: dict[str, np.ndarray],
    labels: Mapping[str, np.ndarray] | Callable,
    our_loss: Callable,
    where: np.ndarray | dict[str, np.ndarray] | None = None,
    options: Mapping = MappingProxyType({}),
    **changes,
) -> tuple[dict[str, float], set[str]]:
    """{what: difference} of outputs, hidden states, attentions, loss and the gradient of every parameter.

    Args:
        theirs: the reference model; it is saved to `folder` and loaded from there.
        arrays: inputs of both.
        labels: what `theirs` wants beside them for its loss, or the loss of its outputs where it has none.
        our_loss: of our outputs.
        where: (batch, length), the places of which hidden states and logits are compared; all where `None`. Where encoder
            and decoder differ, a dictionary: those of the `encoder`, and those of the `decoder`.
        options: further arguments of both, no arrays.
        changes: to our config.

    Also returns the names of our outputs.
    """
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder, **changes)
    assert type(model).__name__ == type(theirs).__name__
    options = dict(options, output_hidden_states=True, output_attentions=True)
    expected = theirs(**tensors(arrays if callable(labels) else {**arrays, **labels}), **options)

    def loss(params):
        outputs = model.apply({"params": params}, **arrays, **options)
        return our_loss(outputs), outputs

    arrays = {name: jnp.asarray(value) for name, value in arrays.items()}
    (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    found = {}
    for name in outputs:
        reference = getattr(expected, name, None)
        if reference is None:
            continue
        reference = torch.stack(reference) if name in TUPLES else reference
        reference = reference.movedim(1, -1) if name in IMAGES else reference
        per_place = "attentions" not in name and outputs[name].ndim > 2
        places = where["encoder" if name.startswith("encoder") else "decoder"] if isinstance(where, dict) else where
        found[name] = difference(outputs[name], reference, places if per_place else None)
    reference = labels(expected) if callable(labels) else expected.loss
    found["loss"] = difference(value, reference)
    reference.backward()
    found |= gradient_differences(theirs, model, gradients)
    return found, set(outputs)


def gradient_differences(theirs, model, gradients) -> dict[str, float]:
    """{gradient of a published tensor: difference}; every parameter of `theirs` must be among them."""
    flat = flatten_dict(gradients, sep="/")
    names = hub.names_of(model.config)
    base = names.is_base(flat)
    parameters = {names.today(name, base): parameter for name, parameter in theirs.named_parameters()}
    named = {name: parameter.grad for name, parameter in parameters.items() if parameter.requires_grad}
    table = names.by_ours(flat)
    found, compared = {}, set()
    for path, gradient in flat.items():
        name = table[path]
        for layer in range(len(gradient)) if name.layered else [None]:
            published = name.published if layer is None else name.of_layer(layer)
            ours = name.publish(np.asarray(gradient if layer is None else gradient[layer]))
            reference = named.get(published)
            # Some classes have a head of their own name or none; what has no gradient there must have none here.
            reference = torch.zeros(ours.shape) if reference is None else reference
            found[f"gradient of {published}"] = difference(ours, reference)
            compared.add(published)
    missing = set(named) - compared - names.of(flat).copies.keys()
    assert not missing, missing
    return found


def round_trip(theirs, folder: Path) -> None:
    """Their folder read and written by us: nothing missing, nothing unexpected, every number as it was."""
    theirs.save_pretrained(folder / "theirs")
    model, variables = hub.load(folder / "theirs")
    hub.save(folder / "ours", model, variables)
    again, info = type(theirs).from_pretrained(folder / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    state = again.state_dict()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert again.config.num_labels == theirs.config.num_labels
