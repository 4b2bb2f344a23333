"""The README's matrix of objectives and models is what the code says."""

import pytest

from experiments import matrix

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table() -> str:
    return matrix.table()


def test_the_readme_has_the_matrix_of_this_code(table):
    _, between, _ = matrix.parts()
    assert between.strip() == table, "python -m experiments.matrix --write"


def test_every_objective_fits_some_model_and_every_model_some_objective(table):
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    cells = [row.split("|")[2:-1] for row in rows]
    fits = [[cell.strip() == "●" for cell in row] for row in cells]
    assert all(map(any, fits)) and all(map(any, zip(*fits, strict=True)))
