"""Whether two commits train the same: records what every recipe is and does at both, and shows what differs.

    python -m tests.golden.compare BEFORE [AFTER] [--parts recipes steps programs] [--tolerance 1e-6]

AFTER is this working tree where it is not given. Both are recorded here, one after the other, by the recorder of this tree, so
that a processor that rounds otherwise than the one of `tests/golden` makes no difference. Ends with exit code 1 where a line
differs: a number that moved by no more than the tolerance, relative to itself, is listed but no difference.
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden.record import ROOT

NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?![\w.])")
EXACT = re.compile(r"digest [0-9]+|sha256 \w+")


def moved(before: str, after: str) -> float:
    """The largest relative difference of two lines' numbers; infinite where they differ in anything else."""
    if NUMBER.sub("#", before) != NUMBER.sub("#", after) or EXACT.findall(before) != EXACT.findall(after):
        return float("inf")
    pairs = zip(map(float, NUMBER.findall(before)), map(float, NUMBER.findall(after)), strict=True)
    return max((abs(x - y) / max(abs(x), abs(y)) for x, y in pairs if x != y), default=0.0)


def differences(before: Path, after: Path) -> tuple[list[str], float]:
    """Lines that differ in more than the rounding of numbers, as a unified diff shows them, and the largest rounding.

    What only one folder has is a difference, too.
    """
    names = sorted({str(path.relative_to(folder)) for folder in (before, after) for path in folder.rglob("*.txt")})
    found, largest = [], 0.0
    for name in names:
        one, other = (
            (folder / name).read_text().splitlines() if (folder / name).exists() else [] for folder in (before, after)
        )
        if len(one) == len(other):
            gaps = [moved(x, y) for x, y in zip(one, other, strict=True)]
            if max(gaps, default=0.0) < float("inf"):
                largest = max(largest, *gaps, 0.0)
                if name.startswith("steps"):
                    found += [
                        f"{name}: {x} -> {y}: {gap:.1e}" for x, y, gap in zip(one, other, gaps, strict=True) if gap
                    ]
                    continue
        found += difflib.unified_diff(one, other, f"before/{name}", f"after/{name}", n=1, lineterm="")
    return found, largest


def recorded(commit: str | None, parts: list[str], where: Path) -> Path:
    """The records of a commit, or of this working tree, made by this tree's recorder."""
    tree, folder = ROOT, where / "records"
    if commit is not None:
        tree = where / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
        shutil.copytree(ROOT / "tests" / "golden", tree / "tests" / "golden", dirs_exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.golden.record", *parts, "--folder", str(folder)]
    try:
        subprocess.run(command, cwd=tree, env=environment, check=True)
    finally:
        if commit is not None:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?")
    parser.add_argument("--parts", nargs="*", default=["recipes", "steps", "programs"])
    parser.add_argument("--tolerance", type=float, default=0.0, help="of a number of a step, relative to itself")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("before", "after")]
        for place, commit in zip(places, (arguments.before, arguments.after), strict=True):
            place.mkdir()
            recorded(commit, arguments.parts, place)
        found, largest = differences(*(place / "records" for place in places))
    print("\n".join(found))
    serious = [line for line in found if not re.search(r": [0-9.]+e-[0-9]+$", line)]
    print(f"{len(found)} lines differ, numbers of steps by at most {largest:.1e}")
    raise SystemExit(1 if serious or largest > arguments.tolerance else 0)


if __name__ == "__main__":
    main()
