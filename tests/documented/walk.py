"""How a documented command is typed in a fresh copy of the repository, made small.

What is made small is how long a run lasts, never its model or its data: whether one recipe still fits the next one is what
this is for. After each run the commands that it says to try next are tried. A command with a word that stands for something
(`FILE`, `TEXT`) must say in `MEANT` what it is walked with, and one that wants what cannot be had here must be refused in one
sentence: `ELSEWHERE`.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.documented.commands import Command
from tests.training.test_supervisor import free_port

SMALL = [
    "--steps",
    "6",
    "--batch-size",
    "8",
    "--evaluate-every",
    "3",
    "--evaluation-examples",
    "8",
    "--checkpoint-every",
    "3",
]
BERT, GPT2 = "experiments/bert/pretrain.py", "experiments/gpt2/pretrain.py"
CLASSIFY = "experiments/bert/classify.py"
TAG, ANSWER, CHOOSE = (f"experiments/bert/{name}.py" for name in ("tag", "answer", "choose"))
DEMO = "--initial-model runs/bert-demo/model"
MEANT: dict[str, list[str]] = {
    "make pretrain": [f"lacuna train {BERT}"],
    "lacuna train FILE[:variant] [--field value …]": [f"lacuna train {BERT}"],
    "lacuna evaluate FILE [--on SOURCE]": [f"lacuna evaluate {BERT}", f"lacuna evaluate {BERT} --on my_texts"],
    "lacuna check FILE": [f"lacuna check {BERT}"],
    "lacuna predict fill-mask TEXT --model FOLDER": [
        'lacuna predict fill-mask "The capital of France is [MASK]." --model runs/bert-demo/model'
    ],
    "lacuna generate TEXT --model FOLDER": [
        f"lacuna train {GPT2}",
        'lacuna generate "The capital of France" --model runs/gpt2-sibling/model',
        'lacuna generate "The capital of France" --do-sample --top-k 5 --model runs/gpt2-sibling/model',
        'lacuna generate "The capital of France" --num-beams 3 --model runs/gpt2-sibling/model',
    ],
    "lacuna harness TASK --model FOLDER": ["lacuna harness my_task.yaml --model runs/gpt2-sibling/model"],
    "lacuna explain FILE [--example N]": [f"lacuna explain {BERT} --example 3"],
    "lacuna plan FILE --topology v5e:16x16": [f"lacuna plan {BERT} --topology v5e:16x16 --batch-size 256"],
    "lacuna plan … --topology '?'": [f"lacuna plan {BERT} --topology gpu:h100:1x8"],
    f"lacuna train {CLASSIFY} --data.source FOLDER --initial-model FOLDER": [
        f"lacuna train {CLASSIFY} --data.source my_classes --initial-model runs/bert-demo/model"
    ],
    f"lacuna train {CLASSIFY}:genres --data.source FOLDER --initial-model FOLDER": [
        f"lacuna train {CLASSIFY}:genres --data.source genres --initial-model runs/bert-demo/model"
    ],
    f"lacuna train {CLASSIFY}:labelled --data.source FOLDER --initial-model FOLDER": [
        f"lacuna train {CLASSIFY}:labelled --data.source my_classes --folder runs/classes"
        " --initial-model runs/bert-demo/model"
    ],
    "lacuna predict text-classification TEXT --model FOLDER": [
        'lacuna predict text-classification "the river ran past the mill" --model runs/bert-mails/model'
    ],
    f"lacuna train {TAG} --data.source FOLDER/tags --initial-model FOLDER": [
        f"lacuna train {TAG} --data.source my_words.conll {DEMO}"
    ],
    f"lacuna train {TAG}:words --data.source FILE.conll --initial-model FOLDER": [
        f"lacuna train {TAG}:words --data.source my_words.conll --folder runs/words {DEMO}"
    ],
    "lacuna predict token-classification TEXT --model FOLDER": [
        'lacuna predict token-classification "the river ran past the mill" --model runs/bert-brown-tags/model'
    ],
    f"lacuna train {ANSWER} --data.source FOLDER --initial-model FOLDER": [
        f"lacuna train {ANSWER} --data.source my_questions.jsonl --phases.0.form.length 128 {DEMO}"
    ],
    f"lacuna train {ANSWER}:questions --data.source FILE --initial-model FOLDER": [
        f"lacuna train {ANSWER}:questions --data.source my_questions.jsonl --phases.0.form.length 128"
        f" --phases.0.form.stride 32 --phases.0.form.question 16 --folder runs/questions {DEMO}"
    ],
    "lacuna predict question-answering QUESTION CONTEXT --model FOLDER": [
        'lacuna predict question-answering "what ran past" "the river ran past the mill" --model runs/bert-pages/model'
    ],
    f"lacuna train {CHOOSE} --data.source FOLDER/follows --initial-model FOLDER": [
        f"lacuna train {CHOOSE} --data.source my_choices.jsonl {DEMO}"
    ],
    f"lacuna train {CHOOSE}:choices --data.source FILE.jsonl --initial-model FOLDER": [
        f"lacuna train {CHOOSE}:choices --data.source my_choices.jsonl --folder runs/choices {DEMO}"
    ],
    "lacuna predict multiple-choice TEXT CHOICE CHOICE --model FOLDER": [
        'lacuna predict multiple-choice "the river" "ran past" "a mill" --model runs/bert-brown-follows/model'
    ],
    f"lacuna train {CHOOSE}:swag --data.source FOLDER --initial-model google-bert/bert-base-uncased": [
        f"lacuna train {CHOOSE}:swag --data.source my_choices.jsonl --initial-model google-bert/bert-base-uncased"
    ],
    "lacuna predict summarization TEXT --model FOLDER": [
        'lacuna predict summarization "the river ran past the mill" --model runs/bart-synopses/model'
    ],
    "lacuna predict translation TEXT --model FOLDER": [
        'lacuna predict translation "uno y dos" --model runs/bart-bible/model'
    ],
    "lacuna predict translation_ro_RO_to_en_XX TEXT --model FOLDER": [
        'lacuna predict translation_en_XX_to_es_XX "one and two" --model runs/mbart-bible/model'
    ],
    "lacuna bench FILE": [f"lacuna bench {BERT} --warmup 1 --measure 2"],
    "lacuna bench --task generate --model FOLDER": [
        "lacuna bench --task generate --model runs/gpt2-sibling/model --new-tokens 8 --rounds 1"
    ],
    "lacuna import FOLDER [TARGET] [--force]": ["lacuna import runs/bert-demo/model imported"],
    "lacuna export FILE FOLDER [--force]": [f"lacuna export {BERT} exported"],
    "lacuna train FILE --profile steps=10:13": [
        f"lacuna train {BERT} --steps 14 --folder runs/profiled --profile steps=10:13"
    ],
    "lacuna train FILE": [f"lacuna train {BERT}"],
    "lacuna check": [f"lacuna check {BERT}"],
    "lacuna train FILE --wandb PROJECT": [f"lacuna train {BERT} --folder runs/watched --wandb PROJECT"],
    "lacuna train FILE --parallel.kind jit --parallel.fsdp 4 --parallel.tensor 2 --parallel.micro-batches 8": [
        f"lacuna train {BERT} --folder runs/jit --batch-size 32"
        " --parallel.kind jit --parallel.fsdp 4 --parallel.tensor 2 --parallel.micro-batches 8"
    ],
    "lacuna train FILE --coordinator HOST:PORT --processes 4 --process 0": [
        f"lacuna train {BERT} --folder runs/four --coordinator HOST:PORT --processes 4 --process 0"
    ],
    "lacuna doctor FILE --coordinator HOST:PORT --processes 4 --process 0": [
        f"lacuna doctor {BERT} --coordinator HOST:PORT --processes 4 --process 0"
    ],
}
"""What a command with a word that stands for something is walked with."""

ELSEWHERE = {
    "--data.source wikipedia/20230601.en": "tfds",
    "--data.source cifar10": "google/vit-base-patch16-224-in21k",
    "--wandb PROJECT": "wandb",
    "--teacher FOLDER": "FOLDER",
    "bert/tag.py:conll2003": "google-bert/bert-base-cased",
    "bert/answer.py:squad2": "google-bert/bert-large-uncased",
    "bert/answer.py:squad": "google-bert/bert-base-uncased",
    "bert/choose.py:swag": "google-bert/bert-base-uncased",
    "distilbert/tag.py": "distilbert/distilbert-base-cased",
    "distilbert/answer.py": "distilbert/distilbert-base-uncased",
    "bart/answer.py": "facebook/bart-large",
    "bert/glue.py:": "google-bert/bert-base-uncased",
    "distilbert/glue.py:": "distilbert/distilbert-base-uncased",
    **dict.fromkeys(("bart/glue.py:", "bart/summarise.py:", "bart/translate.py:"), "facebook/bart-large"),
    **dict.fromkeys(("t5/summarise.py:", "t5/translate.py:"), "google-t5/t5-base"),
    "gpt2/classify.py:": "openai-community/gpt2",
    **dict.fromkeys(("wav2vec2/ctc.py:", "wav2vec2/keywords.py:"), "facebook/wav2vec2-base"),
    "mbart/translate.py:": "facebook/mbart-large-cc25",
    "facebook/wav2vec2-base-960h": "facebook/wav2vec2-base-960h",
    "openai/whisper": "openai/whisper",
    "--initial-model TINY_EN": "TINY_EN",
    "pretrain.py:": "",
    "translate.py:": "",
}
"""What cannot be had without a network or days of time, and what the sentence speaks of that refuses it."""

VARIANTS_HERE = (":alone", ":demo")
"""Variants of recipes that run here; others are the published ones."""

SLOW_TO_COMPILE = "lacuna plan"


def meant(command: Command) -> list[str]:
    """What is typed for a command; itself where it holds no word that stands for something."""
    return MEANT.get(command.text, [command.text])


def placeholder(text: str) -> str | None:
    """The first word of a command that stands for something."""
    found = re.search(r"\b(FILE|FOLDER|TASK|TEXT|TARGET|SOURCE|HOST|PROJECT|RUN)\b|[\[…]", text)
    return found.group() if found else None


def run(text: str, where: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Type a command in `where`, made small."""
    arguments = shlex.split(text)[1:]
    verb = arguments[0]
    if verb in ("train", "evaluate", "export") or (verb == "explain" and arguments[1].endswith(".py")):
        target = 3 if verb == "export" else 2
        arguments = [*arguments[:target], *SMALL, *arguments[target:]]
    if "--parallel.fsdp" in arguments:
        environment = {**environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "experiments.cli", *arguments]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=600)


