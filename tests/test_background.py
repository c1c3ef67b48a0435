"""Quantiles are places in the background, as their definition counts them."""

import numpy as np
import pytest
from score_tables import COLUMNS, GENE_SCORERS, KEY, PROVENANCE, SCORERS, Scorer, allele, chunks_from, make_chunk

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.background import Distribution, build_background, load_background, ranks
from kipoi_borzoi.variants.results import SCORED, Chunk, Column, Measures

SIGNED, UNSIGNED = Scorer("SUM"), Scorer("D2", signed=False)


def chunk_of(values, scorer="SUM"):
    """Scored alleles with given scores (rows, columns)."""
    rows = tuple(allele(0).__class__(i, "chr1", i + 1, "A", "C", padded=0.0) for i in range(len(values)))
    return Chunk(rows, {scorer: Measures(np.asarray(values, np.float32))})


def built(path, values, scorer, names=None, cuts=7, **options):
    values = np.asarray(values, np.float32)
    columns = tuple(Column(name) for name in names or [f"t{i}" for i in range(values.shape[1])])
    chunks = [chunk_of(values[i : i + cuts], scorer.name) for i in range(0, len(values), cuts)]
    build_background(chunks, path, columns, [scorer], [], PROVENANCE, KEY, **options)
    return load_background(path, KEY, columns, [scorer])


def by_definition(background, x):
    """(number below + half of the number equal) / n, one by one."""
    return sum((1.0 if b < x else 0.5 if b == x else 0.0) for b in background) / len(background)


def test_quantiles_countable_by_hand(tmp_path):
    unsigned = built(tmp_path / "u.h5", [[1], [2], [2], [4]], UNSIGNED).scores["D2"]
    found = unsigned.quantiles(np.array([[0.5], [1], [2], [3], [4], [9], [np.nan]], np.float32))[:, 0]
    # 1 is above half of itself: 1/8. 2 twice: (1 + 2/2) / 4. 3 halfway between 2 (level 5/8) and 4 (7/8).
    np.testing.assert_allclose(found, [0, 0.125, 0.5, 0.75, 0.875, 1, np.nan])
    signed = built(tmp_path / "s.h5", [[1], [-2], [2], [-4]], SIGNED).scores["SUM"]
    found = signed.quantiles(np.array([[-9], [-4], [-2], [0], [2], [1], [9]], np.float32))[:, 0]
    np.testing.assert_allclose(found, [-1, -0.875, -0.5, 0, 0.5, 0.125, 1])


@pytest.mark.parametrize("n", [1, 2, 30, 741])
def test_small_backgrounds_are_exact(tmp_path, n):
    rng = np.random.default_rng(n)
    values = rng.integers(0, 12, (n, 4)).astype(np.float32)
    values[:, 3] = rng.normal(size=n)
    found = built(tmp_path / "b.h5", values, UNSIGNED).scores["D2"].quantiles(values)
    for column in range(4):
        wanted = [by_definition(values[:, column], x) for x in values[:, column]]
        np.testing.assert_allclose(found[:, column], wanted, atol=1e-6)


@pytest.mark.parametrize("n", [742, 5000])
def test_large_backgrounds_err_by_less_than_their_grid(tmp_path, n):
    rng = np.random.default_rng(0)
    values = np.stack([rng.exponential(size=n), rng.integers(0, 40, n), rng.normal(size=n)], axis=1).astype(np.float32)
    background = built(tmp_path / "b.h5", values, SIGNED, cuts=1000).scores["SUM"]
    assert background.values.shape[1] < min(n, 742)
    x = np.concatenate([values[:300], np.abs(rng.normal(size=(300, 3)) * 3)]).astype(np.float32)
    found = background.quantiles(x)
    for column in range(3):
        wanted = np.array([by_definition(np.abs(values[:, column]), abs(v)) for v in x[:, column]])
        wanted[x[:, column] == 0] = 0  # it has no sign
        error = np.abs(np.abs(found[:, column]) - wanted)
        allowed = np.select([wanted < 0.9, wanted < 0.99], [0.0025, 0.0005], 0.00005) + 1.5 / n
        assert (error <= allowed).all(), (column, error.max())
        assert (np.sign(found[:, column]) * np.sign(x[:, column]) >= 0).all()


def test_quantiles_grow_with_scores(tmp_path):
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=(3000, 1)), 2)
    background = built(tmp_path / "b.h5", values, SIGNED).scores["SUM"]
    found = background.quantiles(np.sort(rng.normal(size=(2000, 1)).astype(np.float32), axis=0))[:, 0]
    assert (np.diff(found) >= 0).all() and found[0] < -0.9 < 0.9 < found[-1]


def test_kept_ranks_lie_as_close_as_stated():
    for n in (742, 10_000, 1_000_000):
        kept = ranks(n)
        assert kept[0] == 0 and kept[-1] == n - 1 and (np.diff(kept) > 0).all() and len(kept) <= 741
        level = kept[:-1] / (n - 1)
        allowed = np.select([level < 0.9, level < 0.99], [0.0025, 0.0005], 0.00005) * (n - 1)
        assert (np.diff(kept) <= np.ceil(allowed) + 1).all()
    assert len(ranks(0)) == 0 and ranks(741).tolist() == list(range(741))


