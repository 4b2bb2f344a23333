"""What every recipe is, and what the small ones compute, is what `tests/golden` says; where a change is meant, record anew.

    python -m tests.golden.record

The texts are read in the diff of the change, whose message says why they moved. Steps are compared to 1e-4: processors round
otherwise. `tests.golden.compare` compares two commits to the bit on one machine.
"""

import pytest

from tests.golden import compare, record
from tests.marks import first_fast

RECIPES, STEPS = (record.HERE / name for name in ("recipes", "steps"))
QUICK = ["bert/pretrain.py:demo", "t5/pretrain.py:demo", "gpt2/pretrain.py:demo"]
"""Recipes of text whose steps the tests compute anew, `make test` those of the first; `compare` computes all. The bits of altered
pictures, and so the digest of examples, depend on the processor and on how XLA optimises."""


def test_every_recipe_is_recorded():
    for folder, names in ((RECIPES, record.recipes()), (STEPS, record.small_recipes())):
        recorded = {str(path.relative_to(folder)) for path in folder.rglob("*.txt")}
        assert recorded == {record.text_file(name) for name in names}


@pytest.mark.parametrize(("file", "variants"), record.recipes().items())
def test_a_recipe_is_as_recorded(file, variants):
    recorded = RECIPES / record.text_file(file)
    assert record.recipe_text(file, variants) == recorded.read_text()


@pytest.mark.parametrize("reference", first_fast(QUICK))
def test_first_steps_are_as_recorded(reference):
    recorded = STEPS / record.text_file(reference)
    for before, after in zip(recorded.read_text().splitlines(), record.steps_text(reference).splitlines(), strict=True):
        assert compare.moved(before, after) < 1e-4, (before, after)


def test_what_a_comparison_tells_apart(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, loss, example in ((before, "7.5", "123"), (after, "7.50001", "123")):
        (folder / "steps").mkdir(parents=True)
        (folder / "steps" / "a.txt").write_text(f"step 1: digest {example}, loss {loss}\n")
    assert compare.differences(before, before) == ([], 0.0)
    (line,), largest = compare.differences(before, after)
    assert "7.5" in line and largest == pytest.approx(1.3e-6, rel=0.1)
    (after / "steps" / "a.txt").write_text("step 1: digest 124, loss 7.5\n")
    assert any(line.startswith("-step 1: digest 123") for line in compare.differences(before, after)[0])
    (after / "steps" / "b.txt").write_text("new\n")
    assert "+new" in compare.differences(before, after)[0]


def test_a_program_is_the_same_under_other_names():
    assert record.renamed("call @f(@g) @f") == record.renamed("call @h(@i) @h") == "call @0(@1) @0"
    assert record.renamed("call @f(@g) @g") != record.renamed("call @f(@g) @f")
