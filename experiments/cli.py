"""The command line: `lacuna COMMAND FILE[:variant] [--field value …]`."""

import ctypes
import difflib
import errno
import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path

from training.interrupts import INTERRUPTED, Interrupts

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("FILE[:variant] [--field value …]", "pretrain; the same command goes on where it was stopped"),
    "evaluate": ("FILE[:variant] [--checkpoint best|last|STEP]", "held-out losses of a run, beside the baselines"),
    "predict": ("TASK INPUT… --model FOLDER", "ask a model: fill-mask, text-classification, image-classification, …"),
    "generate": ("TEXT… --model FOLDER|NAME", "have a model go on with a text: greedy, drawn at random, or by beams"),
    "harness": ("TASK… --model FOLDER", "ask a model tasks of lm-evaluation-harness"),
    "explain": ("FILE[:variant] [--example N]", "one example before and after the objective, token by token"),
    "check": ("FILE[:variant] [--field value …]", "read all data once: counts, and what is broken, by name"),
    "plan": ("FILE[:variant] --topology v5e:16x16", "memory, traffic, time and cost on a machine that is not there"),
    "bench": ("FILE[:variant] [--task generate]", "step time, tokens/s, MFU here and now; or how fast a model writes"),
    "doctor": ("[FILE[:variant]] [--runs FOLDER]", "is this host, with its peers, fit to train"),
    "import": ("FOLDER|NAME [TARGET]", "a published checkpoint, read, checked and written again"),
    "export": ("FILE[:variant] FOLDER", "a run's checkpoint as a folder that transformers opens"),
}


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""A disk that is full, or that may not be written."""


def user_errors() -> tuple[type[Exception], ...]:
    """The errors that are sentences for the user, each package having one."""
    from data import DataError
    from evaluation.metric import MetricError
    from experiments.experiment import ExperimentError
    from models.config import ModelError
    from objectives import ObjectiveError
    from training.parallel import TrainingError

    return DataError, ExperimentError, MetricError, ModelError, ObjectiveError, TrainingError


def usage() -> str:
    width = max(len(f"{name} {arguments}") for name, (arguments, _) in COMMANDS.items())
    lines = [f"  lacuna {f'{name} {arguments}':<{width}}  {what}" for name, (arguments, what) in COMMANDS.items()]
    return "\n".join(
        ["usage:", *lines, "", "`lacuna COMMAND --help` says more, `lacuna train FILE --help` lists every field."]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit code 0 when done, 2 when the input is at fault, 128 + n when stopped by signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if arguments else 2)
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        nearest = difflib.get_close_matches(command, COMMANDS, n=1)
        fail(f"no command {command!r}" + (f": did you mean {nearest[0]!r}?" if nearest else "") + f"\n{usage()}")
    with Interrupts() as interrupts:
        prepare_process(compiles_only=command == "plan")
        from training.supervisor import Place

        place = Place.of_environment()
        if place is None:
            run(command, rest, interrupts)
            return
        from training.processes import join, leave

        join(place)
        with leave():
            run(command, rest, interrupts)


def run(command: str, arguments: list[str], interrupts: Interrupts) -> None:
    """Run a command, its errors turned into sentences and exit codes."""
    from training.loop import Interrupted

    module = importlib.import_module(f"experiments.commands.{command.replace('import', 'import_')}")
    try:
        interrupts.importing = False
        module.main(arguments)
    except user_errors() as error:
        if os.environ.get("LACUNA_TRACEBACK"):
            raise
        fail(str(error))
    except Interrupted as stop:
        interrupts.say(str(stop))
        raise SystemExit(128 + stop.signal) from None
    except KeyboardInterrupt:
        interrupts.say()
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno not in DISK_ERRORS or os.environ.get("LACUNA_TRACEBACK"):
            raise
        fail(f"{error.filename or 'a file'} cannot be written: {error.strerror}")


def prepare_process(compiles_only: bool = False) -> None:
    """Quiet libraries, freed memory kept, a compilation cache, the same numbers every time; before anything is computed."""
    if not compiles_only:  # a compiler's threads want memory pools of their own: it takes a tenth longer with one
        keep_freed_memory()
        repeat_on_gpus()
    look_for_no_tpu()
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import jax

    logging.getLogger("jax").setLevel(logging.ERROR)
    for name in ("absl", "asyncio", "orbax"):  # a failed write, of which the run itself says what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.basicConfig(format="lacuna: %(message)s", level=logging.WARNING)
    cache = Path(os.environ.get("LACUNA_CACHE", "~/.cache/lacuna")).expanduser() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of freed arrays instead of returning it to the kernel and faulting it in again.

    A step on the CPU frees and allocates the same buffers each time: without this a small one takes 1.6 times as long.
    The options are those of `man mallopt`; other C libraries have none and go without.
    """
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, -1), (top_pad, 1 << 28)):
        mallopt(option, value)


def repeat_on_gpus() -> None:
    """Have XLA compile for NVIDIA GPUs what gives the same numbers every time, unless XLA_FLAGS says something about it.

    Left alone it adds up with atomics, in the order in which threads come, and takes the algorithm that was fastest when
    it tried them, in this compilation: two runs differ from the first step on. Neither is so on CPUs and TPUs.
    """
    flag, flags = "--xla_gpu_deterministic_ops", os.environ.get("XLA_FLAGS", "")
    if flag not in flags and any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        os.environ["XLA_FLAGS"] = f"{flags} {flag}=true".strip()


TPU_DEVICES = ("accel[0-9]*", "vfio/[0-9]*")
"""What the device of a TPU is called below /dev."""
TPU_NAMES = ("TPU_", "CLOUD_TPU_", "COLAB_TPU_", "MEGASCALE_")
"""Beginnings of the environment variables that a machine with TPUs sets."""


def look_for_no_tpu(devices: Path = Path("/dev")) -> None:
    """Have JAX leave libtpu alone where that is installed, for `lacuna plan`, and there is no TPU.

    JAX would load it and ask the network for a TPU, which takes seconds and fills the screen. Whoever sets JAX_PLATFORMS has
    decided.
    """
    if "JAX_PLATFORMS" in os.environ or importlib.util.find_spec("libtpu") is None:
        return
    if any(name.startswith(TPU_NAMES) for name in os.environ) or any(any(devices.glob(it)) for it in TPU_DEVICES):
        return
    gpu = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    os.environ["JAX_PLATFORMS"] = "cuda,cpu" if gpu and any(devices.glob("nvidia[0-9]*")) else "cpu"


def fail(message: str) -> None:
    print(f"lacuna: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