def test_missing_scores_of_some_tracks_do_not_count(tmp_path):
    values = np.array([[1, np.nan, np.nan], [2, 5, np.nan], [3, np.nan, np.nan]])
    background = built(tmp_path / "b.h5", values, UNSIGNED).scores["D2"]
    assert background.count.tolist() == [3, 1, 0]
    found = background.quantiles(np.array([[2, 5, 1], [9, 4, 1], [2.5, 6, np.nan]], np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.5, np.nan], [1, 0, np.nan], [4 / 6, 1, np.nan]], atol=1e-7)


def test_chunks_of_alleles_and_genes_get_their_quantiles(tmp_path):
    summary = build_background(
        chunks_from(200)(0, 200), tmp_path / "b.h5", COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY
    )
    assert (summary.alleles, summary.scored) == (200, sum(allele(n).status == SCORED for n in range(200)))
    background = load_background(tmp_path / "b.h5", KEY, COLUMNS[::-1], SCORERS, GENE_SCORERS)
    whole, chunk = make_chunk(0, 200), make_chunk(20, 60, columns=COLUMNS)
    turned = chunk.__class__(
        chunk.alleles,
        {name: Measures(m.mean[:, ::-1]) for name, m in chunk.scores.items()},
        chunk.genes,
        {name: Measures(m.mean[:, ::-1]) for name, m in chunk.gene_scores.items()},
    )
    found = background.add_quantiles(turned)
    for kind, scorers in (("scores", SCORERS), ("gene_scores", GENE_SCORERS)):
        for scorer in scorers:
            values = getattr(whole, kind)[scorer.name].mean
            values = values[~np.isnan(values).any(axis=1)]
            measures = getattr(found, kind)[scorer.name]
            np.testing.assert_array_equal(measures.mean, getattr(turned, kind)[scorer.name].mean)
            for column in range(3):
                pool = np.abs(values[:, 2 - column]) if scorer.signed else values[:, 2 - column]
                for x, quantile in zip(measures.mean[:, column], measures.quantile[:, column], strict=True):
                    if np.isnan(x):
                        assert np.isnan(quantile)
                    elif scorer.signed:
                        assert quantile == pytest.approx(np.sign(x) * by_definition(pool, abs(x)), abs=1e-6)
                    else:
                        assert quantile == pytest.approx(by_definition(pool, x), abs=1e-6)


def test_equal_whatever_the_chunks_and_the_memory_allowed(tmp_path, monkeypatch):
    for name, size in (("a.h5", 1), ("b.h5", 50)):
        if name == "b.h5":
            monkeypatch.setattr("kipoi_borzoi.variants.background._SORT_BYTES", 1)
        build_background(chunks_from(90, size)(0, 90), tmp_path / name, COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_background_of_another_model_is_refused(tmp_path):
    built(tmp_path / "b.h5", [[1.0, 2.0]], SIGNED, names=["liver", "brain"])
    columns = (Column("liver"), Column("heart"))
    with pytest.raises(InputError, match='of another model or of other options: version was "0.1", is "9"; build one'):
        load_background(tmp_path / "b.h5", "other", columns, [SIGNED], provenance={**PROVENANCE, "version": "9"})
    with pytest.raises(InputError, match=r"has no track 'heart' \(1 of 2 are absent\); it has liver, brain"):
        load_background(tmp_path / "b.h5", KEY, columns, [SIGNED])
    with pytest.raises(InputError, match="has no scorer 'D2'"):
        load_background(tmp_path / "b.h5", KEY, columns[:1], [SIGNED, UNSIGNED])
    with pytest.raises(InputError, match="has no gene scorer 'SUM'"):
        load_background(tmp_path / "b.h5", KEY, columns[:1], [SIGNED], [SIGNED])
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="the file is truncated or damaged .* expected a file that `kipoi-borzoi background` has written"):
        load_background(tmp_path / "text.h5", KEY, columns)


def test_no_background_without_scores_and_none_replaced_unasked(tmp_path):
    columns = (Column("t"),)
    with pytest.raises(InputError, match="no background: 0 alleles"):
        build_background([], tmp_path / "b.h5", columns, [SIGNED], [], PROVENANCE, KEY)
    assert list(tmp_path.iterdir()) == []
    built(tmp_path / "b.h5", [[1.0]], SIGNED)
    with pytest.raises(InputError, match="exists; give --force"):
        built(tmp_path / "b.h5", [[1.0]], SIGNED)
    built(tmp_path / "b.h5", [[1.0]], SIGNED, force=True)


def test_distributions_of_infinite_scores_stay_in_bounds():
    background = Distribution(False, np.array([2]), np.array([[1, np.inf]], np.float32))
    assert background.quantiles(np.array([[5], [np.inf], [0]], np.float32))[:, 0].tolist() == [0.25, 0.75, 0.0]
