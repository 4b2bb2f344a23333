"""What the comparisons of vision models with live `transformers` share: images NHWC here, NCHW there; batch norms."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from models import hub
from tests.parity.reference import difference, gradient_differences, perturbed, torch


def perturbed_statistics(architecture: str, config):
    """The reference model with every parameter and every running statistic perturbed."""
    model = perturbed(architecture, config)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
        elif name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def channels_last(x) -> np.ndarray:
    """Their feature map as ours; other arrays as they are."""
    x = x.detach().numpy()
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def image_differences(
    theirs,
    folder: Path,
    pixel_values: np.ndarray,
    labels: np.ndarray | None,
    our_loss: Callable,
    their_loss: Callable | None = None,
    inputs: dict | None = None,
    **changes,
) -> tuple[dict[str, float], dict]:
    """{what: difference} of outputs, feature maps, loss, the gradient of every parameter and the statistics afterwards.

    Args:
        theirs: the reference model, in the mode (evaluation, training) that is to be compared.
        pixel_values: (batch, height, width, channels).
        labels: what `theirs` wants for its loss; without them `their_loss` says it, of the outputs.
        inputs: further ones of ours (`batch_axes`).
        changes: to our config.

    Also returns our outputs.
    """
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder, **changes)
    assert type(model).__name__ == type(theirs).__name__
    asked = {} if labels is None else {"labels": torch.tensor(labels)}
    images = torch.tensor(pixel_values.transpose(0, 3, 1, 2).copy())
    expected = theirs(pixel_values=images, **asked, output_hidden_states=True)

    def loss(params):
        outputs, moved = model.apply(
            {**variables, "params": params},
            jnp.asarray(pixel_values),
            output_hidden_states=True,
            mutable=["batch_stats"],
            **(inputs or {}),
        )
        return our_loss(outputs), (outputs, moved)

    (value, (outputs, moved)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    found = {}
    for name in outputs:
        reference = getattr(expected, name, None)
        if reference is None:
            continue
        if isinstance(reference, tuple):
            assert len(reference) == len(outputs[name])
            pairs = zip(outputs[name], reference, strict=True)
            found[name] = max(difference(ours, channels_last(its)) for ours, its in pairs)
        else:
            reference = channels_last(reference)
            found[name] = difference(outputs[name], reference.reshape(outputs[name].shape))
    reference = expected.loss if labels is not None else their_loss(expected)
    found["loss"] = difference(value, reference)
    reference.backward()
    found |= gradient_differences(theirs, model, gradients)
    return found | statistics_differences(theirs, model, {**variables, **moved}), outputs


def statistics_differences(theirs, model, variables) -> dict[str, float]:
    """{running statistic: difference}; every one of `theirs` is compared."""
    state, found = theirs.state_dict(), {}
    wanted = {name for name in state if name.endswith(("running_mean", "running_var"))}
    flat = hub.flat(variables)
    for path, name in hub.names_of(model.config).by_ours(flat).items():
        for layer in range(len(flat[path])) if name.layered else [None]:
            published = name.published if layer is None else name.of_layer(layer)
            if published in wanted:
                ours = flat[path] if layer is None else flat[path][layer]
                found[published] = difference(ours, state[published])
    assert found.keys() == wanted
    return found
