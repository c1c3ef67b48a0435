"""kipoi_veff with our models: each fix is needed and does what it says, and whole runs equal predictions made by hand."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from genome_files import random_sequence, write_fasta
from zoo_parts import make_lively_parts, use_kipoi_home

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.kipoi_compat import patching, veff
from kipoi_borzoi.kipoi_compat.veff_scores import LogSED
from kipoi_borzoi.kipoi_tools.veff import parse_region

MISSING = [name for name in ("kipoi_veff", "vcf", "cyvcf2", "pybedtools", "deepdish", "shapely", "descartes", "seaborn")
           if importlib.util.find_spec(name) is None]  # fmt: skip
MISSING += [name for name in ("bedtools", "tabix") if shutil.which(name) is None]
needs_veff = pytest.mark.skipif(bool(MISSING), reason=f"for kipoi_veff there is no {', '.join(MISSING)}")


def program(what, folder, **environment):
    command = [sys.executable, str(Path(__file__).with_name("kipoi_veff_uses.py")), what, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("REPORT ", 1)[1]), done.stderr + done.stdout


@pytest.fixture(scope="module")
def fixes(tmp_path_factory):
    return program("fixes", tmp_path_factory.mktemp("fixes"))[0]


NUMPY_1 = hasattr(np, "string_")


def old(fix):
    """Whether this environment is older than the fault."""
    if fix == "supply_removed_numpy_names":
        return hasattr(np, "in1d") and hasattr(np, "int")
    if fix == "save_maps_with_current_numpy":
        return NUMPY_1 and hasattr(np, "object")
    if fix == "give_info_fields_their_type_code":
        from vcf import parser

        return "type_code" not in parser._Info._fields
    if fix == "draw_letters_without_descartes":
        import shapely

        return int(shapely.__version__.split(".")[0]) < 2
    return False


EXPECTED = {
    # fix: (exception or wrong result before, result after)
    "supply_removed_numpy_names": ("AttributeError", [8, [0, 3, 2, 3]]),
    "give_info_fields_their_type_code": ("TypeError", ["X", "String", "text"]),
    "save_maps_with_current_numpy": ("AttributeError", [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], "AC", "c"]),
    "stack_letters_from_generators": ("TypeError", [["A", "C", "G", "T"], [[0, 0, 1, 0], [1, 0, 0, 0]]]),
    "draw_letters_without_descartes": ("IndexError", [[3.0, 1.0, 4.0, 3.0], True, "#ffffff"]),
    "join_values_of_info_fields": ("ValueError", ["AC=1,2", "AF=0.25,0.5", "DB", "SRC=x", "KV:s:m:DIFF=1.50000000", "KV:s:m:rID=r"]),
    "leave_out_samples": ([10, 8], [8, 8]),
    "keep_contig_names_whole": (
        ["chr1\t10\t20\tid", "chr7\t10\t20\tid", "chrscaffold_\t10\t20\tid"],
        ["chr1\t10\t20\tid", "chr7\t10\t20\tid", "chrscaffold_c\t10\t20\tid"],
    ),
    "keep_windows_at_a_contigs_start": (
        [[-3, 5], [0, 8], [1, 9], [296, 304]],
        [[0, 2], [0, 8], [1, 9], [296, 304]],  # the same middles
    ),
    "find_regions_with_or_without_chr": ([[], []], [["scaffold\t10\t20"], [0]]),
    "start_windows_of_regions_at_the_region": ([["99", "110"], ["109", "120"]], [["100", "110"], ["110", "120"]]),
    "predict_alleles_of_our_models_together": (
        [
            ["AAC", "CGT", "TTG", "GCA"],
            {
                "alt": [[2, 20], [3, 30], [4, 40]], "alt_rc": [[3, 30], [2, 20], [1, 10]],
                "ref": [[1, 10], [1, 10], [2, 20]], "ref_rc": [[4, 40], [4, 40], [3, 30]],
            },
        ],
        [
            ["ACGCT", "TGCGA"],  # the reference that two variants share is predicted once
            {
                "alt": [[2, 20], [3, 30], [4, 40]], "alt_rc": [[30, 3], [20, 2], [10, 1]],
                "ref": [[1, 10], [1, 10], [2, 20]], "ref_rc": [[40, 4], [40, 4], [30, 3]],
            },
        ],
    ),
}  # fmt: skip


def test_every_fix_has_its_test():
    assert list(EXPECTED) == [fix.__name__ for fix in veff.FIXES]
    assert veff.FIXES == veff.FIXES_OF_VERSIONS + veff.FIXES_OF_FAULTS + veff.BRIDGE
    assert all(fix.__doc__ for fix in veff.FIXES)


@needs_veff
@pytest.mark.parametrize("fix", EXPECTED)
def test_fix_is_needed_and_does_what_it_says(fixes, fix):
    before, after, needed = fixes[fix]
    without, expected = EXPECTED[fix]
    assert after == ["ok", expected]
    if old(fix):
        assert before == ["ok", expected] and not needed
        return
    assert needed
    assert before[0] == without if isinstance(without, str) else before == ["ok", without]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on ``lab/mine``, whose first four tracks are two strand pairs."""
    from test_veff2 import _small_params

    from kipoi_borzoi.zoo import zoo_import, zoo_init

    folder = tmp_path_factory.mktemp("runs")
    contigs = {"chr1": random_sequence(3000, 1).lower(), "scaffold_c": random_sequence(700, 2)}
    write_fasta(folder / "genome.fa", contigs)
    (folder / "contigs.json").write_text(json.dumps(contigs))
    with pytest.MonkeyPatch.context() as patch:
        use_kipoi_home(folder / "home", patch)
        zoo_init(folder / "zoo")
        parts = make_lively_parts(folder / "parts", _small_params())
        rows = [line.split("\t") for line in parts["targets"].read_text().splitlines()]
        for row, partner in zip(rows[1:], [1, 0, 3, 2, 4, 5], strict=True):
            row[rows[0].index("strand_pair")] = str(partner)
        parts["targets"].write_text("\n".join("\t".join(row) for row in rows) + "\n")
        zoo_import("lab/mine", **parts, head="human", zoo=folder / "zoo")
        return *program("runs", folder, HOME=str(folder / "home")), folder


