"""Training that is killed inside its writes, or meets a full disk, goes on from its last checkpoint to the same weights."""

import csv
from pathlib import Path

import keras
import pytest
from fault_cases import finetune_job
from kill_points import results

from kipoi_borzoi.cli import main
from kipoi_borzoi.files import only_process

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")


def test_killed_and_full_disks(tmp_path):
    job = finetune_job(tmp_path, operations=2, sizes=1, full=1)
    whole, *trials = results(job)
    for trial in trials:
        assert trial["status"] and trial["again"] == 0 and trial["close"], (trial["point"], trial["told"])
        assert not [name for name in trial["final"] if ".tmp" in name]
        assert same_names(trial["final"]) == same_names(whole["after"])
        if trial["point"][0] == "full":
            errors = [line for line in trial["first_told"] if "error:" in line]
            assert trial["status"] == 1 and len(errors) == 1 and "File too large" in errors[0] and "fault of" not in errors[0]
    with open(Path(job.folder) / "run" / "steps.csv", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [1, 2, 3, 4]


def same_names(files):
    return {name for name in files if "tensorboard" not in name}


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path, monkeypatch, capsys):
    job = finetune_job(tmp_path)
    monkeypatch.chdir(job.template)
    Path("run").mkdir()
    with only_process("run", "busy"):
        assert main(["finetune", *job.arguments]) == 1
    assert "run: another process is training there; wait for it, or choose another --out" in capsys.readouterr().err
