"""Zoo text is data: strict YAML, strict names, no way out of an entry's folder."""

import re

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
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: " + "[" * 100000, "nesting"),
        ("a: &a [*a]", "recursive"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
         "more than 200,000 values"),
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
        "targets.txt}", "targets.txt, checksums: {../w.safetensors: " + "ab" * 32 + ", 'https://example.org/w.h5': " + "cd" * 32 + "}}"
    )
    make_entry(tmp_path, "m/sum", text, weights)
    (entry,) = read_zoo(tmp_path)
    assert (entry.name, entry.problem, entry.is_borzoi) == ("m/sum", None, True)
    files = [(file.role, file.path and file.path.name, file.url, file.sha256) for file in entry.files()]
    assert files == [
        ("params", "params.json", None, None),
        ("targets", "targets.txt", None, None),
        ("weights", "w.safetensors", None, "ab" * 32),
        ("weights", None, "https://example.org/w.h5", "cd" * 32),
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
        ("a: {{ self.__init__.__globals__ }}\n", "model\nx\n", "unsafe"),
        ("a: {{ 'a' * 10000000000 }}\n", "model\nx\n", r"operator * is unsafe"),
        ("a: {{ 10 ** 1000000000 }}\n", "model\nx\n", r"operator ** is unsafe"),
        ("a: {% for i in range(99999) %}{{ '%1000d' % i }}{% endfor %}\n", "model\nx\n", "longer than 10,000,000"),
        ("a: {% for i in range(999999) %}x{% endfor %}\n", "model\nx\n", "Range too big"),
        ("{% include '/etc/passwd' %}\n", "model\nx\n", "no loader"),
        ("a: {{ n / 0 }}\n", "model\tn\nx\t1\n", "division by zero"),
        ("a: {{ v }}\n", "model\tv\nx\t}}: {{ 7 }}: [\n", "not valid YAML"),
        ("a: {{ v }}\n", "model\tv\tself\nx\t!!python/object/apply:os.system ['true']\t1\n", "not valid YAML"),
    ],
)
def test_bad_groups(tmp_path, template, table, problem):
    make_group(tmp_path / "g", template, table)
    (entry,) = read_zoo(tmp_path)
    assert problem in entry.problem


@pytest.mark.parametrize(
    "args, problem",
    [
        ("[1]", "args is .1., expected a mapping"),
        ("{params: ../p, weights: ../w, targets: ../t, checksums: [x]}", "checksums is .* expected a mapping"),
        ("{params: ../p, weights: ../w, targets: ../t, checksums: {../w: d41d8cd98f00b204e9800998ecf8427e}}", "expected a sha256 of 64"),
        ("{params: ../p, weights: ../w, targets: ../t, checksums: {../w: 5}}", "expected a sha256 of 64"),
    ],
)
def test_arguments_of_other_types(tmp_path, args, problem):
    make_entry(tmp_path, "m/sum", f"defined_as: kipoi_borzoi.model.BorzoiModel\nargs: {args}\n")
    (entry,) = read_zoo(tmp_path)
    assert re.search(problem, entry.problem)


def test_a_checksum_of_no_file_is_refused(tmp_path):
    """Else a misspelt name would leave the file unverified."""
    text = "defined_as: kipoi_borzoi.model.BorzoiModel\nargs: {params: ../p, weights: ../w, targets: ../t, checksums: {w: " + "ab" * 32 + "}}\n"
    make_entry(tmp_path, "m/sum", text)
    with pytest.raises(ZooError, match="checksums: 'w' is none of the entry's files"):
        read_zoo(tmp_path)[0].files()


def test_names_in_a_group_lead_nowhere(tmp_path):
    make_group(tmp_path / "zoo" / "g", "args: {view: sum}\n", "model\n../../../outside\n/etc/passwd\n")
    for entry in read_zoo(tmp_path / "zoo"):
        assert entry.directory == entry.root == tmp_path / "zoo" / "g"


def test_a_table_that_is_a_link_out_of_the_zoo(tmp_path):
    (tmp_path / "secret.tsv").write_text("model\nx\n")
    make_group(tmp_path / "zoo" / "g", "a: 1\n", "model\nx\n")
    (tmp_path / "zoo" / "g" / "models.tsv").unlink()
    (tmp_path / "zoo" / "g" / "models.tsv").symlink_to(tmp_path / "secret.tsv")
    (entry,) = read_zoo(tmp_path / "zoo")
    assert "leads out of" in entry.problem


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
