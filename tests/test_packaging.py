"""The built wheel holds everything that the repository's three mapped folders hold."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = {"plugin": "kipoi_borzoi", "dataloaders": "kipoi_borzoi/dataloaders", "model_zoo": "kipoi_borzoi/model_zoo"}


def tracked(folder):
    """Files of a folder that are part of the project."""
    done = subprocess.run(["git", "ls-files", folder], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        return [str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [name for name in done.stdout.splitlines() if (REPOSITORY / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the project, so that no `build/` folder of an earlier one is in the way."""
    import shutil

    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_contains_every_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in FOLDERS.items():
        expected = {name.replace(folder, package, 1) for name in tracked(folder)}
        assert len(expected) > 3
        assert sorted(expected - names) == []


def test_wheel_has_the_command_and_the_license(wheel):
    archive = zipfile.ZipFile(wheel)
    entry_points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "kipoi-borzoi = kipoi_borzoi.cli:main" in archive.read(entry_points).decode()
    assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_wheel_works_without_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import kipoi_borzoi; from kipoi_borzoi.zoo.place import packaged_zoo; print(kipoi_borzoi.__file__); print(packaged_zoo())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(tmp_path)) for line in done.stdout.splitlines())
