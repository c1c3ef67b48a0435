"""Scores of every kind of allele equal those of a plain, slow implementation; chunks keep the input's order."""

import numpy as np
import pytest
from plain_scores import Plain, centre, haplotype
from variant_cases import PAIRS, NumpyReference, make_tracks, numpy_model, small_genome, write_vcf

from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.dataloaders.vcf import VcfReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.alleles import AlleleSource, Genome
from kipoi_borzoi.variants.columns import Contrast, Term, make_table
from kipoi_borzoi.variants.engine import CLUSTER_FRACTION, Engine
from kipoi_borzoi.variants.genes import GeneSet
from kipoi_borzoi.variants.options import Options
from kipoi_borzoi.variants.scores import GENE_SCORERS, VARIANT_SCORERS, choose

NUMBERS = [name for name, scorer in VARIANT_SCORERS.items() if not scorer.is_profile]
# Predictions are float64, results float32: relative rounding of 6e-8, on scores that are differences of sums.
CLOSE = {"rtol": 2e-6, "atol": 1e-9}


@pytest.fixture(autouse=True)
def numpy_networks(monkeypatch):
    """Predictions of a network in NumPy: a thousand passes in a second. For real ones see test_variants_networks.py."""
    monkeypatch.setattr("kipoi_borzoi.variants.members.Reference", NumpyReference)


@pytest.fixture(scope="module")
def model():
    return numpy_model()


