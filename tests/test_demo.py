"""The demonstration runs offline and leaves a table and a picture."""

import subprocess
import sys

import pytest

from kipoi_borzoi.demo import format_table, read_predictions, run_demo
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.zoo.place import packaged_zoo


def test_demo_end_to_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kipoi_borzoi.cli", "demo", "--out", str(tmp_path / "out")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "RANDOM" in done.stdout
    regions, coverage = read_predictions(tmp_path / "out" / "coverage.h5")
    tracks = read_tracks(packaged_zoo() / "BorzoiDemo" / "base" / "targets.txt")
    assert [region.split()[0] for region in regions] == ["middle", "beside_it", "over_the_end", "one_base"]
    assert coverage.shape == (4, 896, len(tracks))
    mean = f"{coverage[2, :, 1].mean():.3f}"
    line = next(line for line in done.stdout.splitlines() if line.startswith("over_the_end") and tracks.identifiers[1] in line)
    assert mean in line.split()
    assert (tmp_path / "out" / "coverage.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "home" / ".kipoi" / "config.yaml").exists()  # the demo's own, not the user's


def test_table_by_hand():
    text = format_table([("r chr1:0-32", {"A": (1.5, 2.0)})])
    assert text.splitlines()[1].split() == ["r", "chr1:0-32", "A", "1.500", "2.000"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written .*--out"):
        run_demo(tmp_path / "file" / "out")
