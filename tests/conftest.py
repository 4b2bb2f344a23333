"""Every test sees four CPU devices, shapes checked against their annotations, and no silent broadcasting over ranks."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compiling is most of the work here. Where exactness is the question, tests turn this off again: `OPTIMIZED`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_compilation_cache_dir", str(Path("~/.cache/lacuna/xla-tests").expanduser()))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_rank_promotion", "raise")

hook = install_import_hook(["models", "objectives", "training"], "beartype.beartype")
hook.__enter__()


LONGEST = ["test_runs.py", "test_processes.py", "test_layouts.py", "test_plan.py", "test_faults.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, for one worker takes a file whole; of `slow_but_first` all cases but the first are slow."""
    begun = set()
    for item in items:
        if item.get_closest_marker("slow_but_first"):
            if item.function in begun:
                item.add_marker(pytest.mark.slow)
            begun.add(item.function)
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


OPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
"""For the environment of processes that compile as a user's do."""

MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def forget_programs():
    """Linux gives a process 65,530 memory maps, a compiled program takes several, and without them XLA dies by SIGSEGV.

    Checked after each test: those of one file alone may take them all.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def vocabulary():
    """A vocabulary of 200 tokens, the first five special, every third a piece that continues a word."""
    from types import SimpleNamespace

    import numpy as np

    from data.text.framing import Framing

    starts_word = np.arange(200) % 3 > 0
    return SimpleNamespace(
        size=200,
        pad=0,
        unk=1,
        cls=2,
        sep=3,
        mask=4,
        special_ids=(0, 1, 2, 3, 4),
        starts_word=starts_word,
        framing=Framing((2,), (3,), (2,), (3,), (3,)),
    )
