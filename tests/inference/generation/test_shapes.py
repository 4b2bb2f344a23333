"""Generation compiles few programs, writes into its cache where it lies, and gives each prompt what it has alone."""

import functools
import operator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inference.generation import GenerationConfig, cut, generate, programs
from inference.generation.generating import Asked, prepared
from inference.generation.layers import joined
from inference.generation.program import advance_compiled, begin_compiled, write
from models import bart, gpt2, t5

pytestmark = pytest.mark.slow

SIZES = dict(vocab_size=60, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = gpt2.GPT2LMHeadModel(
    gpt2.GPT2Config(**SIZES, n_positions=128, n_embd=16, n_layer=2, n_head=2, initializer_range=1.0)
)
BART = bart.BartForConditionalGeneration(
    bart.BartConfig(
        **SIZES,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=128,
        decoder_start_token_id=2,
        init_std=0.7,
    )
)
T5 = t5.T5ForConditionalGeneration(
    t5.T5Config(
        vocab_size=60,
        eos_token_id=2,
        pad_token_id=0,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
)
MODELS = {"gpt2": GPT2, "bart": BART, "t5": T5}
KEY = jax.random.key(3)


@functools.cache
def variables_of(model: nn.Module) -> dict:
    variables = nn.unbox(model.init(jax.random.key(1), **model.blank()))
    return jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape) * 0.3, variables)


def prompts(count: int, longest: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 60, rng.integers(1, longest + 1)) for _ in range(count)]


def together(rows: list[np.ndarray], left: bool = True) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, rows))
    sides = [(width - len(row), 0) if left else (0, width - len(row)) for row in rows]
    ids = np.stack([np.pad(row, side) for row, side in zip(rows, sides, strict=True)])
    return ids, np.stack([np.pad(np.ones_like(row), side) for row, side in zip(rows, sides, strict=True)])


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_hundred_prompts_take_a_program_a_bucket(name):
    """Prompts of 1 to 64 tokens fall into four buckets (1, 16, 32, 64), new ones (1 to 30) into two: an encoder's text has no
    bucket of one token."""
    model = MODELS[name]
    rng, before = np.random.default_rng(5), programs()
    lengths = [1, 2, 16, 17, 64, *rng.integers(1, 65, 95)]
    for length in lengths:
        new = int(rng.integers(1, 31))
        generate(
            model, variables_of(model), rng.integers(3, 60, (1, length)), settings=GenerationConfig(max_new_tokens=new)
        )
    assert len(set(lengths)) > 40
    buckets = 4 if name == "gpt2" else 3
    assert programs() - before <= 2 * 2 * buckets
    before = programs()
    for rows in (5, 6, 7, 8):
        generate(
            model, variables_of(model), rng.integers(3, 60, (rows, 20)), settings=GenerationConfig(max_new_tokens=9)
        )
    assert programs() - before == 2


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_loop_writes_into_the_cache_that_it_was_given(model, beams):
    """What the loop carries is donated: the cache lies where it lay."""
    settings = GenerationConfig(max_new_tokens=20, num_beams=beams)
    job = prepared(model, variables_of(model), *together(prompts(3, 20)), settings, Asked())
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    where = {x.unsafe_buffer_pointer() for x in (*writing.cache.keys, *writing.cache.values)}
    after = advance_compiled(job.plan, job.variables, writing, 4)
    assert where == {x.unsafe_buffer_pointer() for x in (*after.cache.keys, *after.cache.values)}
    assert writing.cache.keys[0].is_deleted()


def test_layers_are_cut_without_a_copy_and_joined_again():
    variables = variables_of(GPT2)
    parts = cut(GPT2, variables)
    jax.tree.map(np.testing.assert_array_equal, joined(cut(GPT2, parts)), variables)
    layers = parts["params"]["transformer"]["layers"]
    whole = jax.tree.leaves(variables["params"]["transformer"]["layers"])
    pieces = jax.tree.leaves(layers, is_leaf=lambda x: isinstance(x, tuple))
    aligned = [(x, piece) for x, piece in zip(whole, pieces, strict=True) if x[0].nbytes % 64 == 0]
    assert aligned
    for x, piece in aligned:
        assert len(piece) == 2 and piece[1].unsafe_buffer_pointer() == x.unsafe_buffer_pointer() + x[0].nbytes


# ── Neighbours ───────────────────────────────────────────────────────────────────────────────────────────────────────

