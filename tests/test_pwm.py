"""Motifs: read, found, counted and compared, against plain loops and published rules."""

import itertools
import math

import numpy as np
import pytest
from genome_files import random_sequence, reverse_complement_text

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.motif_edits import insertion, knock_outs
from kipoi_borzoi.interpret.pwm import Motif, closest, find_hits, read_meme, similarity
from kipoi_borzoi.sequence import one_hot

MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0001.1 one
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
 0.97 0.01 0.01 0.01
 0.01 0.97 0.01 0.01
 0.25 0.25 0.25 0.25
URL http://example.org

MOTIF two
letter-probability matrix: alength= 4 w= 1
0.1 0.2 0.3 0.4
"""


def codes_of(text):
    return np.array(["ACGTN".index(letter) for letter in text], np.uint8)


def random_motif(width, seed):
    return Motif("random", np.random.default_rng(seed).dirichlet([0.3] * 4, width))


def test_a_meme_file_is_read(tmp_path):
    path = tmp_path / "m.meme"
    path.write_text(MEME)
    one, two = read_meme(path)
    assert (one.name, two.name, len(one), len(two)) == ("MA0001.1 one", "two", 3, 1)
    np.testing.assert_allclose(one.probabilities[0], [0.97, 0.01, 0.01, 0.01])
    np.testing.assert_allclose(two.probabilities, [[0.1, 0.2, 0.3, 0.4]])
    assert one.consensus == "ACA"
    assert one.information[2] == 0 and one.information[0] == pytest.approx(
        2 + 0.97 * math.log2(0.97) + 0.03 * math.log2(0.01)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (("MEME version 4", "motifs"), "line 1: not a MEME file"),
        (("ALPHABET= ACGT", "ALPHABET= ACDEFGHIKLMNPQRSTVWY"), "line 3: the alphabet is 'ACDE"),
        (("w= 3", "w= 5"), "line 10: motif 'MA0001.1 one' has 3 rows, its header says 5: is the file cut"),
        ((" 0.01 0.97 0.01 0.01\n", " 0.01 0.97 0.01\n"), "line 13: motif 'MA0001.1 one': expected four probabilities"),
        ((" 0.01 0.97 0.01 0.01\n", " 0.01 x 0.01 0.01\n"), "line 13: motif"),
        (("0.1 0.2 0.3 0.4", "0.1 0.2 0.3 0.9"), "line 19: motif 'two': expected four"),
        (("0.1 0.2 0.3 0.4\n", ""), "motif 'two' has 0 rows, its header says 1"),
        (("MOTIF two", "MOTIF MA0001.1 one"), "line 17: motif 'MA0001.1 one' is there twice"),
        (("MOTIF two", "MOTIF"), "line 17: a motif without a name"),
        (("alength= 4 w= 1", "alength= 20 w= 1"), "20 letters, expected 4"),
        ((MEME[MEME.index("MOTIF MA") :], ""), "no motif in it"),
        (
            ("letter-probability matrix: alength= 4 w= 1\n0.1 0.2 0.3 0.4\n", ""),
            "motif 'two' has no 'letter-probability matrix'",
        ),
    ],
)
def test_malformed_meme_files_are_named_with_their_line(tmp_path, change, message):
    path = tmp_path / "m.meme"
    assert change[0] in MEME
    path.write_text(MEME.replace(*change))
    with pytest.raises(InputError, match=message) as caught:
        read_meme(path)
    assert str(path) in str(caught.value)


def test_files_that_hold_no_text_are_refused(tmp_path):
    (tmp_path / "empty").write_text("")
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InputError, match=path.name):
            read_meme(path)


def test_the_threshold_counts_all_sequences():
    motif = random_motif(6, seed=1)
    scores = sorted(
        sum(motif.scores[i, b] for i, b in enumerate(word)) for word in itertools.product(range(4), repeat=6)
    )
    scores = np.array(scores)
    for p_value in (1e-3, 0.01, 0.2):
        threshold = motif.threshold(p_value)
        assert (scores >= threshold).mean() <= p_value < (scores >= threshold - 1).mean() + 1 / 4096
        assert (scores >= scores[scores < threshold].max()).mean() > p_value
    assert motif.threshold(1e-9) == scores.max()


def test_hits_on_both_strands_equal_a_plain_loop():
    motif, text = random_motif(7, seed=2), random_sequence(3000, seed=3, letters="ACGTACGTACGTN")
    threshold, found = motif.threshold(1e-3), {}
    for start in range(len(text) - 6):
        word = text[start : start + 7]
        for strand, letters in (("+", word), ("-", reverse_complement_text(word))):
            if "N" not in word:
                score = sum(int(motif.scores[i, "ACGT".index(letter)]) for i, letter in enumerate(letters))
                if score >= threshold and score > found.get(start, ("", -1))[1]:
                    found[start] = (strand, score)
    hits = find_hits(motif, codes_of(text), 1e-3)
    assert {hit.start: (hit.strand, round(100 * hit.score)) for hit in hits} == found and len(found) > 2
    assert all(hit.end == hit.start + 7 for hit in hits)
    assert find_hits(motif, codes_of("ACG")) == []


def test_similarity_finds_offset_and_strand():
    motif = random_motif(10, seed=4)
    assert similarity(motif, motif) == (pytest.approx(1), 0, "+")
    value, offset, strand = similarity(motif, motif.reverse_complement)
    assert (value, offset, strand) == (pytest.approx(1), 0, "-")
    part = Motif("part", motif.probabilities[3:9])
    value, offset, strand = similarity(motif, part)
    a, b = motif.probabilities - 0.25, part.probabilities - 0.25
    assert (offset, strand) == (3, "+") and value == pytest.approx(np.sqrt((b**2).sum() / (a**2).sum()))
    others = [random_motif(10, seed) for seed in (5, 6)]
    assert closest(motif, [*others, part])[0] is part and closest(motif, []) == (None, 0.0)
    assert max(similarity(motif, other)[0] for other in others) < 0.75
    assert similarity(motif, Motif("flat", np.full((4, 4), 0.25)))[0] == 0


def test_insertions_and_knock_outs():
    motif = Motif.of_sequence("TGACTCA")
    x = one_hot(random_sequence(60, seed=7))
    assert (insertion(motif, 10).applied(x)[10:17] == one_hot("TGACTCA")).all()
    assert (insertion(motif, 10, "-").applied(x)[10:17] == one_hot("TGAGTCA")).all()
    x = insertion(motif, 30).applied(x)
    edits = knock_outs(x, motif, 30, 4, np.random.default_rng(0), 1e-3)
    assert len(edits) == 4
    for edit in edits:
        altered = edit.applied(x)
        assert (altered[:30] == x[:30]).all() and (altered[37:] == x[37:]).all() and (altered.sum(1) == 1).all()
        assert not [
            hit for hit in find_hits(motif, altered.argmax(1).astype(np.uint8), 1e-3) if hit.end > 30 and hit.start < 37
        ]
    with pytest.raises(InputError, match="cannot be knocked out"):
        knock_outs(x, Motif("flat", np.full((3, 4), 0.25)), 5, 1, np.random.default_rng(0))
    with pytest.raises(InputError, match="no sequence of A, C, G and T"):
        Motif.of_sequence("ACN")
