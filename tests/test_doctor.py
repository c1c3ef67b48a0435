"""`kipoi-borzoi doctor` names what is there, what is missing and the command that mends it, and never fails."""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest

from kipoi_borzoi.cli import main
from kipoi_borzoi.kipoi_tools import doctor
from kipoi_borzoi.kipoi_tools.doctor import Section, format_report
from kipoi_borzoi.kipoi_tools.findings import Finding, guarded
from kipoi_borzoi.kipoi_tools.places import look_at_places


@pytest.fixture
def installed(monkeypatch):
    """Installed distributions and their versions, to be changed by the test."""
    versions = {"kipoi-borzoi": "0.1.0", "numpy": "2.1.0", "kipoi": "0.8.6"}
    requires = ["numpy>=1.26,<3", "kipoi<0.9,>=0.8.6", 'pyarrow>=15; extra == "parquet"', 'numpy>=1; extra == "plain"']
    requires += [f'{one}; extra == "veff"' for one in ("shapely>=2", "descartes", "intervaltree<3", "seaborn>=0.13")]

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    class Metadata:
        def get_all(self, name):
            return ["parquet", "plain"]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: Metadata())
    return versions


def test_versions_are_held_against_what_is_needed(installed):
    assert doctor._needed() == [Finding("ok", "numpy 2.1.0"), Finding("ok", "kipoi 0.8.6")]
    installed["numpy"] = "1.24.0"
    del installed["kipoi"]
    wrong, missing = doctor._needed()
    assert (wrong.status, wrong.text) == ("wrong", "numpy 1.24.0") and wrong.remedy == "pip install 'numpy<3,>=1.26'"
    assert (missing.status, missing.text) == ("missing", "kipoi") and "kipoi" in missing.remedy


def test_extras_name_what_is_missing_and_the_command(installed):
    parquet, plain = doctor._extras()
    assert parquet == Finding("-", "parquet: pyarrow missing", "pip install 'kipoi-borzoi[parquet]'")
    assert plain == Finding("ok", "plain")


def test_kipois_own_packages_are_named(installed, monkeypatch):
    installed["attrs"] = "21.4.0"
    monkeypatch.setattr(doctor, "_run", lambda command: (0, "FOUND []", ""))
    texts = [one.text for one in doctor._tools()]
    assert "of Kipoi: kipoi_utils missing, kipoi_conda missing, related missing, attrs 21.4.0" in texts


def test_a_tool_that_is_not_installed(installed):
    assert doctor._tool("kipoi_veff2", "0.1.0", "git clone it", "knows") == Finding("missing", "kipoi_veff2", "git clone it")


@pytest.mark.parametrize(
    "code, output, errors, expected",
    [
        (0, 'noise\nFOUND ["a", "b"]\n', "", Finding("ok", "kipoi 0.8.6, mended: a, b")),
        (0, "FOUND []", "", Finding("ok", "kipoi 0.8.6, mended: nothing needed")),
        (1, "", "Traceback\nImportError: no np.int\n", Finding("broken", "kipoi 0.8.6 cannot be imported: ImportError: no np.int", "do it")),
        (-11, "", "", Finding("broken", "kipoi 0.8.6 cannot be imported: exit status -11", "do it")),
    ],
)  # fmt: skip
def test_a_tool_is_imported_in_a_process_of_its_own(installed, monkeypatch, code, output, errors, expected):
    monkeypatch.setattr(doctor, "_run", lambda command: (code, output, errors))
    assert doctor._tool("kipoi", "0.8.6", "do it", "mended") == expected


def test_another_version_of_a_tool_is_said(installed, monkeypatch):
    installed["kipoi"] = "0.7.0"
    monkeypatch.setattr(doctor, "_run", lambda command: (0, "FOUND []", ""))
    found = doctor._tool("kipoi", "0.8.6", "do it", "mended")
    assert found.status == "wrong" and "tested with 0.8.6" in found.text


def test_what_kipoi_veff_lacks_is_listed(installed, monkeypatch):
    assert [one.status for one in doctor._veff("install it")] == ["missing"]
    installed.update({"kipoi_veff": "0.3.1", "descartes": "1.1.0", "intervaltree": "3.1.0"})
    monkeypatch.setattr(doctor, "_run", lambda command: (0, "bedtools v2.30.0\nmore" if command[0] == "bedtools" else "FOUND []", ""))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None if name == "tabix" else "/bin/" + name)
    tool, missing, wrong, there, programs = doctor._veff("install it")
    assert tool.status == "ok"
    assert missing == Finding("missing", "for kipoi_veff: shapely, seaborn", "pip install 'shapely>=2' 'seaborn>=0.13'")
    assert wrong == Finding("wrong", "for kipoi_veff: intervaltree 3.1.0", "pip install 'intervaltree<3'")
    assert there == Finding("ok", "for kipoi_veff: descartes 1.1.0, bedtools (bedtools v2.30.0)")
    assert programs.text == "for kipoi_veff: tabix" and "apt-get install tabix" in programs.remedy


