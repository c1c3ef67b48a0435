"""Accuracy over bins, genes and contrasts: against scipy, pandas and numbers counted by hand; then a whole evaluation."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.evaluation.contrasts import changes, find_contrasts, read_contrasts
from kipoi_borzoi.evaluation.correlation import Moments, Sample, pearson, ranks, spearman
from kipoi_borzoi.evaluation.evaluate import evaluate
from kipoi_borzoi.evaluation.genes import (
    Column,
    difference_pearson,
    differences,
    exon_bins,
    expression_columns,
    gene_sums,
    place_genes,
    quantile_normalise,
)
from kipoi_borzoi.evaluation.report import summary, write_report
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import Tracks, squash


@dataclass(frozen=True)
class Gene:
    gene_id: str
    chrom: str
    strand: str
    exons: tuple
    name: str = ""


@pytest.fixture
def numbers():
    """Two (500, 4) tables that agree to different degrees, one column with a large mean."""
    random = np.random.default_rng(1)
    y = random.gamma(1.0, 2.0, (500, 4))
    p = np.stack([y[:, 0], y[:, 1] + random.normal(0, 2, 500), random.normal(0, 1, 500), -y[:, 3]], axis=1)
    y[:, 1] += 1e6
    p[:, 1] += 1e6
    return y, p


def test_pearson_and_r2_are_those_of_scipy(numbers):
    y, p = numbers
    expected = [stats.pearsonr(y[:, i], p[:, i]).statistic for i in range(4)]
    np.testing.assert_allclose(pearson(y, p), expected, rtol=1e-9, atol=1e-12)
    moments = Moments(4)
    moments.add(y, p)
    by_hand = 1 - ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(moments.r2(), by_hand, rtol=1e-7)
    assert moments.count == 500


def test_r_and_r2_of_three_numbers():
    y, p = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [2.0]])
    assert pearson(y, p) == pytest.approx(0.5)
    moments = Moments(1)
    moments.add(y, p)
    assert moments.r2() == pytest.approx(0.0)  # squared errors 0 + 1 + 1, spread 2


def test_blocks_give_what_the_whole_gives(numbers):
    y, p = numbers
    whole, blocks = Moments(4), Moments(4)
    whole.add(y, p)
    for start, end in ((0, 1), (1, 1), (1, 130), (130, 500)):
        blocks.add(y[start:end], p[start:end])
    np.testing.assert_allclose(blocks.pearson(), whole.pearson(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(blocks.r2(), whole.r2(), rtol=1e-7)


def test_what_does_not_vary_is_undefined_not_zero():
    y = np.array([[1.0, 2.0, 5.1], [2.0, 2.0, 5.1], [3.0, 2.0, 5.1]])
    p = np.array([[4.0, 1.0, 1.0], [4.0, 2.0, 1.0], [4.0, 3.0, 2.0]])
    moments = Moments(3)
    moments.add(y, p)
    assert np.isnan(moments.pearson()).all() and np.isnan(spearman(y, p)).all()
    assert np.isfinite(moments.r2()[0]) and np.isnan(moments.r2()[1:]).all()
    empty = Moments(2)
    assert np.isnan(empty.pearson()).all() and np.isnan(empty.r2()).all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"shape \(3, 2\).*\(3, 1\)"):
        pearson(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(InputError, match="3 columns, expected 2"):
        Moments(2).add(np.zeros((3, 3)), np.zeros((3, 3)))


def test_ranks_share_ties_as_scipy_does():
    values = np.array([[3.0, 1.0], [1.0, 1.0], [3.0, 0.0], [2.0, 1.0]])
    assert ranks(values)[:, 0].tolist() == [3.5, 1, 3.5, 2]
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values, axis=0))


def test_spearman_is_that_of_scipy(numbers):
    y, p = (np.round(values, 1) for values in numbers)
    expected = [stats.spearmanr(y[:, i], p[:, i]).statistic for i in range(4)]
    np.testing.assert_allclose(spearman(y, p), expected, rtol=1e-9, atol=1e-12)


def test_sample_keeps_everything_that_fits_and_a_fair_choice_of_more():
    values = np.arange(40.0).reshape(20, 2)
    sample = Sample(20, 2)
    sample.add(values[:7], -values[:7])
    sample.add(values[7:], -values[7:])
    assert sorted(sample.measured.tolist()) == values.tolist()
    np.testing.assert_array_equal(sample.predicted, -sample.measured)
    chosen = np.zeros(60)
    for seed in range(400):
        sample = Sample(15, 1, seed)
        for start in range(0, 60, 10):
            block = np.arange(start, start + 10.0)[:, None]
            sample.add(block, 2 * block)
        assert len(sample.measured) == 15 and sample.seen == 60
        np.testing.assert_array_equal(sample.predicted, 2 * sample.measured)
        chosen[sample.measured[:, 0].astype(int)] += 1
    assert abs(chosen - 100).max() < 45  # 400 draws with chance 1/4: standard deviation 8.7


@pytest.mark.parametrize(
    "exons, expected",
    [
        (((100, 164),), [3, 4]),  # round(3.1) to round(5.1)
        (((112, 113),), [4]),  # round(3.5) = 4, at least one bin
        (((96, 128), (120, 160)), [3, 4]),
        (((0, 32), (288, 320)), [0, 9]),
        (((288, 352),), None),  # over the end
        (((-32, 40),), None),
    ],
)
def test_exon_bins_by_hand(exons, expected):
    found = exon_bins(Gene("g", "c", "+", exons), start=0, bins=10, bin_size=32)
    assert (None if found is None else found.tolist()) == expected
    moved = Gene("g", "c", "+", tuple((a + 1000, b + 1000) for a, b in exons))
    found = exon_bins(moved, start=1000, bins=10, bin_size=32)
    assert (None if found is None else found.tolist()) == expected


def make_tracks(names, pairs, sum_stat="sum_sqrt", scale=0.5):
    n = len(names)
    return Tracks(
        list(range(n)), names, [""] * n, [""] * n, [300.0] * n, [20.0] * n, [scale] * n, [sum_stat] * n, pairs
    )  # fmt: skip


NAMES = ["a.control.rep1+", "a.control.rep1-", "a.treated.rep1-", "a.treated.rep1+", "dnase"]
PAIRS = [1, 0, 3, 2, 4]


def test_columns_join_strands_and_know_which_is_which():
    columns = expression_columns(make_tracks(NAMES, PAIRS))
    assert columns == (
        Column("a.control.rep1", 0, 1), Column("a.treated.rep1", 3, 2), Column("dnase", 4, 4),
    )  # fmt: skip
    with pytest.raises(InputError, match="partner"):
        expression_columns(make_tracks(NAMES, PAIRS).select([0, 4]))


def test_a_gene_is_summed_on_the_tracks_of_its_strand():
    coverage = np.array([[10.0, 11, 12, 13, 14], [35, 36, 37, 38, 39]])
    columns = expression_columns(make_tracks(NAMES, PAIRS))
    assert gene_sums(coverage, "+", columns).tolist() == [10 + 35, 13 + 38, 14 + 39]
    assert gene_sums(coverage, "-", columns).tolist() == [11 + 36, 12 + 37, 14 + 39]


def test_genes_go_to_the_window_around_them_and_the_rest_is_counted():
    windows = {3: (Interval("c", 0, 512), "test"), 5: (Interval("c", 256, 768), "valid")}
    genes = [
        Gene("left", "c", "+", ((100, 200),)),
        Gene("between", "c", "-", ((400, 420), (430, 440))),  # middle 420: nearer to the second's 512 than to 256
        Gene("cropped", "c", "+", ((10, 200),)),
        Gene("nowhere", "d", "+", ((100, 200),)),
        Gene("unstranded", "c", ".", ((100, 200),)),
    ]
    placement = place_genes(genes, windows, crop_bp=64, bins=12, bin_size=32)
    assert [(item.gene.gene_id, item.example, item.fold) for item in placement.placed] == [
        ("left", 3, "test"), ("between", 5, "valid"),
    ]  # fmt: skip
    assert placement.placed[0].bins.tolist() == [1, 2, 3]  # (100 - 64) / 32 = 1.1 to (200 - 64) / 32 = 4.25
    assert placement.left_out == {"outside": 2, "no_strand": 1}


def test_quantile_normalisation_by_hand_and_by_pandas():
    values = np.array([[5.0, 4.0, 3.0], [2.0, 1.0, 4.0], [3.0, 4.5, 6.0], [4.0, 2.0, 8.0]])
    expected = np.array(
        [[17.5 / 3, 4.666667, 2.0], [2.0, 2.0, 3.0], [3.0, 17.5 / 3, 4.666667], [4.666667, 3.0, 17.5 / 3]]
    )
    np.testing.assert_allclose(quantile_normalise(values), expected, atol=1e-6)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 4)))
    reference = np.sort(frame.to_numpy(), axis=0).mean(axis=1)
    by_pandas = frame.rank(method="first").astype(int).map(lambda rank: reference[rank - 1])
    np.testing.assert_allclose(quantile_normalise(frame.to_numpy()), by_pandas.to_numpy(), rtol=1e-12)


def test_ties_get_the_value_of_their_mean_rank():
    values = np.array([[0.0, 0.0], [0.0, 2.0], [4.0, 6.0]])  # reference: 0, 1, 5
    assert quantile_normalise(values).tolist() == [[0.5, 0.0], [0.5, 1.0], [5.0, 5.0]]


def test_differences_forget_what_columns_have_in_common():
    random = np.random.default_rng(2)
    shared, own = random.normal(0, 5, (300, 1)), random.normal(0, 1, (300, 3))
    measured = shared + own
    np.testing.assert_allclose(differences(measured).mean(axis=1), 0, atol=1e-12)
    assert (pearson(measured, np.repeat(shared, 3, axis=1) + 0.01 * random.normal(size=(300, 3))) > 0.9).all()
    assert (np.abs(difference_pearson(measured, shared + 0.01 * random.normal(size=(300, 3)))) < 0.2).all()
    assert (difference_pearson(measured, measured + 3.0) > 0.999).all()
    assert np.isnan(difference_pearson(measured[:, :1], measured[:, :1])).all()


CELLS = [
    Column("k562.treated.rep1", 0, 1), Column("k562.treated.rep2", 2, 3), Column("k562.control.rep1", 4, 5),
    Column("hela_treated", 6, 7), Column("hela_control", 8, 9), Column("other", 10, 11),
]  # fmt: skip


def test_contrasts_pair_what_agrees_in_all_other_words():
    found = find_contrasts("treated-control", CELLS)
    assert [(c.name, c.treated, c.control) for c in found] == [
        ("k562.treated-control", (0, 1), (2,)), ("hela.treated-control", (3,), (4,)),
    ]  # fmt: skip
    log2 = np.array([[5.0, 7.0, 2.0, 1.0, 3.0, 0.0]])
    assert changes(log2, found).tolist() == [[4.0, -2.0]]


@pytest.mark.parametrize(
    "text, said",
    [
        ("treated", "two different words"),
        ("treated-treated", "two different words"),
        ("dosed-control", "no track has the word 'dosed'"),
        ("k562-control", "other words agree"),
    ],
)
def test_contrasts_that_mean_nothing_are_refused(text, said):
    with pytest.raises(InputError, match=said):
        find_contrasts(text, CELLS)


def test_contrasts_from_a_table(tmp_path):
    tracks = make_tracks(NAMES, PAIRS)
    columns = expression_columns(tracks)
    path = tmp_path / "contrasts.tsv"
    head = "contrast\tdriver\ttreated_tracks\tcontrol_tracks\n"
    path.write_text(head + "one\tf1\ta.treated.rep1+,a.treated.rep1-\ta.control.rep1+\nelse\tf2\tx+\ty+\n")
    (contrast,) = read_contrasts(path, tracks, columns)
    assert (contrast.name, contrast.treated, contrast.control) == ("one", (1,), (0,))
    for text, said in (
        ("contrast\ttreated_tracks\n", "no column 'control_tracks'"),
        (head + "one\tf\ta.treated.rep1+,b\tdnase\n", "line 2: track 'b'"),
        (head + "one\tf\tdnase\tdnase\n", "line 2: a track stands on both sides"),
        (head + "one\tf\tx\ty\n", "no contrast in it names tracks"),
        (head + "one\tf\tdnase\n", "line 2: 3 fields"),
        (head + "one\tf\tdnase\t\n", "line 2: a side of the contrast names no track"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_contrasts(path, tracks, columns)


class FakeStore:
    """Random coverage in four windows of 512 bp, 12 bins of 32 bp; its tracks in another order than the model's."""

    seq_length, crop_bp, bin_size, bins, transform = 512, 64, 32, 12, "new"

    def __init__(self, folds=("train", "test", "test", "valid")):
        order = [4, 1, 0, 3, 2]
        names = [NAMES[i] for i in order]
        pairs = [order.index(PAIRS[i]) for i in order]
        self.tracks, self.folds = make_tracks(names, pairs), tuple(sorted(set(folds)))
        self._folds = folds
        random = np.random.default_rng(4)
        self.coverage = random.gamma(0.5, 300, (4, 12, 5))
        self._targets = squash(self.coverage, self.tracks, "new").astype(np.float16)

    def indices(self, fold):
        return np.flatnonzero(np.array(self._folds) == fold)

    def interval(self, i):
        return Interval("c", 512 * int(i), 512 * int(i) + 512)

    def fold(self, i):
        return self._folds[i]

    def sequence(self, i, dtype):
        x = np.zeros((512, 4), dtype=dtype)
        x[:, i] = 1  # so that the model can tell the windows apart
        return x

    def targets(self, i):
        return self._targets[i]


