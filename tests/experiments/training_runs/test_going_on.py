"""What a run goes on over: other ways to look at it, data that moved or changed, a stop behind its last step."""

import dataclasses
import os
import shutil
import signal

import pytest

from data.forms import TextForm
from data.text.source import Text
from experiments.assembly.assemble import assemble
from experiments.assembly.assembly import Assembly
from experiments.assembly.evaluations import Evaluator
from experiments.campaigns.equality import differences, final_state
from experiments.commands import evaluate
from experiments.commands import train as training
from experiments.commands.train import Options, train
from experiments.experiment import Experiment, ExperimentError, Phase
from models.bert import BertConfig
from objectives import MaskedLM
from training.loop import Interrupted
from training.parallel import TrainingError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def begun(texts, tmp_path_factory, patch) -> Experiment:
    """A run of four steps, a checkpoint at each, to be gone on with from any; its end is not written."""
    patch.setenv("LACUNA_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(training, "finish", lambda *_, **__: {})
    patch.setattr(training, "print_result", lambda *_: None)
    config = BertConfig(
        vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    experiment = Experiment(
        name="going-on",
        architecture="BertForMaskedLM",
        model=config,
        objective=MaskedLM(),
        data=Text(source=str(texts), held_out=0.1),
        batch_size=4,
        steps=4,
        phases=(Phase(1.0, TextForm(16)),),
        evaluate_every=2,
        evaluation_examples=8,
        checkpoint_every=1,
        keep_checkpoints=4,
        folder=str(tmp_path_factory.mktemp("begun")),
    )
    train(experiment, "")
    return experiment


def back_at(begun: Experiment, step: int, folder, **changes) -> Experiment:
    """The run in another folder, when it had done so many steps."""
    shutil.copytree(begun.run_folder, folder)
    for later in range(step + 1, begun.steps + 1):
        shutil.rmtree(folder / "checkpoints" / str(later))
        (folder / "checkpoints.sums" / f"{later}.json").unlink()
    return dataclasses.replace(begun, folder=str(folder), **changes)


def of(experiment: Experiment, **changes) -> Experiment:
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, **changes))


def test_looking_more_often_from_data_that_moved_changes_no_bit(begun, texts, tmp_path, monkeypatch):
    moved = shutil.copytree(texts, tmp_path / "moved")
    looked = back_at(begun, 2, tmp_path / "run", evaluate_every=1, evaluation_examples=3, log_every=2)
    with monkeypatch.context() as patch:  # a second state beside the one that is restored
        patch.setattr(Assembly, "initial_state", lambda self: pytest.fail("an initial state was made"))
        train(of(looked, source=str(moved)), "")
    states = [final_state(experiment.run_folder) for experiment in (begun, looked)]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])
    assert "metrics differ" in differences(begun.run_folder, looked.run_folder)[0]


def test_data_that_changed_are_refused_or_gone_on_with_and_the_tokenizer_stays(begun, texts, tmp_path, capsys):
    changed = shutil.copytree(texts, tmp_path / "changed")
    (changed / "more.txt").write_text("zebras quickly vex jumping wizards. " * 400)
    experiment = of(back_at(begun, 2, tmp_path / "run"), source=str(changed))
    tokenizer = (experiment.run_folder / "tokenizer.json").read_bytes()
    for ask in (lambda: train(experiment, ""), lambda: evaluate.restored(assemble(experiment))):
        with pytest.raises(
            TrainingError, match=r"data are not those of the checkpoint of step 2 .*--data-changed go-on"
        ):
            ask()
    assert evaluate.restored(assemble(experiment), data_changed="go-on")[1] == 2
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(200))]))
    with pytest.raises(
        ExperimentError, match=r"gives other ids than that of the run.*--data.tokenizer .*tokenizer.json"
    ):
        train(of(experiment, tokenizer=str(other)), "", Options(data_changed="go-on"))
    assert "training a wordpiece tokenizer" not in capsys.readouterr().err
    train(experiment, "", Options(data_changed="go-on"))
    assert (experiment.run_folder / "tokenizer.json").read_bytes() == tokenizer
    assert evaluate.restored(assemble(experiment))[1] == 4
    assert "training a wordpiece tokenizer" not in capsys.readouterr().err


def test_a_stop_while_the_last_step_is_saved_or_behind_it_is_heard(begun, tmp_path, monkeypatch):
    experiment = back_at(begun, 3, tmp_path / "run")

    whole, asked = Evaluator.__call__, []

    def asked_to_stop(number, answer):
        if number not in asked:
            asked.append(number)
            os.kill(os.getpid(), number)
        return answer

    for number in (signal.SIGTERM, signal.SIGINT):
        with monkeypatch.context() as patch:
            if number == signal.SIGTERM:  # as the last step is evaluated and saved
                patch.setattr(Evaluator, "__call__", lambda *args: asked_to_stop(signal.SIGTERM, whole(*args)))
            else:  # as the end is written
                patch.setattr(training, "finish", lambda *_, **__: asked_to_stop(signal.SIGINT, {}))
            with pytest.raises(Interrupted, match="after step 4, which is saved; the same command goes on") as stop:
                train(experiment, "")
        assert stop.value.signal == number
    assert differences(begun.run_folder, experiment.run_folder) == []
