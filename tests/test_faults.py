"""Commands that die at chosen instants, or meet a full disk, leave the world sound, and run again end as if nothing had been."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from fault_cases import background_job, build_job, download_job, import_job, publish_job, scoring_job
from http_server import Page, serve
from kill_points import content, results

from kipoi_borzoi.cli import main

POINTS = {"operations": 4, "sizes": 3, "full": 2}  # benchmarks/faults.py tries many more


def below(files, made):
    """The files that are, or lie in, what a command makes."""
    return {name: sha256 for name, sha256 in files.items() if name == made or name.startswith(f"{made}/")}


def check(job, made, old=None):
    """Hold every trial of a job against its undisturbed run.

    Parameters
    ----------
    job : Job
    made : str
        What the command makes, a file or a folder: it is there as a whole or not at all.
    old : dict, optional
        What had that name before.
    """
    whole, *trials = results(job)
    new = below(whole["after"], made)
    assert new and new != (old or {})
    killed = [trial for trial in trials if trial["point"][0] != "full"]
    assert len(trials) == job.operations + job.sizes + job.full
    for trial in trials:
        found = below(trial["after"], made)
        assert found in (new, old or {}), (trial["point"], found)
        assert trial["again"] == 0, (trial["point"], trial["told"])
        assert trial["final"] == whole["after"], trial["point"]  # nothing lost, wrong or left over
    assert sum(trial["status"] < 0 for trial in killed) >= len(killed) - 1  # a small file may never grow so long
    for trial in (trial for trial in trials if trial["point"][0] == "full" and trial["status"]):
        errors = [line for line in trial["first_told"] if "error:" in line]
        assert trial["status"] == 1 and len(errors) == 1 and "fault of the program" not in errors[0], trial["first_told"]
        assert "cannot be" in errors[0] and "File too large" in errors[0]
        assert not [name for name in trial["after"] if "/.tmp" in f"/{name}"], trial["after"]
    return trials


def test_scoring(tmp_path):
    trials = check(scoring_job(tmp_path, ".h5", **POINTS), "out.h5")
    assert any(name.startswith("out.h5.parts/part-") for trial in trials for name in trial["after"])


def test_collecting_a_background(tmp_path):
    trials = check(background_job(tmp_path, **POINTS), "out.h5")
    assert any(name.startswith("out.h5.parts/part-") for trial in trials for name in trial["after"])


def test_building_a_store(tmp_path):
    check(build_job(tmp_path, **POINTS), "store/store.h5")


def test_publishing_an_adapter(tmp_path):
    check(publish_job(tmp_path, **POINTS), "zoo/tuned")


def test_replacing_a_published_adapter(tmp_path):
    job = publish_job(tmp_path, replace=True, operations=6)
    check(job, "zoo/tuned", below(content(Path(job.template)), "zoo/tuned"))


def test_importing_a_model(tmp_path):
    check(import_job(tmp_path, **POINTS), "zoo/base")


def test_downloading(tmp_path):
    body = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4096
    with serve({"/weights.h5": Page(body)}) as server:
        job = download_job(tmp_path, server.url("/weights.h5"), **POINTS)
        whole, *trials = results(job)
    (name,) = [name for name in whole["after"] if name.endswith("/weights.h5")]
    for trial in trials:
        assert trial["after"].get(name) in (None, whole["after"][name]), trial["point"]
        assert trial["again"] == 0 and trial["final"][name] == whole["after"][name], trial["told"]
        assert not [other for other in trial["final"] if "/.tmp" in other]


READ_ONLY = """
import json, os, sys
from kipoi_borzoi.cli import main
good, bad = json.loads(sys.argv[1])
assert all(main(command) == 0 for command in good)  # imports all that is needed, while it can be read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for command in bad:
    print("status", main(command), flush=True)
    sys.stderr.write("next\\n")
"""


def test_folders_that_cannot_be_written_are_named(tmp_path):
    """With the rights of a user who may read only; root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [build_job(folder / "build"), publish_job(folder / "publish")]
        commands = []
        for ending in ("good", "bad"):
            for job, inputs in zip(jobs, (("targets.txt", "genome.fa", "sequences.bed"), ("adapter",)), strict=True):
                place = Path(job.template)
                paths = {part: place / part for part in inputs}
                paths |= {"store": place / ending / "store"} if job is jobs[0] else {}
                arguments = [str(paths.get(part, part)) for part in job.arguments]
                if job is jobs[1]:
                    arguments[arguments.index("--zoo") + 1] = str(place / ("zoo" if ending == "good" else "locked"))
                commands.append(arguments)
            (Path(jobs[0].template) / ending).mkdir()
        template = Path(jobs[1].template)
        shutil.copytree(template / "zoo", template / "locked")
        locked = [Path(jobs[0].template) / "bad", template / "locked"]
        folder.chmod(0o755)
        for path in locked:
            path.chmod(0o555)
        before = [content(path) for path in locked]
        home = {**os.environ, "HOME": str(folder)}
        program = [sys.executable, "-c", READ_ONLY, json.dumps([commands[:2], commands[2:]])]
        done = subprocess.run(program, capture_output=True, text=True, env=home, check=False)
        assert done.stdout.count("status 1") == 2, done.stdout + done.stderr
        errors = [line for line in done.stderr.splitlines() if "error:" in line]
        assert len(errors) == 2 and all("Permission denied" in error or "cannot be written" in error for error in errors), errors
        assert str(locked[0]) in errors[0] and str(locked[1]) in errors[1]
        assert [content(path) for path in locked] == before


def test_two_publishers_of_one_name_and_a_reader(tmp_path):
    """While one adapter replaces another again and again, a reader always finds one of the two, whole."""
    job = publish_job(tmp_path, replace=True)
    zoo = Path(job.template) / "zoo"
    stop, seen, problems = threading.Event(), set(), []

    def read():
        while not stop.is_set():
            try:
                seen.add((zoo / "tuned" / "publish.json").read_text())
            except OSError as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for adapter in ("adapter", "other") * 3:
            assert main(["zoo", "publish", str(Path(job.template) / adapter), "tuned", "--zoo", str(zoo), "--base", "base", "--replace"]) == 0
    finally:
        stop.set()
        reader.join()
    assert problems == [] and len(seen) == 2
    assert main(["zoo", "verify", "tuned", "--zoo", str(zoo), "--no-predict"]) == 0