ENDS = tuple(range(2, 9))
SEARCHES = {
    "greedy": dict(eos_token_id=ENDS, repetition_penalty=1.3),
    "drawn": dict(do_sample=True, top_k=20, eos_token_id=ENDS),
    "beams": dict(num_beams=4, num_return_sequences=2, eos_token_id=ENDS, no_repeat_ngram_size=2),
}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_neither_a_prompt_nor_a_text_that_is_whole_changes_its_neighbours(model, search):
    """Each among other prompts, to 1e-6; and alone, where another program runs, its tokens."""
    settings = GenerationConfig(max_new_tokens=20, **SEARCHES[search])
    rows, others = prompts(8, 24), prompts(8, 24, seed=1)
    ways, reads = settings.num_return_sequences, model is not GPT2
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(KEY, jnp.arange(8))

    def run(rows, keys):
        ids, mask = together(rows, left=not reads)
        found = generate(model, variables_of(model), ids, mask, settings, key=keys, log_probabilities=True)
        return found.replace(sequences=found.sequences[:, 1 if reads else ids.shape[1] :])

    found = run(rows, keys)
    assert len(set(found.lengths.tolist())) > 1, "they should end at different lengths"
    for number, row in enumerate(rows):
        part = operator.itemgetter(slice(number * ways, (number + 1) * ways))
        ours = jax.tree.map(part, found)
        alone = run([row], keys[number : number + 1])
        np.testing.assert_array_equal(alone.sequences, ours.sequences)
        np.testing.assert_allclose(alone.log_probabilities, ours.log_probabilities, atol=2e-4)
        if number % 3 == 0:
            among = jax.tree.map(part, run([*others[:number], row, *others[number + 1 :]], keys))
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6), among, ours)


def test_behind_the_end_there_is_nothing():
    settings = GenerationConfig(max_new_tokens=20, eos_token_id=tuple(range(2, 20)), pad_token_id=59)
    found = generate(GPT2, variables_of(GPT2), *together(prompts(8, 9)), settings, log_probabilities=True)
    new = np.asarray(found.sequences)[:, -20:]
    behind = np.arange(20)[None] >= np.asarray(found.lengths)[:, None]
    assert behind.any() and (new[behind] == 59).all() and (np.asarray(found.log_probabilities)[behind] == 0).all()
    assert (np.asarray(found.log_probabilities)[~behind] < 0).all()


# ── Several devices ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_several_devices_write_the_same(model, search):
    """Six prompts over a mesh of four devices by jit, and eight by pmap; fewer rows than a bucket are filled up."""
    settings = GenerationConfig(max_new_tokens=12, **SEARCHES[search])
    ids, mask = together(prompts(6, 14), left=model is GPT2)
    run = functools.partial(generate, model, variables_of(model), ids, mask, settings, key=KEY, log_probabilities=True)
    expected = run()
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    spread = run(sharding=NamedSharding(mesh, PartitionSpec("data")))
    assert len(spread.sequences.devices()) == 4
    np.testing.assert_array_equal(spread.sequences, expected.sequences)
    np.testing.assert_allclose(spread.log_probabilities, expected.log_probabilities, atol=2e-4)

    job = prepared(model, variables_of(model), ids, mask, settings, Asked(key=KEY, log_probabilities=True))
    by_device = jax.tree.map(lambda x: x.reshape(4, len(x) // 4, *x.shape[1:]), job.prompts)
    found = jax.pmap(functools.partial(write, job.plan), in_axes=(None, 0), devices=jax.devices()[:4])(
        variables_of(model), by_device
    )
    found = jax.tree.map(lambda x: np.concatenate(np.asarray(x))[: job.texts], found)
    begun = expected.sequences.shape[1] - 12
    np.testing.assert_array_equal(found.sequences[:, :12], expected.sequences[:, begun:])
    np.testing.assert_allclose(found.log_probabilities[:, :12], expected.log_probabilities, atol=2e-4)


def test_rows_are_spread_and_the_cache_with_them():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    asked = Asked(sharding=NamedSharding(mesh, PartitionSpec("data")))
    job = prepared(GPT2, variables_of(GPT2), *together(prompts(6, 14)), GenerationConfig(max_new_tokens=4), asked)
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    assert job.prompts.input_ids.sharding.shard_shape(job.prompts.input_ids.shape)[0] == 2
    keys = writing.cache.keys[0]
    assert keys.sharding.shard_shape(keys.shape)[0] == 2
