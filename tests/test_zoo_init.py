"""zoo_init makes a zoo and registers it, and changes nothing else."""

import json
import os
import stat
import subprocess
import sys

import pytest
import yaml
from zoo_parts import use_kipoi_home

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.zoo import zoo_init
from kipoi_borzoi.zoo.place import packaged_zoo, readable_zoo, users_zoo, writable_zoo

CONFIG = """\
# mine
model_sources:
    kipoi:   # public models
        type: git
        remote_url: https://github.com/kipoi/models.git
        local_path: /data/kipoi/models/
        auto_update: true

    # of my group
    lab:
        type: local
        local_path: /data/lab

# environments
env_db_path: ~/envs.json
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = use_kipoi_home(tmp_path / "home", monkeypatch)
    path.write_text(CONFIG)
    return path


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_first_time(config, tmp_path):
    report = zoo_init()
    assert report.directory == tmp_path / "home" / ".kipoi" / "borzoi_zoo"
    assert (report.name, report.registered) == ("borzoi", True)
    assert report.groups == {"Borzoi": "added", "BorzoiMini": "added", "BorzoiDemo": "added"}
    for group in report.groups:
        packaged = {path for path in snapshot(packaged_zoo() / group) if "__pycache__" not in path.parts}
        assert {path for path in snapshot(report.directory / group) if path.name != ".kipoi_borzoi.json"} == packaged
    assert users_zoo() == readable_zoo(None) == writable_zoo(None) == report.directory
    assert not list(report.directory.glob(".tmp*"))


def test_configuration_keeps_every_character(config, tmp_path):
    zoo_init(tmp_path / "my zoo", "mine")
    text = config.read_text()
    added = f"    mine:\n      type: local\n      local_path: {tmp_path}/my zoo\n"
    assert text == CONFIG.replace("        local_path: /data/lab\n", "        local_path: /data/lab\n" + added)
    assert yaml.safe_load(text)["model_sources"]["mine"] == {"type": "local", "local_path": str(tmp_path / "my zoo")}


@pytest.mark.parametrize(
    "before",
    [
        "model_sources: {lab: {type: local, local_path: /data/lab}}\nenv_db_path: x\n",
        "env_db_path: x\nmodel_sources:\n  lab: {type: local, local_path: /data/lab}",
        "model_sources:\n- not a mapping\n",
        "env_db_path: x\nmodel_sources: {}\n",
    ],
)
def test_configurations_of_other_shapes(config, tmp_path, before):
    config.write_text(before)
    if "- not" in before:
        with pytest.raises(ZooError, match="model_sources is a list"):
            zoo_init(tmp_path / "zoo")
        assert config.read_text() == before
        return
    zoo_init(tmp_path / "zoo")
    expected = yaml.safe_load(before)
    expected["model_sources"]["borzoi"] = {"type": "local", "local_path": str(tmp_path / "zoo")}
    assert yaml.safe_load(config.read_text()) == expected


def test_repeating_changes_nothing(config):
    first = zoo_init()
    before = snapshot(first.directory.parent)
    report = zoo_init()
    assert not report.registered and set(report.groups.values()) == {"unchanged"}
    assert snapshot(first.directory.parent) == before


def test_use_leaves_a_group_unchanged(config):
    zoo = zoo_init().directory
    (zoo / "Borzoi" / "downloaded" / "example_files").mkdir(parents=True)
    (zoo / "Borzoi" / "downloaded" / "example_files" / "intervals_file").write_text("x")
    assert zoo_init().groups["Borzoi"] == "unchanged"


def test_older_version_is_refreshed_and_own_models_stay(config):
    zoo = zoo_init().directory
    group = zoo / "BorzoiMini"
    # As an older version of this package would have left it.
    (group / "models.tsv").write_text("model\tview\n")
    from kipoi_borzoi.zoo import init

    mark = {"version": "0.0.1", "content": init._digest(group)}
    (group / ".kipoi_borzoi.json").write_text(json.dumps(mark))
    (zoo / "Mine" / "sum").mkdir(parents=True)
    (zoo / "Mine" / "sum" / "model.yaml").write_text("a: 1\n")
    assert zoo_init().groups == {"Borzoi": "unchanged", "BorzoiMini": "refreshed", "BorzoiDemo": "unchanged"}
    assert (group / "models.tsv").read_bytes() == (packaged_zoo() / "BorzoiMini" / "models.tsv").read_bytes()
    assert (zoo / "Mine" / "sum" / "model.yaml").read_text() == "a: 1\n"


def test_edited_group_is_left_alone(config):
    table = zoo_init().directory / "BorzoiMini" / "models.tsv"
    table.write_text(table.read_text() + "# my note\n")
    assert zoo_init().groups["BorzoiMini"] == "edited"
    assert table.read_text().endswith("# my note\n")


def test_group_of_another_origin_is_refused(config, tmp_path):
    (tmp_path / "zoo" / "Borzoi").mkdir(parents=True)
    (tmp_path / "zoo" / "Borzoi" / "model.yaml").write_text("theirs")
    with pytest.raises(ZooError, match="Borzoi: there are models of another origin"):
        zoo_init(tmp_path / "zoo")
    assert (tmp_path / "zoo" / "Borzoi" / "model.yaml").read_text() == "theirs"
    assert config.read_text() == CONFIG


@pytest.mark.parametrize("name", ["kipoi", "dir", "github-permalink", "a b", "../x", ""])
def test_bad_source_names(config, tmp_path, name):
    with pytest.raises(ZooError, match="source name"):
        zoo_init(tmp_path / "zoo", name)
    assert config.read_text() == CONFIG and not (tmp_path / "zoo").exists()


def test_name_of_another_place_is_refused(config, tmp_path):
    zoo_init(tmp_path / "one")
    with pytest.raises(ZooError, match="'borzoi' is already .*one"):
        zoo_init(tmp_path / "two")
    assert zoo_init(tmp_path / "two", "second").registered


def test_the_package_itself_is_refused(config):
    with pytest.raises(ZooError, match="the package itself"):
        zoo_init(packaged_zoo())


def test_linked_configuration_stays_a_link(config, tmp_path):
    real = tmp_path / "dotfiles.yaml"
    config.rename(real)
    config.symlink_to(real)
    zoo_init(tmp_path / "zoo")
    assert config.is_symlink() and "borzoi:" in real.read_text()


def test_file_in_place_of_the_folder(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="file: this folder cannot be made"):
        zoo_init(tmp_path / "file")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_read_only_configuration(config, tmp_path):
    config.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(ZooError, match="config.yaml: cannot be written"):
            zoo_init(tmp_path / "zoo")
    finally:
        config.parent.chmod(stat.S_IRWXU)


def test_configuration_that_cannot_be_written(config, tmp_path, monkeypatch):
    from kipoi_borzoi.zoo import kipoi_config

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kipoi_config, "atomic_write", full)
    with pytest.raises(
        ZooError, match='config.yaml: cannot be written .No space left.*model_sources: the line: borzoi: {"type"'
    ):
        zoo_init(tmp_path / "zoo")
    assert config.read_text() == CONFIG


def test_without_a_configuration_kipois_own_sources_stay(tmp_path):
    """In a process of its own: Kipoi reads and writes its configuration when it is imported."""
    code = "import kipoi_borzoi, kipoi; kipoi_borzoi.zoo_init(); print(sorted(kipoi.config.model_sources()))"
    env = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "['borzoi', 'dir', 'github-permalink', 'kipoi']", result.stderr
    sources = yaml.safe_load((tmp_path / ".kipoi" / "config.yaml").read_text())["model_sources"]
    assert list(sources) == ["kipoi", "github-permalink", "borzoi"]
    assert sources["borzoi"] == {"type": "local", "local_path": str(tmp_path / ".kipoi" / "borzoi_zoo")}


def test_configuration_that_kipoi_cannot_read(tmp_path):
    (tmp_path / ".kipoi").mkdir()
    (tmp_path / ".kipoi" / "config.yaml").write_text("env_db_path: x\n")
    command = [sys.executable, "-m", "kipoi_borzoi.cli", "zoo", "init", str(tmp_path / "zoo")]
    env = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "config.yaml: Kipoi cannot start with this configuration" in result.stderr


def test_no_zoo_yet(tmp_path, monkeypatch):
    use_kipoi_home(tmp_path, monkeypatch)
    assert users_zoo() is None
    assert readable_zoo(None) == packaged_zoo()
    with pytest.raises(ZooError, match="run `kipoi-borzoi zoo init`"):
        writable_zoo(None)
    with pytest.raises(ZooError, match="nowhere: no such folder"):
        writable_zoo(tmp_path / "nowhere")
