"""The command: help with examples, one line per error, exit statuses, and nothing heavy for --help."""

import argparse
import os
import subprocess
import sys

import pytest
from zoo_parts import make_parts, use_kipoi_home

from kipoi_borzoi import cli
from kipoi_borzoi._version import __version__
from kipoi_borzoi.errors import InputError

COMMAND = [sys.executable, "-m", "kipoi_borzoi.cli"]


def run(*args, **kwargs):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=120, **kwargs)


def leaf_parsers(parser, words=()):
    """Every verb's parser with the words that lead to it."""
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not choices:
        yield words, parser
    for name, child in (choices[0] if choices else {}).items():
        yield from leaf_parsers(child, (*words, name))


VERBS = dict(leaf_parsers(cli._parser()))


def test_verbs():
    assert {("zoo", "init"), ("zoo", "import"), ("zoo", "ls"), ("zoo", "verify")} <= set(VERBS)


@pytest.mark.parametrize("words", list(VERBS), ids=" ".join)
def test_every_verb_has_examples_of_itself(words):
    assert f"examples:\n  kipoi-borzoi {' '.join(words)}" in VERBS[words].format_help()


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"kipoi-borzoi {__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom kipoi_borzoi.cli import main\n"
        "try:\n    main(['zoo', 'import', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'kipoi', 'kipoiseq', 'pandas', 'numpy', 'h5py'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("args", [[], ["zoo"], ["fly"], ["zoo", "import", "x"], ["zoo", "ls", "--speed"]])
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(args)
    assert exit.value.code == 2
    assert "usage: kipoi-borzoi" in capsys.readouterr().err


def test_error_is_one_line(tmp_path, capsys):
    assert cli.main(["zoo", "ls", "--zoo", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"kipoi-borzoi: error: {tmp_path}/none: no such folder")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("args", [["--debug", "zoo", "ls"], ["zoo", "ls", "--debug"]])
def test_debug_shows_the_traceback(args, tmp_path, capsys):
    assert cli.main([*args, "--zoo", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and error.rstrip().rsplit("\n", 1)[1].startswith("kipoi-borzoi: error: ")


@pytest.mark.parametrize(
    "raised, status, message",
    [
        (InputError("a.bed, line 3:\n  bad"), 1, "kipoi-borzoi: error: a.bed, line 3: bad\n"),
        (KeyError("x"), 1, "kipoi-borzoi: error: KeyError: 'x'; this is a fault of the program, --debug shows where\n"),
        (KeyboardInterrupt(), 130, "kipoi-borzoi: interrupted\n"),
    ],
)
def test_exit_statuses(raised, status, message, monkeypatch, capsys):
    from kipoi_borzoi import zoo

    def fail(*args):
        raise raised

    monkeypatch.setattr(zoo, "zoo_ls", fail, raising=False)
    assert cli.main(["zoo", "ls"]) == status
    assert capsys.readouterr().err == message


def test_reader_that_goes_away(tmp_path):
    for number in range(300):  # more than a pipe's buffer holds
        (tmp_path / f"{'long' * 50}{number}").mkdir()
        (tmp_path / f"{'long' * 50}{number}" / "model.yaml").write_text("a: 1\n")
    with subprocess.Popen(
        [*COMMAND, "zoo", "ls", "--zoo", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_listing_of_the_packaged_zoo(tmp_path, monkeypatch, capsys):
    use_kipoi_home(tmp_path, monkeypatch)
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    assert cli.main(["zoo", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line.split("  ")[0]: line.split() for line in lines}
    assert table["Borzoi/human/rep0"][1:] == ["coverage,logsum,sum", "base", "524,288", "7,611", "not", "downloaded"]
    assert table["BorzoiDemo/base"][1:] == ["coverage,logsum,sum", "base", "4,096", "32", "here"]
    assert len(lines) == 1 + 10 + 2 + 3


def test_init_import_and_verify(tmp_path, monkeypatch, capsys, small_params):
    use_kipoi_home(tmp_path / "home", monkeypatch)
    zoo = tmp_path / "zoo"
    assert cli.main(["zoo", "init", str(zoo)]) == 0
    assert f"{zoo}\tregistered as Kipoi source 'borzoi'" in capsys.readouterr().out
    parts = [f"--{key}={file}" for key, file in make_parts(tmp_path / "parts", small_params).items()]
    assert cli.main(["zoo", "import", "lab/m", *parts, "--head", "human"]) == 0  # the registered zoo is the default
    assert capsys.readouterr().out == "lab/m/coverage\nlab/m/sum\nlab/m/logsum\n"
    assert (zoo / "lab/m/sum/model.yaml").is_file()
    assert cli.main(["zoo", "verify", "lab", "--no-predict"]) == 0
    assert capsys.readouterr().out == (
        "ok\tlab/m/coverage\t512 bp -> 28 x 6\nok\tlab/m/logsum\t512 bp -> 6\nok\tlab/m/sum\t512 bp -> 6\n"
    )
    (zoo / "lab/m/targets.txt").write_text("")
    assert cli.main(["zoo", "verify", "lab", "--no-predict"]) == 1
    assert capsys.readouterr().err == "kipoi-borzoi: error: 3 of 3 entries failed\n"
    (zoo / "BorzoiMini/models.tsv").write_text("edited")
    assert cli.main(["zoo", "init", str(zoo)]) == 0
    assert f"BorzoiMini\tedited: left alone; remove {zoo}/BorzoiMini" in capsys.readouterr().out


def test_installed_command():
    path = os.path.join(os.path.dirname(sys.executable), "kipoi-borzoi")
    if not os.path.exists(path):
        pytest.skip("the package is not installed in this environment, so there is no kipoi-borzoi command")
    result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, f"kipoi-borzoi {__version__}\n")