class FakeModel:
    """Predicts a store's own targets, off by ``noise``."""

    view, transform = "coverage", "new"

    @dataclass
    class config:
        seq_length = 512
        bin_size = 32

    def __init__(self, store, noise=0.0):
        self.tracks = make_tracks(NAMES, PAIRS)
        self._rows = [store.tracks.identifiers.index(name) for name in NAMES]
        self._targets = store._targets.astype(np.float32)
        self._noise = np.random.default_rng(5).normal(0, noise, self._targets.shape).astype(np.float32) if noise else 0

    def predict_on_batch(self, x, crop, rc):
        assert crop == 2 and x.dtype == bool
        windows = x[:, 0].argmax(axis=1)
        return np.maximum(self._targets + self._noise, 0)[windows][:, :, self._rows]


GENES = [
    Gene("g1", "c", "+", ((600, 700), (750, 800))), Gene("g2", "c", "-", ((830, 900),)),
    Gene("g3", "c", "+", ((1100, 1200),)), Gene("g4", "c", "-", ((1300, 1400),)), Gene("train", "c", "+", ((100, 200),)),
]  # fmt: skip


def contrasts(tracks, columns):
    return find_contrasts("treated-control", columns)


def test_a_perfect_model_is_perfect_and_order_of_tracks_does_not_matter():
    store = FakeStore()
    result = evaluate(FakeModel(store), store, "test", GENES, contrasts, batch=1)
    assert result.windows == 2 and result.track_accuracy.bins == 24 and result.track_accuracy.folds == ("test",)
    for values in (result.track_accuracy.pearson, result.track_accuracy.r2, result.track_accuracy.spearman):
        np.testing.assert_allclose(values, 1, atol=1e-6)
    genes = result.gene_accuracy
    assert [item.gene.gene_id for item in genes.placement.placed] == ["g1", "g2", "g3", "g4"]
    assert genes.placement.left_out == {"outside": 1} and {item.fold for item in genes.placement.placed} == {"test"}
    for values in (genes.pearson, genes.difference_pearson, genes.change_pearson):
        np.testing.assert_allclose(values, 1, atol=1e-9)
    # g1 by hand: + strand, exons 600-700 and 750-800 of window 1 whose bins start at 576.
    bins = [*range(round(24 / 32), round(124 / 32)), *range(round(174 / 32), round(224 / 32))]
    track = store.tracks.identifiers.index("a.treated.rep1+")
    by_hand = np.log2(1 + 0.5 * store.coverage[1, bins, track].sum())
    assert genes.measured[0, 1] == pytest.approx(by_hand, rel=2e-3)  # targets are float16