def close(found, expected, size=None):
    """Within the rounding between batches of different size, 1e-6 of a sum."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * (np.abs(expected).max() if size is None else size))


@needs_veff
class TestRuns:
    def test_all_fixes_are_applied_and_our_warnings_are_heard(self, runs):
        found, text, _ = runs
        assert set(found["fixes"]) <= set(EXPECTED) and "predict_alleles_of_our_models_together" in found["fixes"]
        assert not found["disabled"]
        assert text.count("differ by the prefix 'chr': 'chrscaffold_c'") >= 1

    def test_scores_equal_predictions_by_hand(self, runs):
        found = runs[0]
        ref, alt = (np.array(found["by hand"][name]) for name in ("ref", "alt"))
        assert found["columns"] == [f"human{index}" for index in range(6)]
        close(found["scores"]["ref"], ref)
        close(found["scores"]["alt"], alt)
        close(found["scores"]["diff"], alt - ref, ref.max())
        close(found["scores"]["logSED"], np.log2(1 + alt) - np.log2(1 + ref), 1)
        assert np.abs(alt - ref).max() > 1e-3 * ref.max()

    def test_the_annotated_file_holds_them_beside_what_it_held(self, runs):
        found = runs[0]
        diff = np.array(found["scores"]["diff"])
        assert [row[:3] for row in found["vcf"]] == [
            ["chr1", "1500", "v1500"], ["chr1", "1600", "several"], ["chr1", "1800", "v1800"],
            ["chr1", "2990", "v2990"], ["scaffold_c", "30", "v30"],
        ]  # fmt: skip
        for row, values in zip(found["vcf"], diff, strict=True):
            written = row[5]["KV:borzoi:lab/mine/sum:DIFF"].split("|")
            np.testing.assert_allclose(np.array(written, dtype=float), values, atol=6e-9)
        assert found["vcf"][0][5]["AC"] == "1" and "DB" in found["vcf"][0][5]
        assert found["vcf"][1][5]["AC"] == "1,2,3"

    def test_outputs_are_chosen_by_label_and_number(self, runs):
        found = runs[0]
        diff = np.array(found["scores"]["diff"])
        assert found["chosen"] == [["human1", "human4"], diff[:, [1, 4]].tolist()]
        assert found["chosen by number"] == diff[:, [1, 4]].tolist()

    def test_a_score_of_the_user(self, runs):
        found = runs[0]
        scores = found["scores"]
        np.testing.assert_allclose(found["ratio"], np.array(scores["alt"]) / np.array(scores["ref"]), rtol=1e-12)

    def test_tables_hold_the_same(self, runs):
        found = runs[0]
        close(found["tsv"], found["scores"]["diff"], np.max(found["scores"]["ref"]))
        np.testing.assert_allclose(found["h5"], found["tsv"], rtol=1e-12)

    def test_restriction(self, runs):
        assert [name.split(":")[1] for name in runs[0]["restricted"]] == ["1500", "1600", "1800"]

    def test_both_strands_with_partners_in_place(self, runs):
        found = runs[0]
        size = np.max(found["scores"]["ref"])
        close(found["rc"]["alt"], found["rc by hand"]["alt"])
        close(found["rc"]["diff"], found["rc by hand"]["diff"], size)
        assert np.abs(np.array(found["rc"]["diff"]) - found["scores"]["diff"]).max() > 5e-4 * size

    def test_map_of_a_region_is_the_middle_of_kipoi_veffs(self, runs):
        maps = runs[0]["maps"]
        theirs, ours = np.array(maps["theirs"]), np.array(maps["ours"])
        assert theirs.shape == (4, 512) and ours.shape == (4, 8)
        assert maps["our letters"] == maps["their letters"][252:260]
        close(ours, theirs[:, 252:260], np.max(runs[0]["scores"]["ref"]))
        rows = ["ACGT".index(letter) for letter in maps["our letters"]]
        assert (ours[rows, range(8)] == 0).all() and (ours != 0).sum() == 24
        assert np.array(maps["both strands"]).shape == (4, 8)
        assert maps["picture"] > 5000


BAD_MAPS = {
    "one number per track": ["lab/mine/coverage"],
    "doesn't exist": ["lab/mind/sum"],
    "expected CHROM:START-END": ["--region", "chr1"],
    "which is 3,000 bp long": ["--region", "chr1:2995-3005"],
    "expected at most 512 bp": ["--region", "chr1:1001-1600"],
    "contig 'chr9' is not in": ["--region", "chr9:1-5"],
    "unknown track 'none'": ["--tracks", "none"],
    "unknown score 'SED'; known for this entry: logSED, diff, ref, alt": ["--score", "SED"],
    "ends in one of .png .svg .pdf": ["--plot", "picture.xyz"],
    "there is no folder": ["--out", "nowhere/map.h5"],
    "nothing to write": ["--out", ""],
}


@needs_veff
def test_maps_that_cannot_be_made_are_refused_in_one_line(runs, tmp_path):
    folder = Path(runs[2])
    program = """
