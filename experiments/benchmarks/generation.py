"""Texts written on this CPU beside those of `transformers.generate` on torch, both in float32: how many tokens a second.

    python -m experiments.benchmarks.generation [--cases NAME …] [--parity-python PATH] [--write]

Models of random weights and published shapes (generation_worker.py), each side a process of its own that keeps freed memory,
in turn. Compiling is not timed; it stands beside. At batch 1 a token reads all weights: the share of the memory bandwidth
is theirs over the time of a token, held against what a sum over 1 GiB reads. `--write` fills docs/speed.md. The last line is
JSON.
"""

import argparse
import sys

from experiments.benchmarks.generation_worker import CASES
from experiments.benchmarks.pages import fill, markdown, summary
from experiments.benchmarks.steps import PAGE, Contestant, processor, versions_of


def measured(name: str, python: str, rounds: int) -> dict[str, Contestant]:
    """Both sides of a case, each with its times."""
    sides = {
        side: Contestant(side, name, interpreter, keep=True, worker="generation_worker.py").ready()
        for side, interpreter in (("ours", sys.executable), ("torch", python))
    }
    for _ in range(rounds):
        for contestant in sides.values():
            contestant.go(1)
    for contestant in sides.values():
        contestant.end()
    return sides


def figures(name: str, sides: dict[str, Contestant]) -> dict[str, float]:
    """Tokens a second of both, their ratio, the seconds of compiling, and at batch 1 the share of the memory bandwidth."""
    case, ours, torch = CASES[name], sides["ours"], sides["torch"]
    tokens = case.batch * case.new
    found = dict(
        ours=tokens / ours.seconds,
        torch=tokens / torch.seconds,
        ratio=torch.seconds / ours.seconds,
        compile=ours.facts["first"] - ours.seconds,
        programs=ours.facts["programs"],
    )
    if case.batch == case.beams == 1:
        found["bandwidth"] = ours.facts["bytes"] * case.new / ours.seconds / torch.facts["bandwidth"]
    return found


def table(results: dict[str, dict[str, float]], found: dict[str, dict[str, Contestant]]) -> str:
    head = ["", "new tokens", "Lacuna, tokens/s", "`transformers` on torch", "times as fast", "compiling, s"]
    rows = []
    for name, result in results.items():
        case, cells = CASES[name], []
        for side, contestant in found[name].items():
            tokens = case.batch * case.new
            spread = f"{tokens / max(contestant.times):,.0f}–{tokens / min(contestant.times):,.0f}"
            cells.append(f"{result[side]:,.1f} ({spread})")
        share = f"{result['bandwidth']:.0%}" if "bandwidth" in result else ""
        rows.append([name, f"{case.new}", *cells, f"{result['ratio']:.2f}", f"{result['compile']:.1f}", share])
    return markdown([*head, "of the bandwidth"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="*", default=[name for name in CASES if "tiny" not in name], choices=list(CASES)
    )
    parser.add_argument("--parity-python", default=sys.executable, help="interpreter with transformers 5 and torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="fill docs/speed.md")
    arguments = parser.parse_args()
    found, results = {}, {}
    for name in arguments.cases:
        found[name] = measured(name, arguments.parity_python, arguments.rounds)
        results[name] = figures(name, found[name])
        print(name, *(f"{field} {value:.4g}" for field, value in results[name].items()), sep=", ", flush=True)
    first = next(iter(found.values()))
    said = (
        f"{processor()}; median (least–most) of {arguments.rounds} rounds, in turn; a sum reads"
        f" {first['torch'].facts['bandwidth'] / 1e9:.0f} GB/s. {versions_of(first.values())}.\n"
    )
    print(table(results, found), said, sep="\n")
    if arguments.write:
        fill(PAGE, **{"generation": table(results, found), "generation machine": said})
    summary("generation", processor=processor(), results=results)


if __name__ == "__main__":
    main()
