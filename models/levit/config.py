"""The settings of LeViT."""

import dataclasses
from typing import ClassVar

from models.config import ModelConfig, ModelError, Variant
from models.layers.convolution import places

STAGES, STEM = 3, 4
"""How many stages there are, and convolutions before them."""

SHRINKING_STRIDE, SHRINKING_VALUE_RATIO, SHRINKING_MLP_RATIO = 2, 4, 2
"""Between stages: every second token of a row and of a column asks; values are 4 times as wide as keys; then an MLP."""


@dataclasses.dataclass(frozen=True)
class LevitConfig(ModelConfig):
    """Shape of a LeViT, with the field names of a published `config.json`. Each tuple has one entry per stage.

    Attributes:
        image_size: height and width of an image, in pixels.
        kernel_size, stride, padding: of the four convolutions of the stem.
        patch_size: pixels of an image's side that become one token: what the stem makes of them.
        key_dim: features of a head's queries and keys.
        attention_ratio: how much wider a head's values are.
        drop_path_rate: of every residual branch alike, as in the released code.
        labels: names of the outputs of the classification heads (`id2label`).
        fused_norms: there are no batch norms: the layers that they followed do their work, too (`fused`).
    """

    model_type: ClassVar[str] = "levit"
    attention_kernel: ClassVar[bool] = False
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "fused_norms")
    variants: ClassVar[tuple[str, ...]] = ("levit_128s", "levit_128", "levit_192", "levit_256", "levit_384")

    image_size: int = 224
    num_channels: int = 3
    kernel_size: int = 3
    stride: int = 2
    padding: int = 1
    patch_size: int = 16
    hidden_sizes: tuple[int, ...] = (128, 256, 384)
    num_attention_heads: tuple[int, ...] = (4, 8, 12)
    depths: tuple[int, ...] = (4, 4, 4)
    key_dim: tuple[int, ...] = (16, 16, 16)
    drop_path_rate: float = 0.0
    mlp_ratio: tuple[int, ...] = (2, 2, 2)
    attention_ratio: tuple[int, ...] = (2, 2, 2)
    initializer_range: float = 0.02
    labels: tuple[str, ...] = tuple(f"LABEL_{i}" for i in range(1000))
    fused_norms: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden_sizes", "num_attention_heads", "depths", "key_dim", "mlp_ratio", "attention_ratio"):
            value = vars(self)[name]
            if len(value) != STAGES or min(value) < 1:
                raise ModelError(f"{name}={value}: expected a whole number of at least 1 for each of {STAGES} stages")
        grid = self.stem_sizes[-1]
        if grid < 1 or grid != self.image_size // self.patch_size:
            raise ModelError(
                f"image_size={self.image_size} and patch_size={self.patch_size}: the stem makes {grid} tokens of a row,"
                " expected image_size // patch_size"
            )

    @classmethod
    def from_json(cls, published: dict, **changes) -> "LevitConfig":
        """From a published `config.json`; attention between stages other than the published models' is refused."""
        rate = published.get("drop_path", published.get("drop_path_rate", 0))
        config = super().from_json({**published, "drop_path_rate": float(rate)}, **changes)
        expected = config.to_json()["down_ops"]
        given = tuple(tuple(operation) for operation in published.get("down_ops", expected) if operation != [""])
        if given != expected:
            raise ModelError(f"down_ops={given}: only {expected} is implemented for LeViT of this shape")
        return config

    def to_json(self) -> dict:
        """As a published `config.json`. `transformers` takes whole numbers alone for `drop_path_rate`: what is none stands
        under `drop_path`, as the released code calls it, where `transformers` does not look."""
        ratios_and_stride = SHRINKING_VALUE_RATIO, SHRINKING_MLP_RATIO, SHRINKING_STRIDE
        down_ops = tuple(
            ("Subsample", self.key_dim[0], self.shrinking_heads(stage), *ratios_and_stride)
            for stage in range(STAGES - 1)
        )
        rate = self.drop_path_rate
        rates = {"drop_path_rate": int(rate)} if rate == int(rate) else {"drop_path_rate": 0, "drop_path": rate}
        return {**super().to_json(), **rates, "down_ops": down_ops}

    levit_128s = Variant(num_attention_heads=(4, 6, 8), depths=(2, 3, 4))
    levit_128 = Variant()
    levit_192 = Variant(hidden_sizes=(192, 288, 384), num_attention_heads=(3, 5, 6), key_dim=(32, 32, 32))
    levit_256 = Variant(hidden_sizes=(256, 384, 512), num_attention_heads=(4, 6, 8), key_dim=(32, 32, 32))
    levit_384 = Variant(
        hidden_sizes=(384, 512, 768), num_attention_heads=(6, 9, 12), key_dim=(32, 32, 32), drop_path_rate=0.1
    )

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Channels that each convolution of the stem returns."""
        return tuple(self.hidden_sizes[0] // 2 ** (STEM - 1 - i) for i in range(STEM))

    @property
    def stem_sizes(self) -> tuple[int, ...]:
        """Height and width of what each convolution of the stem returns."""
        sizes = [self.image_size]
        for _ in range(STEM):
            sizes.append(places(sizes[-1], self.kernel_size, self.stride, self.padding))
        return tuple(sizes[1:])

    @property
    def grids(self) -> tuple[int, ...]:
        """Height and width of each stage's grid of tokens."""
        grids = [self.stem_sizes[-1]]
        for _ in range(STAGES - 1):
            grids.append((grids[-1] - 1) // SHRINKING_STRIDE + 1)
        return tuple(grids)

    def shrinking_heads(self, stage: int) -> int:
        """Heads of the attention by which the grid shrinks after a stage."""
        return self.hidden_sizes[stage] // self.key_dim[0]
