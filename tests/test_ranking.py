"""Drivers: the statistic by hand, its permutation test, and tables of differential expression."""

import itertools

import numpy as np
import pytest
from genome_files import random_sequence

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.de_genes import read_de_genes
from kipoi_borzoi.interpret.pwm import Hit, Motif
from kipoi_borzoi.interpret.ranking import concordance, hit_contribution, rank_drivers, score_motifs


def codes_of(text):
    return np.array(["ACGTN".index(letter) for letter in text], np.uint8)


def test_concordance_by_hand():
    scores = np.array([[4.0], [2.0], [-3.0], [1.0], [0.0]])
    direction = np.array([1, 1, -1, 0, 0])
    expected = (2 * (3 - 0.5) - 1 * (-3 - 0.5)) / 3
    assert concordance(scores, direction)[0] == pytest.approx(expected)
    assert concordance(scores, np.stack([direction, direction]))[1, 0] == pytest.approx(expected)


def test_scores_are_information_weighted_sums_over_hits():
    motif = Motif("m", [[0.97, 0.01, 0.01, 0.01], [0.25] * 4, [0.01, 0.01, 0.97, 0.01], [0.1, 0.6, 0.2, 0.1]])
    weights = motif.information / motif.information.max()
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert hit_contribution(motif, Hit(1, 5, "+", 0), values) == pytest.approx((values[1:] * weights).sum())
    assert hit_contribution(motif, Hit(1, 5, "-", 0), values) == pytest.approx((values[1:] * weights[::-1]).sum())
    word = Motif.of_sequence("TGACTCAG")
    text = random_sequence(40, 1) + "TGACTCAG" + random_sequence(20, 2) + "CTGAGTCA" + random_sequence(10, 3)
    contributions = np.random.default_rng(0).normal(size=len(text))
    scores, counts = score_motifs([word, motif], [codes_of(text)], [contributions])
    assert counts[0, 0] == 2 and scores[0, 0] == pytest.approx(contributions[40:48].sum() + contributions[68:76].sum())
    none = score_motifs([word], [codes_of("A" * 30)], [np.ones(30)])
    assert none[0][0, 0] == 0 and none[1][0, 0] == 0


def made_up(seed, genes=60, motifs=6):
    """Scores that have nothing to do with the observed direction."""
    random = np.random.default_rng(seed)
    direction = np.array([1] * 15 + [-1] * 5 + [0] * (genes - 20))
    scores = random.normal(0, 1, (genes, motifs))
    return scores, np.ones(scores.shape, np.int64), direction


@pytest.mark.parametrize("sign", [1, -1])
def test_the_driver_is_ranked_first_with_its_sign(sign):
    direction = np.array([sign] * 15 + [0] * 40)
    random = np.random.default_rng(1)
    scores = random.normal(0, 1, (55, 8))
    scores[:15, 5] += 2.0 * sign
    names = [f"m{number}" for number in range(8)]
    ranked = rank_drivers(names, scores, np.ones((55, 8), int), direction, 999)
    assert ranked[0].motif == "m5" and np.sign(ranked[0].effect) == sign and ranked[0].concordance > 1
    assert ranked[0].p == 0.001 and ranked[0].p_adjusted <= 0.002 and ranked[1].p_adjusted > 0.05
    assert ranked[0].effect == pytest.approx(scores[:15, 5].mean())
    assert [driver.z for driver in ranked] == sorted((driver.z for driver in ranked), reverse=True)


def test_p_values_are_uniform_when_nothing_drives():
    values = []
    for seed in range(60):
        values += [driver.p for driver in rank_drivers(list("abcdef"), *made_up(seed), permutations=199, seed=seed)]
    values = np.array(values)
    assert 0.4 < values.mean() < 0.6 and 0.02 < (values <= 0.1).mean() < 0.18
    adjusted = [
        min(d.p_adjusted for d in rank_drivers(list("abcdef"), *made_up(s), permutations=199, seed=s))
        for s in range(60)
    ]
    assert np.mean(np.array(adjusted) <= 0.1) <= 0.25