import json, os, sys
from kipoi_borzoi.cli import main
cases = json.loads(sys.argv[1])
for message, words in cases.items():
    print("CASE " + message, file=sys.stderr, flush=True)
    assert main(words) == 1, message
"""
    cases = {}
    for message, change in BAD_MAPS.items():
        options = {"--region": "chr1:1501-1502", "--tracks": "human0", "--score": "diff", "--out": "map.h5", "--plot": ""}
        entry = change[0] if len(change) == 1 else "lab/mine/sum"
        options.update([change] if len(change) == 2 else [])
        words = [word for name, value in options.items() if value for word in (name, value)]
        cases[message] = ["veff", "map", entry, "--fasta", str(folder / "genome.fa"), *words]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(cases)], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "HOME": str(folder / "home"), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = done.stderr.split("CASE ")[1:]
    assert len(answers) == len(BAD_MAPS)
    for message, answer in zip(BAD_MAPS, answers, strict=True):
        errors = [line for line in answer.splitlines() if line.startswith("kipoi-borzoi: error:")]
        assert len(errors) == 1 and message in errors[0] and "fault of the program" not in errors[0], answer
    assert not list(tmp_path.iterdir())


def test_importing_and_loading_our_model_leaves_kipoi_veff_and_kipois_log_alone():
    code = """
