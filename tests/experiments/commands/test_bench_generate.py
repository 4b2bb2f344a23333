"""`lacuna bench --task generate`: what a token reads is counted by hand, and the last line is JSON."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments.benchmarks import decoding
from experiments.benchmarks.decoding import Load, Speed, bytes_of_a_token
from experiments.commands import bench
from experiments.experiment import ExperimentError
from inference.generation import GenerationConfig
from inference.generation.generating import Asked, prepared
from models import bart, bert, gpt2, hub, llama
from models.config import ModelError

SIZES = dict(vocab_size=60, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = gpt2.GPT2Config(**SIZES, n_positions=128, n_embd=16, n_layer=3, n_head=2)
LLAMA = llama.LlamaConfig(
    **SIZES,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    tie_word_embeddings=False,
)
BART = bart.BartConfig(
    **SIZES,
    d_model=16,
    encoder_layers=1,
    decoder_layers=3,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=24,
    decoder_ffn_dim=24,
    max_position_embeddings=128,
    decoder_start_token_id=2,
)
ROWS, PROMPT, ROOM = 2, 16, 16 + 32


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """The bandwidth is not what these tests are about."""
    monkeypatch.setattr(decoding, "bandwidth", lambda: 2e9)


def variables_of(model):
    return nn.unbox(model.init(jax.random.key(0), **model.blank()))


def bytes_of(model) -> int:
    settings = GenerationConfig(max_new_tokens=20, eos_token_id=())
    ids = np.ones((ROWS, PROMPT), np.int32)
    return bytes_of_a_token(prepared(model, variables_of(model), ids, None, settings, Asked()))


def sizes_of(model) -> dict[str, int]:
    return {path: x.size for path, x in flatten_dict(variables_of(model)["params"], sep="/").items()}


def cache_of(layers: int, width: int, room: int) -> int:
    return 2 * layers * ROWS * room * width


def test_of_tied_embeddings_all_is_read_and_of_positions_a_row_each():
    model = gpt2.GPT2LMHeadModel(GPT2)
    sizes = sizes_of(model)
    positions = sizes.pop("transformer/position_embeddings/embedding")
    assert positions == 128 * 16
    assert bytes_of(model) == 4 * (sum(sizes.values()) + ROWS * 16 + cache_of(3, 16, ROOM))


def test_of_untied_embeddings_a_row_is_read_for_each_text():
    model = llama.LlamaForCausalLM(LLAMA)
    sizes = sizes_of(model)
    (words,) = (path for path in sizes if "word_embeddings" in path)
    assert sizes.pop(words) == 60 * 16
    assert bytes_of(model) == 4 * (sum(sizes.values()) + ROWS * 16 + cache_of(3, 8, ROOM))


def test_what_an_encoder_reads_and_what_makes_its_memory_is_not_read_again():
    model = bart.BartForConditionalGeneration(BART)
    sizes = sizes_of(model)
    decoder = {path: size for path, size in sizes.items() if "/encoder/" not in path}
    made = [path for path in decoder if "cross" in path and ("/key/" in path or "/value/" in path)]
    positions = [path for path in decoder if "position_embeddings" in path]
    assert len(made) == 4 and len(positions) == 1
    read = sum(decoder.values()) - sum(decoder[path] for path in (*made, *positions)) + 16  # all stand at one place
    memory, room = cache_of(3, 16, PROMPT), 1 + 32
    assert bytes_of(model) == 4 * (read + memory + cache_of(3, 16, room))


def test_a_share_is_what_a_token_behind_the_first_reads_over_its_time():
    speed = Speed(Load(texts=2, new_tokens=5), [3.0, 5.0, 9.0], [1.0, 1.0, 1.0], 0.5, bytes_read=40, bandwidth=100.0)
    assert speed.tokens_per_second == 2 and speed.seconds_per_token == 1 and speed.share == 0.4


RECIPE = """
import dataclasses
from experiments.experiment import Experiment
from experiments.gpt2.pretrain import demo
from tests.experiments.commands.test_bench_generate import GPT2

def tiny() -> Experiment:
    return dataclasses.replace(demo(), name="tiny", model=GPT2)
"""


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_recipe_writes_with_random_weights(capsys, tmp_path):
    (tmp_path / "tiny.py").write_text(RECIPE)
    flags = (
        "--task",
        "generate",
        "--texts",
        "2",
        "--new-tokens",
        "8",
        "--rounds",
        "2",
        "--model.param-dtype",
        "bfloat16",
    )
    bench.main([str(tmp_path / "tiny.py"), *flags])
    found = last_line(capsys)
    assert (found["benchmark"], found["task"], found["name"], found["param_dtype"]) == (
        *("bench", "generate", "tiny", "bfloat16"),
    )
    seconds, first = found["seconds"], found["seconds_to_first_token"]
    assert len(seconds) == len(first) == 2 and all(0 < early < late for early, late in zip(first, seconds, strict=True))
    assert found["tokens_per_second"] == pytest.approx(2 * 8 / np.median(seconds))
    assert found["share_of_bandwidth"] > 0 and found["seconds_compiling"] > 0


def test_a_checkpoint_writes_with_its_own(capsys, tmp_path):
    model = bart.BartForConditionalGeneration(BART)
    hub.save(tmp_path, model, variables_of(model))
    bench.main(["--task", "generate", "--model", str(tmp_path), "--beams", "2", "--new-tokens", "8", "--rounds", "1"])
    found = last_line(capsys)
    assert found["name"] == str(tmp_path) and found["load"]["beams"] == 2 and len(found["seconds"]) == 1


def test_what_cannot_be_measured_is_refused(tmp_path):
    (tmp_path / "tiny.py").write_text(RECIPE)
    file = str(tmp_path / "tiny.py")
    with pytest.raises(ExperimentError, match="--task write: expected train or generate"):
        bench.main([file, "--task", "write"])
    with pytest.raises(ModelError, match="new_tokens=1: expected a whole number of at least 2"):
        bench.main([file, "--task", "generate", "--new-tokens", "1"])
    with pytest.raises(ExperimentError, match="--rounds 0: expected a positive number"):
        bench.main([file, "--task", "generate", "--rounds", "0"])
    with pytest.raises(ModelError, match="BertForMaskedLM writes no text from a text"):
        model = bert.BertForMaskedLM(bert.BertConfig(vocab_size=9, num_hidden_layers=1))
        decoding.writing_speed(model, {}, Load())


@pytest.mark.slow
def test_a_sum_reads_memory_as_fast_as_numpy_does_on_one_core(monkeypatch):
    """No less than two thirds of it, whatever else runs: sums of rows alone reach half."""
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "quiet", lambda seconds, waited: True)
    many = np.ones(2**27, np.float32)
    times = []
    for _ in range(4):
        begin = decoding.time.perf_counter()
        many.sum()
        times.append(decoding.time.perf_counter() - begin)
    assert decoding.bandwidth() > 0.67 * many.nbytes / min(times)