def test_an_imperfect_model_by_plain_numpy():
    store = FakeStore()
    model = FakeModel(store, noise=2.0)
    result = evaluate(model, store, "test", batch=3)
    measured = store._targets[1:3][:, :, model._rows].astype(float).reshape(-1, 5)
    predicted = np.maximum(model._targets + model._noise, 0)[1:3][:, :, model._rows].reshape(-1, 5)
    for track in range(5):
        r = np.corrcoef(measured[:, track], predicted[:, track])[0, 1]
        assert result.track_accuracy.pearson[track] == pytest.approx(r, rel=1e-6) and r < 0.99
        rho = stats.spearmanr(measured[:, track], predicted[:, track]).statistic
        assert result.track_accuracy.spearman[track] == pytest.approx(rho, rel=1e-6)
    assert result.gene_accuracy is None


def altered(thing, **changes):
    for name, value in changes.items():
        setattr(thing, name, value)
    return thing


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda m, s: altered(m, view="sum"), "view is 'sum'"),
        (lambda m, s: altered(m, transform="old"), "transform 'old'"),
        (lambda m, s: altered(s, seq_length=1024), "window is 512 bp, the store's 1024"),
        (lambda m, s: altered(s, bin_size=16), "bin is 32 bp, the store's 16"),
        (lambda m, s: altered(m, tracks=make_tracks(["x", *NAMES[1:]], PAIRS)), "not in the store, the first is 'x'"),
        (lambda m, s: altered(m, tracks=make_tracks(NAMES, PAIRS, scale=0.1)), "scale is 0.1 in the model and 0.5"),
        (lambda m, s: altered(m, tracks=make_tracks(NAMES, PAIRS, "sum")), "differ in sum_stat"),
        (lambda m, s: altered(m, _targets=np.full_like(m._targets, np.nan)), "not finite"),
    ],
)
def test_model_and_store_that_do_not_fit_are_refused(change, said):
    store = FakeStore()
    model = FakeModel(store)
    change(model, store)
    with pytest.raises(InputError, match=said):
        evaluate(model, store, "test")