def test_a_part_that_fails_is_a_line_of_the_report():
    def fails():
        raise RuntimeError("no such thing")

    (found,) = guarded(fails)
    assert found.status == "broken" and "RuntimeError: no such thing" in found.text


def test_processes_that_hang_or_do_not_start_are_answers(monkeypatch):
    monkeypatch.setattr(doctor, "PROCESS_TIMEOUT_S", 0.2)
    assert doctor._run(["sleep", "5"])[0] == 124
    assert doctor._run(["/no/such/program"])[0] == 127


@pytest.mark.parametrize(
    "code, output, expected",
    [
        (0, "NVIDIA H100, 81559 MiB, 9.0, 550.1\n", ["-", "bfloat16: yes"]),
        (0, "Tesla V100, 16160 MiB, 7.0, 470.1\n", ["-", "bfloat16: no"]),
        (0, "Tesla K80, 11441 MiB, [N/A], \n", ["-", "bfloat16: no"]),
        (9, "NVIDIA-SMI has failed\n", ["broken", "NVIDIA-SMI has failed"]),
        (0, "", ["-", "none"]),
    ],
)
def test_graphics_cards(monkeypatch, code, output, expected):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/" + name)
    monkeypatch.setattr(doctor, "_run", lambda command: (code, output, ""))
    (found,) = doctor._gpu()
    assert found.status == expected[0] and expected[1] in found.text


def test_a_card_that_tensorflow_does_not_see(monkeypatch):
    monkeypatch.setattr(doctor, "_run", lambda command: (0, "FOUND 0 tensorflow True", ""))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor._tensorflow() == [Finding("-", "Keras on tensorflow; TensorFlow sees 0 GPUs")]
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/" + name)
    (found,) = doctor._tensorflow()
    assert found.status == "broken" and "and-cuda" in found.remedy


def test_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "a").mkdir(parents=True)
    (tmp_path / "cache" / "a" / "w.h5").write_bytes(b"0" * 50_000_000)
    zoo, sources, cache = look_at_places()
    assert zoo.remedy == "kipoi-borzoi zoo init" and "none yet" in sources.text
    assert "0.1 GB in 1 files" in cache.text and cache.status == "ok"
    (tmp_path / ".kipoi").mkdir()
    config = {"model_sources": {"borzoi": {"type": "local", "local_path": str(tmp_path / "gone")}}}
    (tmp_path / ".kipoi" / "config.yaml").write_text(json.dumps(config))
    zoo, sources, _ = look_at_places()
    assert zoo.status == "missing" and str(tmp_path / "gone") in zoo.text and "borzoi (" in sources.text
    (tmp_path / ".kipoi" / "config.yaml").write_text("model_sources: [")
    assert [one.status for one in look_at_places()] == ["broken", "broken", "ok"]


def test_this_machine_is_described():
    texts = " | ".join(one.text for one in [*doctor._cpu(), *doctor._memory(), *doctor._settings()])
    assert "cores usable" in texts and "bfloat16" in texts and "memory" in texts and "environment" in texts


def test_report_and_exit_status(monkeypatch, capsys):
    well = Section("Needed packages", [Finding("ok", "numpy 2")], required=True)
    ill = Section("Needed packages", [Finding("missing", "kipoi", "pip install kipoi")], required=True)
    optional = Section("Extras", [Finding("missing", "x")])
    assert format_report([ill]).splitlines()[2:] == [
        "Needed packages", "  missing  kipoi", "           -> pip install kipoi"
    ]  # fmt: skip
    for sections, status in (([well, optional], 0), ([ill, optional], 1)):
        monkeypatch.setattr(doctor, "examine", lambda sections=sections: sections)
        assert main(["doctor"]) == status
        assert "kipoi-borzoi 0." in capsys.readouterr().out


def test_the_whole_report_here(monkeypatch):
    """All parts for real, but for the slow imports."""
    monkeypatch.setattr(doctor, "_run", lambda command: (1, "", "not run in this test"))
    text = format_report(doctor.examine())
    assert str(Path(doctor.__file__).resolve().parents[1]) in text.splitlines()[0]
    for word in ("Needed packages", "tensorflow", "Extras", "Kipoi and its tools", "kipoi_veff2", "cores usable", "cache:"):
        assert word in text
    assert "this part of the report failed" not in text


def test_the_probe_of_kipoi_works():
    code, output, errors = doctor._run([doctor.sys.executable, "-c", doctor._PROBE, "kipoi"])
    assert code == 0, errors
    fixes = json.loads(output.split("FOUND ", 1)[1])
    assert "cap_chunk_bytes" in fixes and ("alias_numpy_strings" in fixes) == (not hasattr(np, "string_"))