import json, logging, sys
import kipoi
before = [logging.getLogger(name).disabled for name in ("kipoi", "kipoi.model")], len(logging.getLogger("kipoi").handlers)
import kipoi_borzoi.model, kipoi_borzoi.dataloaders
after = [logging.getLogger(name).disabled for name in ("kipoi", "kipoi.model")], len(logging.getLogger("kipoi").handlers)
print(json.dumps([before == after, [name for name in sys.modules if name.startswith(("kipoi_veff", "kipoi_interpret"))]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, []]


def test_what_kipoi_veff_reads(monkeypatch):
    effects = veff.VariantEffects("sum")
    assert (effects.seq_input, effects.use_rc, effects.scoring_functions) == (["seq"], False, [])
    monkeypatch.setenv(veff.RC_VARIABLE, "1")
    assert veff.VariantEffects("sum").use_rc
    monkeypatch.setenv(veff.RC_VARIABLE, "0")
    assert not veff.VariantEffects("sum").use_rc


def test_pairs_are_predicted_beside_each_other_in_chunks():
    ref = np.arange(7.0).reshape(7, 1, 1) * np.ones((7, 2, 4))
    ref[3] = ref[2]
    alt = ref + 100
    batches = []

    def predict(x):
        batches.append(x[:, 0, 0].tolist())
        return x[:, 0, :2] * [1, 2]

    found = veff.predict_pairs(predict, ref, alt, chunk_bytes=2 * 4 * ref[0].nbytes)
    assert batches == [[0, 100, 1, 101, 2, 102, 102], [4, 104, 5, 105, 6, 106]]
    np.testing.assert_array_equal(found[0], ref[:, 0, :2] * [1, 2])
    np.testing.assert_array_equal(found[1], alt[:, 0, :2] * [1, 2])


def test_equal_references_of_two_chunks_are_not_mixed_up():
    ref, alt = np.zeros((3, 2, 4)), np.ones((3, 2, 4))
    batches = []

    def predict(x):
        batches.append(len(x))
        return x[:, 0]

    found = veff.predict_pairs(predict, ref, alt, chunk_bytes=1)
    assert batches == [2, 2, 2] and (found[0] == 0).all() and (found[1] == 1).all()


def test_log_sed_by_hand():
    ref, alt = np.array([[1.0, 7.0]]), np.array([[3.0, 3.0]])
    assert LogSED()(ref, alt).tolist() == [[1.0, -1.0]]
    reverse = {"ref_rc": np.array([[0.0, 0.0]]), "alt_rc": np.array([[7.0, 1.0]])}  # 3 and 1
    expected = {"mean": [2, 0], "min": [1, -1], "max": [3, 1], "median": [2, 0], "absmax": [3, -1]}
    for merging, scores in expected.items():
        assert LogSED(merging)(ref, alt, **reverse).tolist() == [scores]
    with pytest.raises(ValueError, match="rc_merging is 'sum'"):
        LogSED("sum")


def test_a_module_sees_other_names_of_numpy_and_no_other_module_does(tmp_path, monkeypatch):
    (tmp_path / "made_for_old_numpy.py").write_text("import numpy as np\nimport json\nfound = np.gone, np.zeros(2).sum()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "made_for_old_numpy", raising=False)
    module = patching.import_with_numpy("made_for_old_numpy", patching.NumpyWith(gone=7), after=("json",))
    assert module.found == (7, 0.0) and not hasattr(np, "gone") and sys.modules["numpy"] is np
    (tmp_path / "breaks.py").write_text("import numpy as np\nnp.not_there\n")
    with pytest.raises(AttributeError):
        patching.import_with_numpy("breaks", patching.NumpyWith(), after=())
    assert sys.modules["numpy"] is np and "breaks" not in sys.modules


def test_wrapping_happens_once_and_keeps_static_methods():
    class Owner:
        @staticmethod
        def double(x):
            return 2 * x

    def plus_one(original, x):
        return original(x) + 1

    patching.wrap(Owner, "double", plus_one)
    patching.wrap(Owner, "double", plus_one)
    assert Owner.double(2) == 5 and Owner().double(2) == 5
    owner = types.SimpleNamespace(f=lambda x: x)
    patching.wrap(owner, "f", plus_one)
    assert owner.f(1) == 2


@pytest.mark.parametrize("text, place", [("chr7:5,530-5,540", (5529, 5540)), ("HLA:A*01:1-1", (0, 1))])
def test_regions_are_one_based_with_both_ends(text, place):
    region = parse_region(text)
    assert (region.start, region.end) == place and region.chrom == text.rpartition(":")[0]


@pytest.mark.parametrize("text", ["chr7", "chr7:0-5", "chr7:9-5", "chr7:a-b", ":1-5", "chr7:,-5"])
def test_other_texts_are_no_region(text):
    with pytest.raises(InputError, match="expected CHROM:START-END"):
        parse_region(text)
