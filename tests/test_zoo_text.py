"""Zoo text is data: strict YAML, strict names, no way out of an entry's folder."""

import pytest

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.zoo.entries import find_entries, parse_shape, read_zoo
from kipoi_borzoi.zoo.names import check_name
from kipoi_borzoi.zoo.yaml_text import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    "text, problem",
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: .*'a' is given twice"),
        ("x:\n  b: {c: 1, c: 2}\n", "line 2: .*'c' is given twice"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("- 1\n", "expected a mapping .* got list"),
        ("", "got NoneType"),
        ("a: [1", "not valid YAML"),
        ("? [1, 2]\n: 3", "not a scalar"),
    ],
)
def test_bad_yaml_is_refused(text, problem):
    with pytest.raises(ZooError, match=f"^here.*{problem}"):
        parse_yaml(text, "here")


def test_yaml_file_that_is_no_text(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ZooError, match="a.yaml"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ZooError, match="b.yaml: cannot be read"):
        read_yaml(tmp_path / "b.yaml")


def test_values_survive_being_written():
    data = {"label": "x: {{ 7*7 }} #", "number-like": "1.0", "yes": "no", "lines": "a\n b\n", "é": ["- x", "*y", "&z"]}
    assert parse_yaml(dump_yaml(data), "written") == data
    assert list(parse_yaml(dump_yaml(data), "written")) == list(data)


@pytest.mark.parametrize("name", ["a", "lab/K562.v2", "A_b-c/0", "x" * 100])
def test_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/../b", "/a", "a/", "a//b", ".hidden", "-x", "a b", "a\n", "ä", "a\\b", "{{x}}", "a/template",
     "a/downloaded", "Borzoi/x", "borzoidemo", "model.yaml"],
)  # fmt: skip
def test_bad_names(name):
    with pytest.raises(ZooError, match="name"):
        check_name(name)


@pytest.mark.parametrize(
    "shape, value",
    [
        ("(512, 4)", (512, 4)),
        ("(7,)", (7,)),
        ("(None, 3)", (None, 3)),
        ("(None,)", (None,)),
        ([5, 4], (5, 4)),
        ("()", ()),
    ],
)
def test_shapes(shape, value):
    assert parse_shape(shape, "x") == value


@pytest.mark.parametrize("shape", ["(__import__('os'), 4)", "(a, 4)", "(-1,)", "(1.5,)"])
def test_shapes_are_not_evaluated(shape):
    with pytest.raises(ZooError, match="^x: shape is"):
        parse_shape(shape, "x")


ENTRY = """\
defined_as: kipoi_borzoi.model.BorzoiModel
args: {params: ../params.json, weights: WEIGHTS, targets: ../targets.txt}
schema: {inputs: {shape: '(512, 4)'}, targets: {shape: '(6,)'}}
"""


def make_entry(zoo, name, text=ENTRY, weights="../w.safetensors"):
    (zoo / name).mkdir(parents=True)
    (zoo / name / "model.yaml").write_text(text.replace("WEIGHTS", weights))
    return zoo / name


def test_files_of_an_entry(tmp_path):
    weights = "[../w.safetensors, 'https://example.org/w.h5']"
    text = ENTRY.replace(
        "targets.txt}", "targets.txt, checksums: {../w.safetensors: ab, 'https://example.org/w.h5': cd}}"
    )
    make_entry(tmp_path, "m/sum", text, weights)
    (entry,) = read_zoo(tmp_path)
    assert (entry.name, entry.problem, entry.is_borzoi) == ("m/sum", None, True)
    files = [(file.role, file.path and file.path.name, file.url, file.sha256) for file in entry.files()]
    assert files == [
        ("params", "params.json", None, None),
        ("targets", "targets.txt", None, None),
        ("weights", "w.safetensors", None, "ab"),
        ("weights", None, "https://example.org/w.h5", "cd"),
    ]
    assert entry.shape("inputs") == (512, 4)


