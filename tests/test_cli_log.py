"""What a run tells of itself (--verbose, --log-file), and how it ends when it is asked to."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from data_cases import make_inputs
from test_cli import VERBS
from zoo_parts import make_parts

from kipoi_borzoi import cli
from kipoi_borzoi._version import __version__

BUILD = "data build --targets in/targets.txt --fasta in/genome.fa --sequences in/sequences.bed --crop-bp 128 --out store --quiet".split()


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_inputs(tmp_path / "in").folder


def events(path, name=None):
    with open(path, encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [event for event in found if name in (None, event["event"])]


@pytest.mark.parametrize("words", list(VERBS), ids=" ".join)
def test_every_command_has_the_options(words):
    assert {"--log-file", "--verbose", "-v", "--debug"} <= set(VERBS[words]._option_string_actions)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_log_holds_versions_inputs_with_hashes_and_the_outcome(inputs, place):
    option = ["--log-file", "run.jsonl"]
    assert cli.main([*option, *BUILD] if place == "before" else [*BUILD, *option]) == 0
    start, *rest = events("run.jsonl")
    assert start["event"] == "start" and start["version"] == __version__ and start["packages"]["numpy"]
    assert start["command"] == ([*option, *BUILD] if place == "before" else [*BUILD, *option])
    told = {event["path"]: event for event in rest if event["event"] == "input"}
    assert set(told) == {"in/targets.txt", "in/genome.fa", "in/sequences.bed"}
    for path, event in told.items():
        content = (inputs.parent / path).read_bytes()
        assert (event["sha256"], event["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    (warning,) = [event for event in rest if event.get("level") == "WARNING"]
    assert "reach beyond the end of their contig" in warning["text"]
    end = rest[-1]
    assert (end["event"], end["status"], end["error"], end["warnings"]) == ("end", 0, None, 1)
    assert end["seconds"] > 0 and end["peak_memory_bytes"] > 2**20


def test_logs_are_appended_and_an_error_is_told_with_its_traceback(inputs, capsys):
    assert cli.main([*BUILD, "--log-file", "run.jsonl"]) == 0
    (inputs / "targets.txt").write_text("x")
    assert cli.main([*BUILD, "--log-file", "run.jsonl"]) == 1
    first, second = events("run.jsonl", "end")
    assert (first["status"], second["status"]) == (0, 1)
    error = second["error"]
    assert error["type"] == "InputError" and not error["is_fault_of_the_program"]
    assert f"kipoi-borzoi: error: {error['message']}\n" in capsys.readouterr().err
    assert "".join(error["traceback"]).startswith("Traceback")


def test_a_fault_of_the_program_is_called_one(tmp_path, monkeypatch):
    from kipoi_borzoi import zoo

    monkeypatch.setattr(zoo, "zoo_ls", lambda *args: {}["x"], raising=False)
    assert cli.main(["zoo", "ls", "--log-file", str(tmp_path / "log")]) == 1
    (end,) = events(tmp_path / "log", "end")
    assert end["error"]["is_fault_of_the_program"] and end["error"]["type"] == "KeyError"


def test_models_are_told_with_the_hashes_of_their_files(tmp_path, small_params, monkeypatch):
    parts = make_parts(tmp_path / "parts", small_params)
    (tmp_path / "zoo").mkdir()
    arguments = ["zoo", "import", "m", "--head", "human", "--zoo", str(tmp_path / "zoo"), *(f"--{key}={path}" for key, path in parts.items())]
    assert cli.main([*arguments, "--log-file", str(tmp_path / "log")]) == 0
    assert cli.main(["zoo", "verify", "m", "--zoo", str(tmp_path / "zoo"), "--log-file", str(tmp_path / "verify")]) == 0
    told = {event["path"]: event["sha256"] for event in events(tmp_path / "verify", "model file")}
    weights = tmp_path / "zoo" / "m" / "weights.safetensors"
    assert told[str(weights)] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_verbose_shows_versions_and_hashes_on_standard_error(inputs, capsys):
    assert cli.main([*BUILD, "-v"]) == 0
    told = capsys.readouterr().err
    sha256 = hashlib.sha256((inputs / "genome.fa").read_bytes()).hexdigest()
    assert f"DEBUG: kipoi-borzoi {__version__}, Python 3." in told and sha256 in told
    assert cli.main(BUILD) == 0
    assert "DEBUG" not in capsys.readouterr().err


def test_a_file_that_is_no_log_is_left_alone(inputs, capsys):
    before = (inputs / "genome.fa").read_bytes()
    for name, message in (("in/genome.fa", "exists and is not a log of this command"), ("no/run.jsonl", "cannot be written"), ("in", "cannot be written")):
        assert cli.main([*BUILD, "--log-file", name]) == 1
        assert message in capsys.readouterr().err
    assert (inputs / "genome.fa").read_bytes() == before and not os.path.exists("store")


def test_a_log_that_cannot_be_written_on_does_not_stop_the_run(inputs):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [sys.executable, "-m", "kipoi_borzoi.cli", "scorers", "--log-file", "run.jsonl"], capture_output=True, text=True,
        preexec_fn=limit, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("scorer\t")
    assert done.stderr.count("run.jsonl: cannot be written (File too large); the run goes on without it") == 1


SLEEPER = """
import sys, time
from kipoi_borzoi import cli
from kipoi_borzoi.cli import scorers
def wait(args):
    print("here", flush=True)
    time.sleep(60)
scorers._scorers = wait
sys.exit(cli.main(["scorers", "--log-file", sys.argv[1]]))
"""


def stop(tmp_path, number, prefix=()):
    """Status, standard error and log of a run that gets a signal."""
    command = [*prefix, sys.executable, "-c", SLEEPER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        if number == signal.SIGHUP and prefix:
            process.send_signal(signal.SIGTERM)
        return process.wait(timeout=30), process.stderr.read(), events(tmp_path / "log")


@pytest.mark.parametrize("number, text", [(signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGHUP, "stopped by SIGHUP"), (signal.SIGINT, "interrupted")])
def test_signals_that_ask_to_end_are_obeyed_in_order(tmp_path, number, text):
    status, told, log = stop(tmp_path, number)
    assert status == 128 + number and told == f"kipoi-borzoi: {text}\n"
    assert log[-1]["event"] == "end" and log[-1]["status"] == status and not log[-1]["error"]["is_fault_of_the_program"]


def test_a_killed_run_has_a_log_without_an_end(tmp_path):
    status, _, log = stop(tmp_path, signal.SIGKILL)
    assert status == -signal.SIGKILL and log[0]["event"] == "start" and log[-1]["event"] != "end"


def test_a_hangup_that_is_ignored_stays_so(tmp_path):
    """As under nohup: only the SIGTERM that follows ends it."""
    status, told, _ = stop(tmp_path, signal.SIGHUP, ("nohup",))
    assert status == 128 + signal.SIGTERM and "stopped by SIGTERM" in told


def test_signal_handlers_of_others_stay(monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *args: seen.append(1))
    try:
        monkeypatch.setattr("kipoi_borzoi.cli.scorers._scorers", lambda args: os.kill(os.getpid(), signal.SIGTERM))
        assert cli.main(["scorers"]) == 0 and seen == [1]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGTERM) is before
