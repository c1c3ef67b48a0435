"""Which tracks become which columns: choices, pairs of strands, ensembles and contrasts, and what is wrong with a choice."""

from types import SimpleNamespace

import numpy as np
import pytest
from variant_cases import make_tracks

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.columns import Contrast, Term, check_strands, make_table, read_contrasts, strand_of
from kipoi_borzoi.variants.scores import GENE_SCORERS, VARIANT_SCORERS


def model(identifiers=("A+", "B-", "A-", "B+", "C", "D"), strand_pair=(2, 3, 0, 1, 4, 5), replicates=1):
    return SimpleNamespace(tracks=make_tracks(identifiers, strand_pair), predictors=[None] * replicates)


def names(*arguments, **options):
    return [column.name for column in make_table(*arguments, **options).columns]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ["A", "B", "C", "D"]),
        (["D", "A"], ["D", "A"]),
        (["B+"], ["B+"]),
        (["B+", "B-"], ["B"]),
        (["A-", "C", "A+"], ["A", "C"]),
        (["TISSUE [ab]"], ["A", "B"]),
        (["tissue C", "C"], ["C"]),
        (["rna:"], ["A", "B", "C", "D"]),
    ],
)
def test_tracks_are_chosen_by_identifier_column_or_pattern(choice, expected):
    assert names({"m": model()}, choice) == expected


def test_only_what_is_needed_is_predicted():
    table = make_table({"m": model()}, ["D", "B-"])
    (ensemble,) = table.ensembles
    assert ensemble.tracks.index.tolist() == [1, 5]
    assert [unit.rows for unit in ensemble.units] == [(1, -1), (0, -1)]
    assert table.columns[1].tracks == ("B-",)


def test_tracks_are_chosen_by_file(tmp_path):
    (tmp_path / "list.txt").write_text("C\n\nB\n")
    assert names({"m": model()}, [str(tmp_path / "list.txt")]) == ["C", "B"]
    header = "\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription\n"
    (tmp_path / "table.txt").write_text(header + "4\tC\tx\t9\t9\t1\tsum\t4\twords\n0\tA+\tx\t9\t9\t1\tsum\t2\twords\n")
    assert names({"m": model()}, [str(tmp_path / "table.txt")]) == ["A+", "C"]
    (tmp_path / "list.txt").write_text("C\nE\n")
    with pytest.raises(InputError, match="list.txt, line 2: the model has no track 'E'"):
        names({"m": model()}, [str(tmp_path / "list.txt")])
    (tmp_path / "table.txt").write_text(header + "4\tD\tx\t9\t9\t1\tsum\t4\twords\n")
    with pytest.raises(InputError, match="index 4 is 'D' there, but 'C' in the model"):
        names({"m": model()}, [str(tmp_path / "table.txt")])


def test_choices_that_fit_nothing_are_refused():
    with pytest.raises(InputError, match="tracks: 'liver' is no identifier, no file, and found in no description of m"):
        names({"m": model()}, ["A", "liver"])
    with pytest.raises(InputError, match=r"'\(' is no track, no file and no pattern"):
        names({"m": model()}, ["("])
    with pytest.raises(InputError, match="expected a list"):
        names({"m": model()}, "A")


def test_pairs_keep_names_that_nothing_else_has():
    assert names({"m": model(("X+", "X-", "X", "Y_fwd", "Y_rev"), (1, 0, 2, 4, 3))}) == ["X+", "X", "Y_fwd"]


def test_models_with_the_same_tracks_are_an_ensemble():
    one, two, other = model(replicates=2), model(), model(("A+", "A-"), (1, 0))
    table = make_table({"one": one, "two": two, "other": other})
    assert [ensemble.names for ensemble in table.ensembles] == [("one", "two"), ("other",)]
    assert table.ensembles[0].members == 3
    assert [column.name for column in table.columns] == ["one:A", "one:B", "one:C", "one:D", "other:A"]
    assert names({"one": one, "two": two}) == ["A", "B", "C", "D"]
    assert names({"one": one, "two": two}, ["C"], separate=True) == ["one:C", "two:C"]
    assert names({"one": one, "other": other}, ["C"]) == ["C"], "a model without a chosen track is not predicted"