def test_p_values_equal_counting_all_permutations():
    random = np.random.default_rng(3)
    scores = random.normal(0, 1, (10, 1))
    scores[:5] += 0.8
    direction = np.array([1] * 5 + [0] * 5)
    observed = concordance(scores, direction)[0]
    every = [
        concordance(scores, np.isin(np.arange(10), chosen).astype(int))[0]
        for chosen in itertools.combinations(range(10), 5)
    ]
    exact = np.mean(np.array(every) >= observed - 1e-12)
    (driver,) = rank_drivers(["m"], scores, np.ones((10, 1), int), direction, 9999)
    assert driver.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999) + 1e-4)


def test_motifs_without_hits_are_last_and_not_significant():
    scores, counts, direction = made_up(0)
    scores[:, 1] = counts[:, 1] = 0
    ranked = {driver.motif: driver for driver in rank_drivers(list("abcdef"), scores, counts, direction, 99)}
    assert (ranked["b"].p, ranked["b"].p_adjusted, ranked["b"].z) == (1, 1, 0) and np.isnan(ranked["b"].effect)


def test_too_few_genes_are_refused():
    scores, counts, direction = made_up(0)
    with pytest.raises(InputError, match="0 changed and 60 unchanged genes"):
        rank_drivers(list("abcdef"), scores, counts, np.zeros(60, int))
    with pytest.raises(InputError, match="4 unchanged genes"):
        rank_drivers(list("abcdef"), scores[:24], counts[:24], direction[:24])
    with pytest.raises(InputError, match="permutations is 10"):
        rank_drivers(list("abcdef"), scores, counts, direction, 10)


DESEQ = '"","baseMean","log2FoldChange","padj"\n"G1",10,2.5,0.001\n"G2",9,-1.5,0.04\n"G3",8,0.1,0.9\n"G4",1,NA,NA\n"G5",5,1.4,0.3\n"G6",5,0.7,0.01\n'


@pytest.mark.parametrize(
    "text",
    [
        DESEQ,
        DESEQ.replace(",", "\t").replace('"', ""),
        DESEQ.replace('"",', "").replace(",", "\t"),  # R's write.table: no name above the row names
        DESEQ.replace('""', '"gene_id"').replace("log2FoldChange", "logFC").replace("padj", "FDR"),
    ],
)
def test_tables_of_common_programs_are_read(tmp_path, text):
    path = tmp_path / "de.csv"
    path.write_text(text)
    table = read_de_genes(path)
    assert table.genes == ("G1", "G2", "G3", "G5", "G6") and table.untested == 1
    direction, unchanged = table.direction(1.0, 0.05)
    assert direction.tolist() == [1, -1, 0, 0, 0] and unchanged.tolist() == [False, False, True, False, False]


def test_columns_may_be_named_and_p_values_absent(tmp_path):
    path = tmp_path / "de.tsv"
    path.write_text("gene_id\tfold\tA-B\nG1\ttest\t2\nG2\ttest\t0.2\nG3\ttrain\t0.7\n")
    table = read_de_genes(path, change_column="A-B")
    assert table.adjusted is None
    direction, unchanged = table.direction(1.0, 0.05)
    assert direction.tolist() == [1, 0, 0] and unchanged.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("", {}, "empty|no genes"),
        ("gene\tlogFC\n", {}, "no genes in it"),
        ("gene\tx\nG\t1\n", {}, "no column of log2 fold changes"),
        ("gene\tx\nG\t1\n", {"change_column": "y"}, "no column 'y'; the columns are gene, x"),
        ("gene\tlogFC\nG\tone\n", {}, "line 2: logFC is 'one'"),
        ("gene\tlogFC\nG\tinf\n", {}, "line 2: logFC is 'inf'"),
        ("gene\tlogFC\nG\t1\nG\t2\n", {}, "line 3: gene 'G' is there twice"),
        ("gene\tlogFC\tp\nG\t1\n", {}, "line 2: 2 columns, but the header has 3"),
        ("gene\tlogFC\n \t1\n", {}, "line 2: the gene is empty"),
        ("gene\tlogFC\nG\tNA\n", {}, "change of every gene is missing"),
    ],
)
def test_bad_tables_are_named_with_their_line(tmp_path, text, options, message):
    path = tmp_path / "de.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_de_genes(path, **options)
