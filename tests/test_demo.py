"""The demonstration runs offline and leaves tables and pictures that show held-out truth being predicted."""

import subprocess
import sys

import numpy as np
import pytest

from kipoi_borzoi.demo.results import Effects, Expression, read_effects, read_expression, read_predictions
from kipoi_borzoi.demo.run import CELLS, CONTROL, example_folder, run_demo
from kipoi_borzoi.demo.tables import effects_table, expression_table
from kipoi_borzoi.errors import InputError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(folder, what was printed)."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "kipoi_borzoi.cli", "demo", "--out", str(folder / "out")], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_the_demo_says_what_it_is_and_leaves_pictures(demo):
    folder, printed = demo
    assert "simulated" in printed
    for name in ("coverage.png", "expression.png", "effects.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert (folder / "home" / ".kipoi" / "config.yaml").exists()  # the demo's own, not the user's


def test_differences_between_cell_types_are_predicted(demo):
    coverage = {cell: read_predictions(demo[0] / f"{cell}.h5") for cell in CELLS}
    assert coverage["unseen1"].values.shape == (24, 112, 8)
    expression = read_expression(coverage, example_folder(), CONTROL)
    assert len(expression.genes) > 50
    assert np.corrcoef(expression.predicted, expression.true)[0, 1] > 0.8
    assert expression_table(expression) in demo[1]


def test_effects_of_variants_are_predicted_in_the_right_cell_type(demo):
    effects = read_effects(demo[0] / "effects.tsv", example_folder(), CELLS, CONTROL)
    strong = np.abs(effects.true) > 0.5
    assert strong.sum() > 20
    assert (np.sign(effects.predicted) == np.sign(effects.true))[strong].mean() > 0.9
    only = strong.any(axis=1) & (effects.true == 0).any(axis=1)  # in one cell type, and not at all in the other
    right = np.abs(effects.predicted[only]).argmax(axis=1) == np.abs(effects.true[only]).argmax(axis=1)
    assert only.sum() > 5 and right.mean() > 0.9


def test_tables_by_hand():
    expression = Expression(("a", "b"), ["g1", "g2"], np.array([0.5, -2.0]), np.array([0.25, -1.0]))
    assert [line.split() for line in expression_table(expression).splitlines()[1:]] == [["g2", "-2.00", "-1.00"], ["g1", "0.50", "0.25"]]
    effects = Effects(("a",), [("v1", "g1", "site_loss")], np.array([[-1.5]]), np.array([[-1.0]]))
    assert effects_table(effects).splitlines()[1].split() == ["v1", "g1", "site_loss", "-1.50", "-1.00"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written .*--out"):
        run_demo(tmp_path / "file" / "out")
