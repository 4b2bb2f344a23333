"""Folders that commands write: whole or not at all, never over what is there unasked."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from data.text.source import Text
from experiments.commands import import_
from experiments.experiment import ExperimentError
from experiments.finish import export
from experiments.folders import STAGED, keep_settings, refuse_what_is_there, replaced
from models import gpt2, hub
from tests.models.hub.test_beside import BERT, fresh


def contents(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def there(tmp_path):
    """A folder with a checkpoint and notes."""
    folder = tmp_path / "there"
    for name in (
        "config.json",
        "vocab.txt",
        "model-00001-of-00002.safetensors",
        "notes.txt",
        "part/tokenizer.json",
        "mine/config.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    return folder


def fill(place) -> None:
    (place / "part").mkdir()
    (place / "config.json").write_text("new")
    (place / "part/model.safetensors").write_text("new")


def test_what_is_there_is_not_written_over(there):
    before = contents(there)
    with (
        pytest.raises(ExperimentError, match=r"there is there already, with config\.json and 5 more: .* --force"),
        replaced(there),
    ):
        pytest.fail("nothing is written")
    with pytest.raises(ExperimentError, match="is a file"):
        refuse_what_is_there(there / "notes.txt", force=True)
    assert contents(there) == before
    refuse_what_is_there(there / "new", force=False)


def test_with_force_the_checkpoint_is_the_new_one_and_the_rest_stays(there):
    with replaced(there, force=True) as place:
        fill(place)
    assert contents(there) == {
        "config.json": "new",
        "part/model.safetensors": "new",
        "notes.txt": "old",
        "mine/config.json": "old",
    }


@pytest.mark.parametrize("state", ["missing", "empty", "of a killed process"])
def test_a_new_folder_needs_no_force(state, tmp_path):
    folder = tmp_path / "some" / "new"
    if state != "missing":
        folder.mkdir(parents=True)
    if state == "of a killed process":
        (folder / STAGED).mkdir()
        (folder / STAGED / "half").write_text("")
    with replaced(folder) as place:
        fill(place)
        assert not folder.exists() or not any(path.is_file() for path in folder.glob("*"))
    assert contents(folder) == {"config.json": "new", "part/model.safetensors": "new"}
    assert [path.name for path in folder.parent.iterdir()] == ["new"]


@pytest.mark.parametrize("force", [True, False])
def test_a_failed_write_leaves_nothing_behind(force, there):
    folder = there if force else there.with_name("new")
    before = contents(there)
    with pytest.raises(OSError, match="full"), replaced(folder, force) as place:
        fill(place)
        raise OSError("the disk is full")
    assert contents(there) == before
    assert sorted(path.name for path in there.parent.iterdir()) == ["there"]


@pytest.mark.parametrize("name", ["mine", "notes.txt/config.json"])
def test_a_file_does_not_take_the_place_of_a_folder(name, there):
    before = contents(there)
    with (
        pytest.raises(ExperimentError, match=f"{name.partition('/')[0]} stands where"),
        replaced(there, force=True) as place,
    ):
        (place / "config.json").write_text("new")
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("new")
    assert contents(there) == before


def test_an_import_says_what_goes_along_and_what_does_not(tmp_path, capsys):
    hub.save(tmp_path / "one", BERT, fresh(BERT))
    for name in ("vocab.txt", "preprocessor_config.json", "pytorch_model.bin"):
        (tmp_path / "one" / name).write_text("{}")
    arguments = [str(tmp_path / "one"), str(tmp_path / "two")]
    import_.main(arguments)
    said = capsys.readouterr().out
    assert "as it was: preprocessor_config.json, vocab.txt\n" in said
    assert "left: pytorch_model.bin, for a pickle can run code\n" in said
    before = contents_of_bytes(tmp_path / "two")
    with pytest.raises(ExperimentError, match="two is there already"):
        import_.main(arguments)
    assert contents_of_bytes(tmp_path / "two") == before
    (tmp_path / "two/special_tokens_map.json").write_text("{}")
    import_.main([*arguments, "--force"])
    assert contents_of_bytes(tmp_path / "two") == before


def contents_of_bytes(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_settings_of_published_folders_reach_the_export(tmp_path):
    """They are kept in the run's folder: what they come from may be gone when it ends."""
    from data.text.tokenizers import train_tokenizer

    tokenizer, initial = tmp_path / "tokenizer", tmp_path / "initial"
    train_tokenizer(["one two three"] * 4, kind="byte_bpe", vocab_size=270, path=tokenizer / "tokenizer.json")
    (tokenizer / "tokenizer_config.json").write_text('{"padding_side": "right", "model_max_length": 6}')
    (tokenizer / "chat_template.jinja").write_text("{{ messages }}")
    initial.mkdir()
    (initial / "generation_config.json").write_text('{"top_k": 7, "eos_token_id": [2, 3]}')
    model = gpt2.GPT2LMHeadModel(
        gpt2.GPT2Config(vocab_size=270, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=2)
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    experiment = SimpleNamespace(
        data=Text(tokenizer=str(tokenizer)), run_folder=run, evaluations=(), form=lambda n: None
    )
    keep_settings(run, tokenizer / "tokenizer.json", initial)
    for path in (*tokenizer.iterdir(), *initial.iterdir()):
        path.unlink()
    keep_settings(run, tokenizer, initial)
    keep_settings(run, run / "tokenizer.json", None)
    data = SimpleNamespace(
        tokenizer=experiment.data.tokenizer, prefix="", save_processor=lambda folder, form: None, generation={}
    )
    assembly = SimpleNamespace(experiment=experiment, student=model, data=data)
    variables = jax.tree.map(jnp.asarray, model.init(jax.random.key(0), **model.blank()))
    export(assembly, variables, run / "model", force=True)
    about = json.loads((run / "model/tokenizer_config.json").read_text())
    assert (about["padding_side"], about["model_max_length"]) == ("right", 6)
    assert (run / "model/chat_template.jinja").read_text() == "{{ messages }}"
    generation = json.loads((run / "model/generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": [2, 3], "top_k": 7}
    with pytest.raises(ExperimentError, match="there already"):
        export(assembly, variables, run / "model")