def test_genes_of_another_naming_are_refused():
    store = FakeStore()
    genes = [Gene("g", "chrC", "+", ((600, 700),))]
    with pytest.raises(InputError, match="none of 1 genes.*chrC.*of the store: c"):
        evaluate(FakeModel(store), store, "test", genes)


@pytest.mark.parametrize(
    "fold, base, said",
    [
        ("fold0", "Borzoi/human/rep0", "trained on fold0"),
        ("fold3", "Borzoi/human/rep0", None),
        ("fold4", "Borzoi/human/ensemble", "stopped by its loss on fold4"),
        ("test", "Borzoi/human/rep0", "does not say"),
        ("fold0", "lab/own", None),
        ("test", "BorzoiDemo/base", None),
    ],
)
def test_folds_that_the_released_networks_know_are_warned_of(fold, base, said):
    store = FakeStore((fold, fold, "train", "train"))
    warnings = evaluate(FakeModel(store), store, fold, base=base).warnings
    assert (said is None and not warnings) or (len(warnings) == 1 and said in warnings[0])


def test_report_is_whole_and_says_the_fold_in_every_row(tmp_path):
    store = FakeStore()
    result = evaluate(FakeModel(store, noise=1.0), store, "test", GENES, contrasts)
    written = write_report(tmp_path / "out", result, {"model": "lab/mine"})
    assert sorted(path.name for path in written) == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in ("tracks.tsv", "genes.tsv", "gene_expression.tsv", "contrasts.tsv", "gene_changes.tsv"):
        frame = pd.read_csv(tmp_path / "out" / name, sep="\t")
        assert len(frame) and (frame["fold"] == "test").all()
    frame = pd.read_csv(tmp_path / "out/gene_expression.tsv", sep="\t")
    assert len(frame) == 4 * 3
    wide = frame.pivot(index="gene_id", columns="column", values=["measured", "predicted"])
    r = np.corrcoef(wide["measured"]["dnase"], wide["predicted"]["dnase"])[0, 1]
    figures = json.loads((tmp_path / "out/summary.json").read_text())
    assert figures == json.loads(json.dumps(summary(result, {"model": "lab/mine"})))
    table = pd.read_csv(tmp_path / "out/genes.tsv", sep="\t").set_index("name")
    assert table.loc["dnase", "pearson"] == pytest.approx(r, rel=1e-4)
    text = (tmp_path / "out/summary.txt").read_text()
    assert "lab/mine" in text and "a.treated-control" in text and "1 genes left out" in text
    for picture in ("tracks.png", "genes.png", "changes.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


def test_undefined_figures_are_na_and_null(tmp_path):
    store = FakeStore()
    model = FakeModel(store)
    model._targets = np.zeros_like(model._targets)
    write_report(tmp_path, evaluate(model, store, "test"), {}, pictures=False)
    assert json.loads((tmp_path / "summary.json").read_text())["track_pearson"]["mean"] is None
    assert "NA" in (tmp_path / "tracks.tsv").read_text() and not list(tmp_path.glob("*.png"))


def test_a_new_evaluation_takes_the_old_ones_files_away(tmp_path):
    store = FakeStore()
    write_report(tmp_path, evaluate(FakeModel(store, noise=1.0), store, "test", GENES, contrasts), {})
    write_report(tmp_path, evaluate(FakeModel(store, noise=1.0), store, "test"), {}, pictures=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.json", "summary.txt", "tracks.tsv"]


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    store = FakeStore()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "out", evaluate(FakeModel(store), store, "test"), {})
