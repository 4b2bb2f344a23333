"""What a convolution or a maximum sees at each place. Images are (batch, height, width, channels)."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "batch _height _width _channels"]
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
    """What a convolution or a maximum sees at each place.

    Attributes:
        size: of the kernel, (height, width) like the others.
        padding: rows and columns on both sides: of zeros, or of nothing for a maximum.
        groups: parts of the channels, each seen by its own part of the outputs.
        dilation: how far apart neighbours within the kernel look.
    """

    size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    dilation: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """Rows and columns from the first that the kernel sees to the last, both included."""
        height, width = ((self.size[axis] - 1) * self.dilation[axis] + 1 for axis in (0, 1))
        return height, width

    def places(self, shape: tuple[int, ...]) -> Pair:
        """Height and width of what comes of an image of this shape."""
        height, width = (
            (shape[axis + 1] + 2 * self.padding[axis] - self.reach[axis]) // self.stride[axis] + 1 for axis in (0, 1)
        )
        return height, width


def pad(x: Image, padding: tuple[int, int], value: float = 0.0) -> Image:
    """Rows and columns of this value on both sides."""
    around = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    return jnp.pad(x, around, constant_values=value)
