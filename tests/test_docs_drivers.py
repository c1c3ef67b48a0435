"""The walk of docs/drivers.md runs as it is written, and comes out as the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "drivers.md"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder in which a new user has run the walk, with fewer genes than the page takes, to save time."""
    blocks = re.findall(r"^```sh walk\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)
    assert len(blocks) == 3
    text = "".join(blocks)
    assert text.count("--max-genes 15") == 1 and text.count("--contrast demo/contrasts.tsv") == 2
    text = text.replace("--min-change 0.5", "--min-change 0.5 --max-genes 20 --test-genes 2")
    folder = tmp_path_factory.mktemp("walk")
    (folder / "home").mkdir()
    (folder / "work").mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(folder / "home"), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        ["bash", "-e", "-c", text], cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return folder / "work"


@pytest.mark.parametrize("cell, factor, direction", [("unseen1", "factor5", "-"), ("unseen2", "factor2", "+")])
def test_the_switched_factor_comes_first(walked, cell, factor, direction):
    table = pd.read_csv(walked / f"{cell}.tsv", sep="\t", comment="#")
    first = table.iloc[0]
    assert (first["motif"], first["direction"]) == (factor, direction)
    assert first["p_adjusted"] < 0.01
    assert first["knock_out"] * first["effect"] < 0
    assert (table["p_adjusted"][1:] > 0.05).all()


def test_pictures_are_drawn(walked):
    for cell in ("unseen1", "unseen2"):
        drawn = list(walked.glob(f"{cell}.*.png"))
        assert len(drawn) == 2 and walked / f"{cell}.motifs.png" in drawn
        assert all(path.read_bytes()[:4] == b"\x89PNG" for path in drawn)
    assert (walked / "site.png").read_bytes()[:4] == b"\x89PNG"


def test_taking_the_site_out_takes_the_change_away(walked):
    table = pd.read_csv(walked / "knockout.tsv", sep="\t", comment="#")
    effects = table.set_index("column")["effect"]
    control = effects[[f"unseen1.control.rep{replicate}+" for replicate in (1, 2)]]
    treated = effects[[f"unseen1.treated.rep{replicate}+" for replicate in (1, 2)]]
    assert (control < -0.8).all() and (treated.abs() < 0.2).all()
    assert effects["unseen1.treated-unseen1.control"] == pytest.approx(treated.mean() - control.mean(), abs=0.02)


def test_both_adapters_name_what_sets_their_cells_apart(walked):
    table = pd.read_csv(walked / "both.tsv", sep="\t", comment="#")
    found = table[table["p_adjusted"] < 0.05]
    assert set(found["motif"]) == {"factor4", "factor5"}
    assert set(found["direction"]) == {"-"}
