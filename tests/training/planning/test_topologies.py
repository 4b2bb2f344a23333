"""Names of machines, how fast their links move a collective, and what a layout must send at the least."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from training.hardware import CHIPS, chip_of
from training.parallel import TrainingError
from training.planning.topologies import SLICES, absent_devices, parse_topology
from training.planning.traffic import lower_bound

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu (the tpu extra)")


@pytest.mark.parametrize(
    ("name", "chips"), [("v5e:16x16", 256), ("v4:4x4x4", 64), ("v5e:1x1", 1), ("gpu:h100:8", 8), ("gpu:a100:4x8", 32)]
)
def test_names(name, chips):
    assert parse_topology(name).chips == chips


@pytest.mark.parametrize(
    "name", ["v5e:100x100", "v9:2x2", "v4:4x4", "v5e", "gpu:h100:9", "gpu:h100:0x8", "gpu:b12:8", "16x16", ""]
)
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(TrainingError, match=r"known are v4: .*4x4x4.*v5e: .*16x16.*gpu:h100:8"):
        parse_topology(name)


def test_rings_that_close_carry_twice_as_much():
    """Cloud's 51.2 TB/s of all-reduce over the 256 chips of a v5e pod; a lone 4×4 has lines where the pod has rings."""
    assert parse_topology("v5e:16x16").bandwidth == 51.2e12 / 256
    assert parse_topology("v5e:4x4").bandwidth == 51.2e12 / 256 / 2
    assert parse_topology("v5e:8x16").bandwidth == 51.2e12 / 256 * 3 / 4
    assert parse_topology("v4:4x4x4").bandwidth == 2 * parse_topology("v4:2x2x2").bandwidth
    assert parse_topology("v4:2x2x1").bandwidth == pytest.approx(CHIPS["v4"].links / 3)


def test_collectives_between_servers_go_in_two_levels():
    one, four = parse_topology("gpu:h100:8"), parse_topology("gpu:h100:4x8")
    chip, size = CHIPS["h100"], 1e9
    assert one.seconds(2 * size * 7 / 8) == pytest.approx(2 * size * 7 / 8 / chip.links)
    within, across = 2 * size * 7 / 8 / chip.links, 2 * size / 8 * 3 / 4 / chip.network
    assert four.seconds(2 * size * 31 / 32) == pytest.approx(within + across)
    assert parse_topology("gpu:h100:1").seconds(0.0) == 0.0


def test_chips_are_found_by_the_longest_name_that_fits():
    assert {kind: (chip_of(kind) or ("none",))[0] for kind in ("TPU v5 lite", "TPU v5", "TPU v5p", "TPU v6 lite")} == {
        "TPU v5 lite": "v5e",
        "TPU v5": "v5p",
        "TPU v5p": "v5p",
        "TPU v6 lite": "v6e",
    }
    assert chip_of("NVIDIA H200") == ("h200", CHIPS["h200"])
    assert chip_of("cpu") is None


def bound(shape, data, fsdp, tensor, spec, dtype="bfloat16"):
    mesh = AbstractMesh((data, fsdp, tensor), ("data", "fsdp", "tensor"))
    params = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    return lower_bound(mesh, params, {"w": NamedSharding(mesh, PartitionSpec(*spec))}, dtype)


def test_lower_bound_of_each_layout():
    size = 64 * 32 * 4
    assert bound((64, 32), 8, 1, 1, ()) == 2 * size * 7 / 8
    assert bound((64, 32), 1, 1, 1, ()) == 0
    # fsdp: gathered in bf16, its f32 gradient reduce-scattered, then the shard all-reduced over `data`.
    assert bound((64, 32), 1, 4, 1, ("fsdp",)) == size * 3 / 4 + size / 2 * 3 / 4
    assert bound((64, 32), 2, 4, 1, ("fsdp",)) == size * 3 / 4 + size / 2 * 3 / 4 + 2 * size / 4 / 2
    # a parameter that `tensor` cuts is reduced by parts; one that no axis cuts, over data × fsdp
    assert bound((64, 32), 4, 1, 2, ("tensor",)) == 2 * size / 2 * 3 / 4
    assert bound((64, 32), 2, 4, 1, ()) == 2 * size * 7 / 8


def test_without_libtpu_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install 'lacuna-jax\[tpu\]'"):
        absent_devices(parse_topology("v5e:4x4"))


@needs_libtpu
@pytest.mark.parametrize("generation", SLICES)
def test_every_slice_has_one_device_a_chip(generation):
    for shape in SLICES[generation]:
        topology = parse_topology(f"{generation}:{shape}")
        if topology.chips <= 1024:
            devices = absent_devices(topology)
            assert len(devices) == math.prod(np.array(topology.shape)) == topology.chips
            assert chip_of(devices[0].device_kind) == (generation, CHIPS[generation])