def run_in_four(text: str, where: Path, environment: dict[str, str]) -> list[subprocess.CompletedProcess]:
    """The same command for four hosts, on this one."""
    text = text.replace("HOST:PORT", f"127.0.0.1:{free_port()}")
    with ThreadPoolExecutor(4) as pool:
        texts = [text.replace("--process 0", f"--process {number}") for number in range(4)]
        return list(pool.map(lambda one: run(one, where, environment), texts))


def said_to_try(stdout: str) -> list[str]:
    """The commands behind «try next»."""
    lines = stdout.partition("try next:")[2].splitlines()
    return [line.strip() for line in lines if line.strip().startswith("lacuna ")]


def walk(command: Command, where: Path, environment: dict[str, str]) -> None:
    """Type a documented command, and those that it says to try next."""
    for text in meant(command):
        refused_for = refusal(text)
        if "HOST:PORT" in text:
            for done in run_in_four(text, where, environment):
                assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            continue
        done = run(text, where, environment)
        about = f"{command.page}:{command.line}: {text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr, about
        if refused_for is not None:
            assert done.returncode == 2 and refused_for in done.stderr, about
            continue
        assert done.returncode == 0, about
        for further in said_to_try(done.stdout):
            tried = run(with_files(further, where), where, environment)
            assert tried.returncode == 0, (
                f"{about}\n\ntry next: {further}\n{tried.stdout[-1000:]}{tried.stderr[-3000:]}"
            )


def with_files(text: str, where: Path) -> str:
    return text.replace("PICTURE", str(where / "cat.jpg")).replace("RECORDING", str(where / "word.wav"))


def refusal(text: str) -> str | None:
    """What the sentence speaks of that refuses a command here; `None` for one that works."""
    if text.startswith(SLOW_TO_COMPILE) and "gpu:" not in text and importlib.util.find_spec("libtpu") is None:
        return "tpu"
    if text.startswith("lacuna harness") and importlib.util.find_spec("lm_eval") is None:
        return "lm-evaluation-harness"
    if any(f".py{variant}" in text for variant in VARIANTS_HERE):
        return None
    return next((word for part, word in ELSEWHERE.items() if part in text and not text.startswith("lacuna plan")), None)