@pytest.mark.parametrize("weights", ["../../w.h5", "/etc/passwd", "link.h5"])
def test_files_outside_the_entry_are_refused(tmp_path, weights):
    (tmp_path / "w.h5").write_text("")
    folder = make_entry(tmp_path / "zoo", "m/sum", weights=weights)
    (folder / "link.h5").symlink_to(tmp_path / "w.h5")
    (entry,) = read_zoo(tmp_path / "zoo")
    with pytest.raises(ZooError, match="leads out of"):
        entry.files()


def test_entry_behind_a_link_that_leaves_the_zoo(tmp_path):
    make_entry(tmp_path, "elsewhere/sum")
    (tmp_path / "zoo" / "m").mkdir(parents=True)
    (tmp_path / "zoo" / "m" / "sum").symlink_to(tmp_path / "elsewhere" / "sum")
    (entry,) = read_zoo(tmp_path / "zoo")
    assert "leads out of" in entry.problem


@pytest.mark.parametrize("args", ["{params: 1, weights: a, targets: b}", "{params: a, weights: b}"])
def test_files_must_be_named(tmp_path, args):
    make_entry(tmp_path, "m/sum", f"defined_as: kipoi_borzoi.model.BorzoiModel\nargs: {args}\n")
    with pytest.raises(ZooError, match="expected a path or an https URL"):
        read_zoo(tmp_path)[0].files()


def test_broken_entries_do_not_hide_the_others(tmp_path):
    make_entry(tmp_path, "good/sum")
    make_entry(tmp_path, "bad/sum", "a: 1\na: 2\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "model-template.yaml").write_text("x: {{ model }}\n")
    problems = {entry.name: entry.problem for entry in read_zoo(tmp_path)}
    assert problems["good/sum"] is None
    assert "given twice" in problems["bad/sum"]
    assert "models.tsv" in problems["group"]


def make_group(folder, template, table):
    folder.mkdir(parents=True)
    (folder / "model-template.yaml").write_text(template)
    (folder / "models.tsv").write_text(table)


def test_group_rows_are_entries(tmp_path):
    make_group(
        tmp_path / "g",
        "args: {view: {{ view }}, n: {{ n }}}\n",
        "model\tview\tn\na/sum\tsum\t3\n# no\nb\tcoverage\t4\n",
    )
    assert [(entry.name, entry.args, entry.root) for entry in read_zoo(tmp_path)] == [
        ("g/a/sum", {"view": "sum", "n": 3}, tmp_path / "g"),
        ("g/b", {"view": "coverage", "n": 4}, tmp_path / "g"),
    ]


@pytest.mark.parametrize(
    "template, table, problem",
    [
        ("a: 1\n", "model\nx\nx\n", "listed twice"),
        ("a: 1\n", "name\nx\n", "no column 'model'"),
        ("a: {{\n", "model\nx\n", "model-template.yaml"),
        ("a: {{ ''.__class__.__mro__ }}\n", "model\nx\n", "unsafe"),
    ],
)
def test_bad_groups(tmp_path, template, table, problem):
    make_group(tmp_path / "g", template, table)
    (entry,) = read_zoo(tmp_path)
    assert problem in entry.problem


def test_hidden_folders_are_not_entries(tmp_path):
    make_entry(tmp_path, ".tmp~host~1~ab~~folder/model/sum")
    assert read_zoo(tmp_path) == []


def test_finding_entries(tmp_path):
    for name in ("m/sum", "m/coverage", "m2/sum"):
        make_entry(tmp_path, name)
    assert [entry.name for entry in find_entries(tmp_path, "m")] == ["m/coverage", "m/sum"]
    assert [entry.name for entry in find_entries(tmp_path, "m/sum/")] == ["m/sum"]
    with pytest.raises(ZooError, match="no entry 'm/sun'; near matches: m/sum"):
        find_entries(tmp_path, "m/sun")
    with pytest.raises(ZooError, match="no such folder"):
        read_zoo(tmp_path / "none")
