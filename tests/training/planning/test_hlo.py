"""The reader of compiled programs, against programs whose loops and collectives are known, and against XLA's own counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from training.planning.hlo import Array, Collective, Program, group_size, parse_instruction

TPU = """HloModule m, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%sliced (p0: f32[24,8,16], p1: s32[]) -> f32[8,16] {
  %p0 = f32[24,8,16]{2,1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)} parameter(1)
  %slice.1 = f32[1,8,16]{2,1,0:T(8,128)} dynamic-slice(%p0, %p1, %p1, %p1), dynamic_slice_sizes={1,8,16}
  ROOT %bitcast.1 = f32[8,16]{1,0:T(8,128)} bitcast(%slice.1)
}

%all-reduce-scatter.1 (p: f32[64,16]) -> f32[16,16] {
  %p = f32[64,16]{1,0} parameter(0)
  %whole = f32[64,16]{1,0} all-reduce(%p), channel_id=3, replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %part = f32[16,16]{1,0} dynamic-slice(%whole, %zero), dynamic_slice_sizes={16,16}
}

%body (arg: (s32[], f32[24,8,16])) -> (s32[], f32[24,8,16]) {
  %arg = (s32[]{:T(128)}, /*index=1*/f32[24,8,16]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %stack = f32[24,8,16]{2,1,0:T(8,128)} get-tuple-element(%arg), index=1
  %layer = f32[8,16]{1,0:T(8,128)S(1)} fusion(%stack, %i), kind=kLoop, calls=%sliced
  %gathered = f32[32,16]{1,0} all-gather(%layer), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  ROOT %out = (s32[], f32[24,8,16]{2,1,0}) tuple(%i, %stack)
}

%condition (arg: (s32[], f32[24,8,16])) -> pred[] {
  %arg.1 = (s32[], f32[24,8,16]) parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %limit = s32[]{:T(128)} constant(24)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (x: f32[24,8,16], y: bf16[100], z: f32[64,16]) -> f32[100] {
  %x = f32[24,8,16]{2,1,0:T(8,128)} parameter(0)
  %y = bf16[100]{0} parameter(1)
  %z = f32[64,16]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %start = (s32[], f32[24,8,16]) tuple(%zero, %x)
  %loop = (s32[], f32[24,8,16]{2,1,0}) while(%start), condition=%condition, body=%body
  %scattered = f32[16,16]{1,0} fusion(%z), kind=kCustom, calls=%all-reduce-scatter.1
  %alone = f32[24,8,16]{2,1,0} all-reduce(%x), channel_id=4, replica_groups={{0},{1}}, to_apply=%add
  %begun = f32[100]{0} all-reduce-start(%y), channel_id=2, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %done = f32[100]{0} all-reduce-done(%begun)
}
"""


def test_collectives_of_a_program_as_the_tpu_compiler_writes_it():
    """In a loop of 24 turns; asynchronous; made of an all-reduce and a slice; among one chip; results wider than operands."""
    assert sorted(Program(TPU).collectives(), key=lambda c: c.kind) == [
        Collective("all-gather", 4 * 8 * 16 * 4, group=4, times=24, arrays=1),
        Collective("all-reduce", 100 * 4, group=8, times=1, arrays=1),
        Collective("reduce-scatter", 64 * 16 * 4, group=4, times=1, arrays=1),
    ]


def test_a_sliced_stack_is_read_a_slice_at_a_time_and_fast_memory_costs_nothing():
    program = Program(TPU)
    layer = 8 * 16 * 4
    fusion = program.computations["body"]["layer"]
    assert not fusion.results[0].in_main_memory
    assert program._bytes("body", fusion) == layer + 4
    assert program.times == {"main": 1, "body": 24, "condition": 25}


@pytest.mark.parametrize(
    ("kind", "moved"),
    [("all-reduce", 2 * 3 / 4), ("all-gather", 3 / 4), ("reduce-scatter", 3 / 4), ("all-to-all", 3 / 4)],
)
def test_ring_algorithm(kind, moved):
    assert Collective(kind, 1000, group=4, times=5, arrays=1).moved == 5 * 1000 * moved


def test_groups_in_every_form():
    assert group_size("replica_groups={{0,1,2},{3,4,5}}, x=1") == 3
    assert group_size("replica_groups=[16,8]<=[8,16]T(1,0)") == 8
    assert group_size("replica_groups=mesh['x'=4,'y'=2] {'x'}, dimensions={0}") == 4
    assert group_size("replica_groups=mesh['x'=4,'y'=2], device_ids=([4,2]T(1,0)) {'y'}, dimensions={0}") == 2
    assert group_size("replica_groups=mesh['x'=4,'y'=2] {'x':(2)2,'y'}, dimensions={0}") == 4
    assert group_size("source_target_pairs={{0,1},{1,0}}") == 2
    with pytest.raises(ValueError, match="replica groups"):
        group_size("channel_id=1")


def test_instructions_with_nested_brackets():
    line = "  ROOT %r.1 = (bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/u32[]{:T(128)}) custom-call(%a.2, %b), x={(1)}"
    found = parse_instruction(line)
    assert (found.name, found.operation, found.operands) == ("r.1", "custom-call", ("a.2", "b"))
    assert found.results == (Array("bf16", (2, 3), in_main_memory=False), Array("u32", ()))
    assert [a.bytes for a in found.results] == [12, 4]


def compiled(function, *shapes):
    return jax.jit(function).lower(*[jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]).compile()


def test_a_loop_counts_as_often_as_it_runs():
    """The traffic of a scanned program is that of the same one laid out, of which XLA itself tells the truth."""

    def layers(x, stack, unroll):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack, unroll=unroll)[0]

    shapes = (64, 256), (12, 256, 256)
    scanned, laid_out = (compiled(functools.partial(layers, unroll=n), *shapes) for n in (1, 12))
    truth = laid_out.cost_analysis()["bytes accessed"]
    assert Program(laid_out.as_text()).traffic() == pytest.approx(truth, rel=0.15)
    assert Program(scanned.as_text()).traffic() == pytest.approx(truth, rel=0.25)
    assert scanned.cost_analysis()["bytes accessed"] < 0.5 * truth, "XLA now counts loops itself: do without Program"


def test_collectives_of_this_jax_within_a_loop():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def total(x):
        def body(carry, x):
            return carry + jax.lax.psum(x @ x.T, "data"), None

        return jax.lax.scan(body, jnp.zeros((8, 8)), x)[0]

    mapped = jax.shard_map(
        total, mesh=mesh, in_specs=PartitionSpec(None, "data"), out_specs=PartitionSpec(), check_vma=False
    )
    x = jax.ShapeDtypeStruct((7, 32, 5), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "data")))
    found = Program(jax.jit(mapped).lower(x).compile().as_text()).collectives()
    assert [(c.kind, c.bytes * c.times, c.group) for c in found] == [("all-reduce", 7 * 8 * 8 * 4, 4)]
    gather = jax.jit(lambda x: x * 2, out_shardings=NamedSharding(mesh, PartitionSpec()))
    x = jax.ShapeDtypeStruct((32, 5), jnp.float32, sharding=rows)
    (found,) = Program(gather.lower(x).compile().as_text()).collectives()
    assert (found.kind, found.moved) == ("all-gather", 32 * 5 * 4 * 3 / 4)


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Program("nothing")


def test_a_loop_that_its_numbers_end_counts_once_unless_it_sends():
    """As `jax.random.beta` draws until a draw is accepted."""
    counted = "%i.1, %limit), direction=LT"
    assert counted in TPU
    decided = TPU.replace("  %limit = s32[]{:T(128)} constant(24)\n", "").replace(counted, "%i.1, %i.1), direction=LT")
    with pytest.raises(ValueError, match="loop loop: cannot tell how often it runs"):
        Program(decided).collectives()
    alone = decided.replace("all-gather(%layer)", "copy(%layer)")
    assert Program(alone).times["body"] == 1 and Program(TPU).times["body"] == 24
    compiled = jax.jit(lambda key: jax.random.beta(key, 0.8, 0.8, (4,))).lower(jax.random.key(0)).compile()
    assert Program(compiled.as_text()).traffic() > 0