def test_contrasts_find_their_tracks():
    models = {"base": model(), "lab/tuned": model(("A+", "A-"), (1, 0))}
    contrast = Contrast("x", (Term("lab/tuned:A", 1), Term("base:A", -1), Term("D", 0.5)))
    table = make_table(models, ["C"], [contrast])
    assert [(c.name, c.kind) for c in table.columns] == [("base:C", "track"), ("x", "contrast")]
    (terms,) = table.contrasts
    assert [(e, table.ensembles[e].units[u].rows, w) for e, u, w in terms] == [
        (1, (0, 1), 1), (0, (0, 1), -1), (0, (3, -1), 0.5)
    ]  # fmt: skip
    assert table.ensembles[0].shown == 1 and table.ensembles[1].shown == 0
    assert table.columns[1].description == "+1 lab/tuned:A -1 base:A +0.5 D"


@pytest.mark.parametrize(
    ("term", "options", "message"),
    [
        ("A", {}, "'A' is a track of several models; write MODEL:TRACK with one of one, other"),
        ("one:E", {}, "no model has a track 'one:E'"),
        ("two:C", {}, "one model of an ensemble .one, two .*--separate"),
    ],
)
def test_contrasts_that_are_not_clear_are_refused(term, options, message):
    models = {"one": model(), "two": model(), "other": model(("A+", "A-"), (1, 0))}
    with pytest.raises(InputError, match=message):
        make_table(models, None, [Contrast("x", (Term(term, 1, "c.tsv, line 3"),))], **options)


def test_contrasts_are_read_from_a_table(tmp_path):
    path = tmp_path / "c.tsv"
    path.write_text("name\ttrack\tweight\n# words\nx\tA\t1\n\ny\tB+\t0.5\nx\tm:C\t-1e0\n")
    x, y = read_contrasts(path)
    assert (x.name, [(t.track, t.weight) for t in x.terms]) == ("x", [("A", 1.0), ("m:C", -1.0)])
    assert (y.name, y.terms[0].where) == ("y", f"{path}, line 5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x A 1\n", "line 1: expected name, track and weight separated by tabs"),
        ("x\tA\tone\n", "line 1: weight is 'one'"),
        ("x\tA\tnan\n", "line 1: weight is 'nan'"),
        ("x\tA\t0\n", "line 1: weight is '0'"),
        ("x\tA\t1\nx\tA\t2\n", "line 2: contrast 'x' has track 'A' twice"),
        ("name\ttrack\tweight\n", "no contrast in it"),
    ],
)
def test_malformed_contrasts_are_refused(tmp_path, text, message):
    (tmp_path / "c.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_contrasts(tmp_path / "c.tsv")


def test_columns_of_one_name_are_refused():
    with pytest.raises(InputError, match="2 columns would be called 'C'"):
        make_table({"m": model()}, ["C"], [Contrast("C", (Term("D", 1),))])


@pytest.mark.parametrize(
    ("identifier", "strand"),
    [("X+", "+"), ("X-", "-"), ("X_plus", "+"), ("a.rev", "-"), ("a-Minus", "-"), ("fwd", "?"), ("Xplus", "?"), ("X", "?")],
)
def test_strands_are_told_by_identifiers(identifier, strand):
    assert strand_of(identifier) == strand


def test_pairs_whose_strands_are_not_named_have_no_gene_scores():
    check_strands(make_table({"m": model()}))
    table = make_table({"m": model(("S1", "S2", "C"), (1, 0, 2))})
    with pytest.raises(InputError, match="which of the tracks 'S1' and 'S2' is of the"):
        check_strands(table)
    check_strands(make_table({"m": model(("S1", "S2", "C"), (1, 0, 2))}, ["C"]))


def test_a_gene_is_scored_on_its_own_strand():
    (ensemble,) = make_table({"m": model()}, ["A", "B+", "C"]).ensembles
    assert ensemble.tracks.identifiers == ("A+", "A-", "B+", "C")
    scores = np.array([1.0, 2, 4, 8])
    sed, d2 = GENE_SCORERS["SED"], GENE_SCORERS["D2"]
    np.testing.assert_array_equal(ensemble.of_strand(sed, scores, "+"), [1, 4, 8])
    np.testing.assert_array_equal(ensemble.of_strand(sed, scores, "-"), [2, np.nan, 8])
    np.testing.assert_array_equal(ensemble.of_strand(sed, scores, "."), [3, 4, 8])
    np.testing.assert_allclose(ensemble.of_strand(d2, scores, "."), [5**0.5, 4, 8])
    np.testing.assert_array_equal(ensemble.combined(VARIANT_SCORERS["SUM"], scores), [3, 4, 8])