@pytest.fixture(scope="module")
def genome_and_text(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    contigs = small_genome(path)
    return Genome(FastaReader(path)), contigs


def other_base(base):
    return "CGTA"["ACGT".index(base)]


def records(text):
    """Every type of allele: (chrom, pos, id, REF, ALT), positions 1-based."""
    one, two = text["chr1"], text["chr2"]

    def ref(pos, length=1, contig=one):
        return contig[pos - 1 : pos - 1 + length]

    return [
        ("chr1", 900, "snv", ref(900), other_base(ref(900)).lower()),
        ("chr1", 905, "mnv", ref(905, 3), "".join(map(other_base, ref(905, 3)))),
        ("chr1", 700, "ins", ref(700), ref(700) + "GATTACA"),
        ("chr1", 720, "del", ref(720, 6), ref(720)),
        ("chr1", 740, "delins", ref(740, 4), other_base(ref(740)) + "TT" + other_base(ref(743))),
        ("chr1", 1206, "del in a run", "AAA", "A"),
        ("chr1", 1309, "ins in a repeat", ref(1309), ref(1309) + ref(1307, 3)),
        ("chr1", 1, "first", ref(1), other_base(ref(1))),
        ("chr1", 2600, "last", ref(2600), other_base(ref(2600))),
        ("chr1", 1, "del at the start", ref(1, 3), ref(3)),
        ("chr2", 150, "short contig", ref(150, 1, two), other_base(ref(150, 1, two)) + "," + ref(150, 1, two) + "A"),
        ("chr1", 900, "snv again", ref(900), other_base(ref(900))),
    ]


@pytest.fixture(scope="module")
def vcf(tmp_path_factory, genome_and_text):
    return write_vcf(tmp_path_factory.mktemp("vcf") / "all.vcf", records(genome_and_text[1]))


def run(vcf, genome, table, options, genes=None):
    engine = Engine(table, genome, options, genes)
    engine.chunk_alleles = 100
    source = AlleleSource(VcfReader(vcf), genome)
    (chunk,) = engine.chunks(source)
    return chunk


def expected_scores(plain, text, row, **options):
    start, r, a = plain.alleles(text[row.chrom], row.pos, row.ref, row.alt, **options)
    return start, {name: plain.scores(name, r, a) for name in NUMBERS}


@pytest.mark.parametrize(
    ("rc", "shifts", "indels"),
    [(False, (0,), "align"), (True, (0, 3), "align"), (False, (-2,), "none")],
    ids=["plain", "rc and shifts", "not aligned"],
)
def test_every_allele_scores_as_the_plain_implementation_says(model, genome_and_text, vcf, rc, shifts, indels):
    genome, text = genome_and_text
    options = Options(choose(NUMBERS, VARIANT_SCORERS), rc=rc, shifts=shifts, indels=indels)
    chunk = run(vcf, genome, make_table({"m": model}), options)
    plain = Plain(model, PAIRS, rc, shifts)
    assert [row.status for row in chunk.alleles] == ["SCORED"] * 13
    for place, row in enumerate(chunk.alleles):
        _, expected = expected_scores(plain, text, row, align=indels == "align")
        for name in NUMBERS:
            found = chunk.scores[name].mean[place]
            np.testing.assert_allclose(found, list(expected[name].values()), **CLOSE, err_msg=f"{row.id} {name}")
    sizes = np.abs(chunk.scores["SUM"].mean).max(axis=1)
    assert (sizes > 1e-3).all(), "alleles whose scores are nothing test nothing"


def test_columns_are_pairs_of_strands_whatever_their_order(model):
    table = make_table({"m": model})
    assert [column.name for column in table.columns] == ["A", "B", "C", "D"]
    assert table.columns[1].tracks == ("B+", "B-")


def test_a_shared_window_scores_as_the_plain_implementation_says(model, genome_and_text, tmp_path):
    genome, text = genome_and_text
    one = text["chr1"]
    span = int(384 * CLUSTER_FRACTION)
    near = [("chr1", 1000, "b", one[999], other_base(one[999])), ("chr1", 1000 - span, "a", one[999 - span], one[999 - span] + "TC"),
            ("chr1", 990, "c", one[989:993], one[989]), ("chr1", 1001, "alone", one[1000], other_base(one[1000]))]  # fmt: skip
    vcf = write_vcf(tmp_path / "near.vcf", near)
    chunk = run(vcf, genome, make_table({"m": model}), Options(choose(NUMBERS, VARIANT_SCORERS), window="cluster"))
    plain = Plain(model, PAIRS)
    first = min(centre(one, haplotype(one, *record[1:2], *record[3:])) for record in near)
    for place, row in enumerate(chunk.alleles):
        # a, b, c lie within the span; the base behind b does not
        middle = 1001 if row.id == "alone" else (first + 1000) // 2
        _, expected = expected_scores(plain, text, row, start=middle - 384 // 2, shared=True)
        for name in NUMBERS:
            found = chunk.scores[name].mean[place]
            np.testing.assert_allclose(found, list(expected[name].values()), **CLOSE, err_msg=f"{row.id} {name}")


def genes_near():
    return [
        Gene("G_minus", "gm", "chr1", "-", ((600, 640), (880, 930))),
        Gene("G_plus", "gp", "chr1", "+", ((700, 701), (890, 899))),
        Gene("G_both", "", "chr1", ".", ((905, 1000),)),
        Gene("G_far", "", "chr1", "+", ((2000, 2100),)),
    ]


def test_windows_without_a_gene_are_not_predicted_for_gene_scores(model, genome_and_text, tmp_path, monkeypatch):
    genome, text = genome_and_text
    one = text["chr1"]
    monkeypatch.setattr(NumpyReference, "altered", lambda *_: pytest.fail("nothing is to be predicted"))
    vcf = write_vcf(tmp_path / "far.vcf", [("chr1", 1600, ".", one[1599], other_base(one[1599]))])
    options = Options((), choose(["SED"], GENE_SCORERS))
    chunk = run(vcf, genome, make_table({"m": model}), options, GeneSet(genes_near(), genome, "test"))
    assert [row.status for row in chunk.alleles] == ["NO_GENE"] and chunk.genes == ()


GENE_NUMBERS = ["SED", "logSED", "D2", "logD2", "nDi"]


@pytest.mark.parametrize("mode", ["variant", "gene"])
def test_gene_scores_are_those_of_the_plain_implementation(mode, model, genome_and_text, vcf):
    genome, text = genome_and_text
    genes = GeneSet(genes_near(), genome, "test")
    options = Options((), choose(GENE_NUMBERS, GENE_SCORERS), window=mode)
    chunk = run(vcf, genome, make_table({"m": model}), options, genes)
    plain = Plain(model, PAIRS)
    rows = {"+": {"A": [0], "B": [3], "C": [4], "D": [5]}, "-": {"A": [2], "B": [1], "C": [4], "D": [5]}, ".": PAIRS}
    by_id = {gene.gene_id: gene for gene in genes_near()}
    assert {row.gene_id for row in chunk.genes} == {"G_minus", "G_plus", "G_both"}
    for place, gene_row in enumerate(chunk.genes):
        row, gene = chunk.alleles[gene_row.allele], by_id[gene_row.gene_id]
        start = gene.midpoint - 384 // 2 if mode == "gene" else None
        start, r, a = plain.alleles(text[row.chrom], row.pos, row.ref, row.alt, start=start, shared=mode == "gene")
        for name in GENE_NUMBERS:
            exons = [(gene.start, gene.end)] if name == "nDi" else gene.exons
            expected = plain.gene_scores(name, r, a, start, exons, rows[gene.strand])
            found = chunk.gene_scores[name].mean[place]
            np.testing.assert_allclose(found, list(expected.values()), **CLOSE, err_msg=f"{row.id} {gene.gene_id} {name}")
        first = start + plain.crop * plain.bin
        inside = sum(first <= i < first + plain.bin * model.config.layout.bins for s, e in gene.exons for i in range(s, e))
        assert gene_row.covered == pytest.approx(inside / gene.exonic)
    with_gene = {row.allele for row in chunk.genes}
    assert [row.status for row in chunk.alleles] == [
        "SCORED" if place in with_gene else "NO_GENE" for place in range(len(chunk.alleles))
    ]
    assert 0 < len(with_gene) < len(chunk.alleles)


def test_coverage_ratios_look_at_the_sites_of_the_gene_in_its_direction(model, genome_and_text, tmp_path):
    genome, text = genome_and_text
    one = text["chr1"]
    vcf = write_vcf(tmp_path / "one.vcf", [("chr1", 900, ".", one[899], other_base(one[899]))])
    genes = GeneSet(genes_near()[:2], genome, "test", {"G_minus": [860, 920, 990], "G_plus": [905]})
    chunk = run(vcf, genome, make_table({"m": model}), Options((), choose(["COVR"], GENE_SCORERS)), genes)
    plain = Plain(model, PAIRS)
    start, (r,), (a,) = plain.alleles(one, 900, one[899], other_base(one[899]))
    bins = [(site - start) // plain.bin - plain.crop for site in (990, 920, 860)]
    expected = []
    for row in (2, 1, 4, 5):
        ratios = [
            np.log2(x[bins[at:], row].mean() / x[bins[:at], row].mean()) for at in (1, 2) for x in (r, a)
        ]
        expected.append(max(abs(ratios[1] - ratios[0]), abs(ratios[3] - ratios[2])))
    scores = {row.gene_id: chunk.gene_scores["COVR"].mean[place] for place, row in enumerate(chunk.genes)}
    np.testing.assert_allclose(scores["G_minus"], expected, rtol=1e-5)
    assert np.isnan(scores["G_plus"]).all(), "one site is no split"


def test_profiles_are_the_predicted_coverage(model, genome_and_text, vcf):
    genome, text = genome_and_text
    options = Options(choose(["SUM", "REF", "ALT"], VARIANT_SCORERS), shifts=(0, 1))
    chunk = run(vcf, genome, make_table({"m": model}), options)
    assert set(chunk.profiles) == {"REF", "ALT"} and set(chunk.scores) == {"SUM"}
    row = chunk.alleles[0]
    _, r, a = Plain(model, PAIRS, shifts=(0, 1)).alleles(text["chr1"], row.pos, row.ref, row.alt)
    for name, coverage in (("REF", r), ("ALT", a)):
        mean = sum(coverage) / 2
        expected = np.stack([mean[:, list(rows)].sum(axis=1) for rows in PAIRS.values()], axis=1)
        np.testing.assert_allclose(chunk.profiles[name][0], expected, rtol=1e-6)


def test_ensembles_give_mean_deviation_and_agreement(genome_and_text, vcf):
    genome, _ = genome_and_text
    models = {"one": numpy_model(1, replicates=2), "two": numpy_model(5)}
    scorers = choose(["SUM", "D1"], VARIANT_SCORERS)
    both = run(vcf, genome, make_table(models), Options(scorers))
    parts = [
        run(vcf, genome, make_table({"m": numpy_model(seed)}), Options(scorers)).scores["SUM"].mean for seed in (1, 2, 5)
    ]
    values = np.stack(parts).astype(np.float64)
    sums = both.scores["SUM"]
    np.testing.assert_allclose(sums.mean, values.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sums.sd, np.std(values, axis=0, ddof=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sums.agreement, (np.sign(values) == np.sign(values.mean(axis=0))).mean(axis=0))
    assert both.scores["D1"].agreement is None and both.scores["D1"].sd is not None
    assert set(np.unique(sums.agreement.round(3))) <= {np.float32(0.333), np.float32(0.667), np.float32(1)}


def test_contrasts_weigh_scores_and_models_apart_network_by_network(genome_and_text, vcf):
    genome, _ = genome_and_text
    tuned = numpy_model(7, make_tracks(("X+", "X-"), (1, 0)), replicates=2)
    models = {"base": numpy_model(1, replicates=2), "tuned": tuned}
    contrasts = [
        Contrast("within", (Term("A", 1.0), Term("C", -0.5))),
        Contrast("between", (Term("tuned:X", 1.0), Term("base:B+", -1.0))),
    ]
    options = Options(choose(["logSED", "D2"], VARIANT_SCORERS), specificity=True)
    table = make_table(models, ["A", "C", "B+", "X"], contrasts)
    assert [c.name for c in table.columns] == ["base:A", "base:C", "base:B+", "tuned:X", "within", "between"]
    assert [c.kind for c in table.columns] == ["track"] * 4 + ["contrast"] * 2
    chunk = run(vcf, genome, table, options)
    for name in ("logSED", "D2"):
        mean = chunk.scores[name].mean
        np.testing.assert_allclose(mean[:, 4], mean[:, 0] - 0.5 * mean[:, 1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mean[:, 5], mean[:, 3] - mean[:, 2], rtol=1e-5, atol=1e-6)
    alone = run(vcf, genome, make_table(models, None, contrasts[1:]), options)
    assert [c.name for c in make_table(models, None, contrasts[1:]).columns] == ["base:B+", "tuned:X", "between"]
    np.testing.assert_allclose(alone.scores["D2"].mean[:, 2], chunk.scores["D2"].mean[:, 5], rtol=1e-5)
    np.testing.assert_allclose(alone.scores["D2"].sd[:, 2], chunk.scores["D2"].sd[:, 5], rtol=1e-5)
    pairs = [run(vcf, genome, make_table({"m": numpy_model(1 + n)}, ["B+"]), options).scores["logSED"].mean for n in (0, 1)]
    others = [
        run(vcf, genome, make_table({"m": numpy_model(7 + n, make_tracks(("X+", "X-"), (1, 0)))}), options).scores["logSED"].mean
        for n in (0, 1)
    ]
    by_network = np.stack([o[:, 0].astype(float) - p[:, 0] for o, p in zip(others, pairs, strict=True)])
    np.testing.assert_allclose(chunk.scores["logSED"].sd[:, 5], by_network.std(axis=0, ddof=1), rtol=1e-3, atol=1e-7)
    specific = chunk.scores["logSED"].specificity
    mean = chunk.scores["logSED"].mean
    np.testing.assert_allclose(specific[:, 0], mean[:, 0] - (mean[:, 1] + mean[:, 2]) / 2, rtol=1e-4, atol=1e-7)
    assert np.isnan(specific[:, 3:]).all()


def test_chunks_follow_the_input_and_do_not_depend_on_where_they_begin(model, genome_and_text, vcf):
    genome, _ = genome_and_text
    engine = Engine(make_table({"m": model}), genome, Options(choose(["SUM"], VARIANT_SCORERS), window="cluster"))
    engine.chunk_alleles = 4
    source = AlleleSource(VcfReader(vcf), genome)
    chunks = list(engine.chunks(source))
    assert [len(chunk.alleles) for chunk in chunks] == [4, 4, 4, 1]
    assert [row.number for chunk in chunks for row in chunk.alleles] == list(range(13))
    (later,) = engine.chunks(source, 4, 8)
    assert later.alleles == chunks[1].alleles
    np.testing.assert_array_equal(later.scores["SUM"].mean, chunks[1].scores["SUM"].mean)


def test_equivalent_spellings_are_predicted_once_and_score_equally(model, genome_and_text, tmp_path, monkeypatch):
    genome, text = genome_and_text
    one = text["chr1"]
    assert one[1200:1211] == "CAAAAAAAAAG"
    records = [("chr1", 1201, "left", "CA", "C"), ("chr1", 1205, "middle", "AA", "A"), ("chr1", 1209, "right", "AAG", "AG"),
               ("chr1", 1201, "long", "CAAAAAAAAAG", "CAAAAAAAAG")]  # fmt: skip
    altered = []
    run_one = NumpyReference.altered
    monkeypatch.setattr(NumpyReference, "altered", lambda self, x: altered.append(x) or run_one(self, x))
    chunk = run(write_vcf(tmp_path / "a.vcf", records), genome, make_table({"m": model}), Options(choose(NUMBERS, VARIANT_SCORERS)))
    assert len(altered) == 3  # reference, alternative, and the reference moved by the deletion
    for name in NUMBERS:
        scores = chunk.scores[name].mean
        assert (scores == scores[0]).all() and (scores[0] != 0).all(), name


def test_skipped_alleles_keep_their_row(model, genome_and_text, tmp_path):
    genome, text = genome_and_text
    base = text["chr1"][499]
    vcf = write_vcf(tmp_path / "some.vcf", [("chr1", 500, "x;y", base, f"<DEL>,{other_base(base)},*"), ("chrUn", 3, ".", "A", "C")])
    chunk = run(vcf, genome, make_table({"m": model}), Options(choose(["SUM"], VARIANT_SCORERS)))
    assert [row.status for row in chunk.alleles] == ["ALT_SYMBOLIC", "SCORED", "ALT_STAR", "CONTIG_UNKNOWN"]
    assert np.isnan(chunk.scores["SUM"].mean).all(axis=1).tolist() == [True, False, True, True]
    assert [row.id for row in chunk.alleles] == ["x;y"] * 3 + ["."] and [row.record for row in chunk.alleles] == [0, 0, 0, 1]
    assert chunk.alleles[1].padded == 0 and np.isnan(chunk.alleles[0].padded)


def test_the_padded_fraction_is_that_of_the_window(model, genome_and_text, vcf):
    genome, _ = genome_and_text
    chunk = run(vcf, genome, make_table({"m": model}), Options(choose(["SUM"], VARIANT_SCORERS)))
    padded = {row.id: row.padded for row in chunk.alleles}
    # The first base stands at index 191 of 384; the window of chr2:150 holds all 300 bases.
    assert padded["first"] == pytest.approx(191 / 384)
    assert padded["last"] == pytest.approx(192 / 384)
    assert padded["short contig"] == pytest.approx(84 / 384)
    assert padded["snv"] == 0


def test_options_that_do_not_fit_are_refused(model, genome_and_text):
    genome, _ = genome_and_text
    sums = choose(["SUM"], VARIANT_SCORERS)
    with pytest.raises(InputError, match="window is 'centre'; known: variant, cluster, gene"):
        Options(sums, window="centre")
    with pytest.raises(InputError, match="shifts is"):
        Options(sums, shifts=())
    with pytest.raises(InputError, match="needs genes"):
        Options(sums, window="gene")
    with pytest.raises(InputError, match="SED is a score per gene"):
        Engine(make_table({"m": model}), genome, Options((), choose(["SED"], GENE_SCORERS)))
    with pytest.raises(InputError, match="COVR needs annotated"):
        Engine(make_table({"m": model}), genome, Options((), choose(["COVR"], GENE_SCORERS)), GeneSet(genes_near(), genome, "x"))
