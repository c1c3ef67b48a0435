"""`kipoi-borzoi estimate`: arithmetic that can be done by hand, drawn alleles that stand for all, and sizes that come true."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from variant_cases import HEADER, NumpyReference, numpy_model, write_vcf

from kipoi_borzoi.cli import main
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.estimating import Estimate, Request, Timed, draw, estimate_scoring
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.scoring import Scoring, prepare_scoring
from kipoi_borzoi.variants.output import write_scores
from kipoi_borzoi.variants.parts import WorkFolder
from kipoi_borzoi.variants.sizes import Line, Sizes

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo/BorzoiDemo/base/example"
GENES = {"genes": "genes.gtf", "scores": ["SUM", "logD2", "SED"]}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The example of BorzoiDemo in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("genome.fa.gz", "genome.fa.gz.fai", "genome.fa.gz.gzi", "variants.vcf", "genes.gtf"):
        shutil.copyfile(EXAMPLE / name, name)
    return tmp_path


@pytest.fixture
def numpy_network(monkeypatch):
    """A network in NumPy in the place of every model, so that predictions cost nothing."""
    monkeypatch.setattr("kipoi_borzoi.variants.members.Reference", NumpyReference)
    monkeypatch.setattr("kipoi_borzoi.scoring.loaded_models", lambda models, zoo: {models[0]: numpy_model()})
    monkeypatch.setattr("kipoi_borzoi.scoring.describe_model", lambda name, model: {"name": name})


def prepared(vcf="variants.vcf", **options):
    return prepare_scoring(["m"], vcf, "genome.fa.gz", **options)


def made_vcf(places, kind="SNV"):
    """A VCF of one allele at each 1-based position; of ``places`` a dict, the values are kinds: SNV, DEL, or skipped."""
    fasta = FastaReader("genome.fa.gz")
    lines = []
    for pos, what in (places if isinstance(places, dict) else dict.fromkeys(places, kind)).items():
        ref = fasta.fetch(Interval("demo1", pos - 1, pos + 1)).upper()
        alleles = {"SNV": (ref[0], "CGTA"["ACGT".index(ref[0])]), "DEL": (ref, ref[0]), "skipped": (ref[0], "<DEL>")}
        lines.append(("demo1", pos, ".", *alleles[what]))
    return write_vcf(Path("made.vcf"), lines)


class Stopwatch:
    """Time that passes only while alleles are scored: seconds of a group by its alleles."""

    def __init__(self, monkeypatch, cost):
        self.now, self.groups = 0.0, []
        score = Scoring.score

        def timed(scoring, alleles):
            self.now += cost(alleles)
            self.groups.append([allele.row.number for allele in alleles])
            return score(scoring, alleles)

        monkeypatch.setattr(Scoring, "score", timed)

    def __call__(self):
        return self.now


def estimate(**changes):
    fields = {
        "alleles": 100, "scored": 80, "chunk": 8, "within_h": 24.0, "prepare_s": 10.0, "compile_s": 2.0,
        "timed": (Timed(1, 1.0), Timed(2, 6.0, weight=3)), "writing_s": 5.0, "memory": 1, "table": 1, "parts": 1,
        "networks": 1, "cores": 2,
    }  # fmt: skip
    return Estimate(**{**fields, **changes})


def test_time_and_workers_are_what_one_counts_by_hand():
    day = estimate()
    assert day.per_allele_s == 2.5  # (1 + 3 * 3) / 4 draws
    assert day.range_s == (1.0, 3.0)
    assert day.one_process_s == 10 + 2 + 80 * 2.5 + 5
    assert day.chunks == 13 and day.chunk_s == 16.0  # 8 alleles, of which 6.4 are scored
    assert day.workers == 1
    # 56.25 s, of which 12 for the start and 5 for writing: two pieces of 16 s for each worker
    assert estimate(within_h=1 / 64).workers == 7
    assert estimate(within_h=1 / 128).workers is None  # 28.125 s leave 11.125 s, not enough for a piece
    # the piece of a small run is small, too
    assert estimate(alleles=2, scored=2, within_h=1 / 128).workers == 1


def test_parts_are_counted_by_hand():
    sizes = Sizes(Line(0), Line(100, 10), run=1000, writing_s=0, values=1)
    assert sizes.parts(100, chunk=8, seconds=1.0) == 1000 + 3 * (100 + 320) + 100 + 40  # 30 s: 32 alleles in a part
    assert sizes.parts(10_000, chunk=8, seconds=0.0) == 1000 + 2 * (100 + 40_960) + 100 + 18_080  # 4096 in a part
    assert sizes.parts(6, chunk=8, seconds=100.0) == 1000 + 160


def test_a_line_goes_through_two_points_and_not_below_zero():
    line = Line.through((10, 130), (20, 160))
    assert (line.fixed, line.slope) == (100, 3) and line.at(1000) == 3100
    assert Line.through((5, 10), (5, 10)).at(50) == 100
    assert Line(-5, 1).at(2) == 0


def test_compilation_is_told_apart_wherever_it_happens(files, numpy_network, monkeypatch):
    vcf = made_vcf({5000 + 3000 * number: "DEL" if number == 3 else "SNV" for number in range(6)})
    compiled = set()

    def cost(alleles):
        kind = alleles[0].change.size
        first, _ = kind not in compiled, compiled.add(kind)
        return (2.0 if kind else 1.0) + 10.0 * first

    clock = Stopwatch(monkeypatch, cost)
    found = estimate_scoring(prepared(vcf), Request(alleles=6), 4.0, clock)
    assert found.compile_s == 20.0 and found.start_s == 24.0
    assert [one.seconds for one in found.timed] == [1, 1, 1, 2, 1, 1]
    assert found.per_allele_s == pytest.approx(7 / 6)
    assert found.one_process_s == pytest.approx(24 + 7 + found.writing_s)
    assert clock.groups == [[0], [0], [1], [2], [3], [3], [4], [5]]


def test_drawn_alleles_are_spread_over_the_file(files, numpy_network, monkeypatch):
    places = {3000 + 400 * number: "skipped" if number < 20 else "SNV" for number in range(100)}
    clock = Stopwatch(monkeypatch, lambda alleles: 1.0)
    found = estimate_scoring(prepared(made_vcf(places)), Request(alleles=4), clock=clock)
    assert clock.groups[1:] == [[30], [50], [70], [90]]  # the middles of the quarters of 20 to 99
    assert (found.alleles, found.scored) == (100, 80)


def test_shared_windows_are_timed_whole_and_weigh_by_their_alleles(files, numpy_network, monkeypatch):
    # Windows are 384 bp: alleles within 24 bp share one. Four groups, of 9, 1, 9 and 1 alleles: numbers 0-8, 9, 10-18, 19.
    places = [*range(5000, 5018, 2), 7000, *range(9000, 9018, 2), 11000]
    scoring = prepared(made_vcf(places), window="cluster")
    clock = Stopwatch(monkeypatch, lambda alleles: 9.0 + len(alleles))
    found = estimate_scoring(scoring, Request(alleles=20), clock=clock)
    # A drawn group has (81 + 1 + 81 + 1) / 20 = 8.2 alleles on average, so three make up 20: at numbers 3, 10 and 16.
    assert clock.groups == [[*range(9)], [*range(9)], [*range(10, 19)]]
    assert [(one.alleles, one.seconds, one.weight) for one in found.timed] == [(9, 18.0, 1), (9, 18.0, 2)]
    # Two are drawn however few alleles are asked for, so that there is a range: at numbers 5 and 15.
    assert [[one.row.number for one in group] for group, _ in draw(scoring, 2, 20).groups] == [[*range(9)], [*range(10, 19)]]


def test_groups_are_drawn_as_often_as_they_have_alleles(files, numpy_network, monkeypatch):
    """With every allele drawn, the mean per allele over the drawn groups is what all cost, by the number of alleles."""
    places = [*range(5000, 5018, 2), 7000, *range(9000, 9008, 2), 11000, 13000, *range(15000, 15010, 2)]
    scoring = prepared(made_vcf(places), window="cluster")
    monkeypatch.setattr("kipoi_borzoi.estimating._draws", lambda *_: 21)  # as many draws as alleles
    drawn = draw(scoring, 21, 1).groups
    assert [(len(group), weight) for group, weight in drawn] == [(9, 9), (1, 1), (4, 4), (1, 1), (1, 1), (5, 5)]
    timed = tuple(Timed(len(group), 9.0 + len(group), weight) for group, weight in drawn)
    assert estimate(timed=timed).per_allele_s == pytest.approx(sum(9.0 + len(group) for group, _ in drawn) / 21)


def test_groups_score_as_their_chunk_does(files, numpy_network):
    places = [*range(5000, 5018, 2), 7000, *range(9000, 9008, 2), 5003]
    for window in ("variant", "cluster"):
        scoring = prepared(made_vcf(places), window=window)
        for chunk in scoring.engine.batches(scoring.source):
            whole = scoring.score(chunk)
            groups = scoring.engine.together(chunk)
            assert sorted(one.row.number for group in groups for one in group) == [row.number for row in whole.alleles]
            for group in groups:
                apart = scoring.score(group)
                places_of = [one.row.number - chunk[0].row.number for one in group]
                np.testing.assert_allclose(apart.scores["SUM"].mean, whole.scores["SUM"].mean[places_of], rtol=1e-6, atol=1e-6)
    assert len(prepared(window="gene", genes="genes.gtf", scores=["SED"]).engine.together(chunk)) == 1


@pytest.mark.parametrize(
    "options", [{"scores": ["SUM", "SED"]}, {"scores": ["SED"], "window": "gene"}], ids=["variant", "gene"]
)
def test_genes_are_counted_without_a_prediction_as_they_are_scored(files, numpy_network, monkeypatch, options):
    scoring = prepared(genes="genes.gtf", **options)
    scored = [(allele, scoring.score([allele]).genes) for allele in scoring.source]
    monkeypatch.setattr(NumpyReference, "altered", lambda *_: pytest.fail("nothing is to be predicted"))
    assert sum(len(genes) for _, genes in scored) > 5
    assert [tuple(scoring.engine.gene_rows(allele.change)) for allele, _ in scored] == [genes for _, genes in scored]


@pytest.fixture
def parts_seen(monkeypatch):
    """Bytes in OUT.parts when a table is whole."""
    seen, clear = [], WorkFolder.clear

    def remember(work):
        seen.append(sum(file.stat().st_size for file in work.path.iterdir() if file.name != "finished.json"))
        clear(work)

    monkeypatch.setattr(WorkFolder, "clear", remember)
    return seen


def write(scoring, out):
    write_scores(
        scoring.chunks, out, scoring.table.columns, scoring.scorers, scoring.gene_scorers, scoring.provenance, scoring.key,
        n_alleles=scoring.survey.total, contigs=scoring.contigs, profiles=scoring.profiles,
    )  # fmt: skip
    return sum(Path(out + end).stat().st_size for end in ("", ".tbi") if Path(out + end).exists())


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".parquet", ".h5", ".h5ad", ".vcf.gz"])
def test_the_estimated_size_comes_true(files, numpy_network, parts_seen, suffix):
    scoring = prepared(**GENES)
    found = estimate_scoring(scoring, Request(format=suffix))
    true = write(scoring, f"out{suffix}")
    assert found.table == pytest.approx(true, rel=0.05), (found.table, true)
    assert found.parts == pytest.approx(parts_seen[0], rel=0.05)


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_the_size_of_many_blocks_follows_from_two(files, numpy_network, monkeypatch, suffix):
    places = {3000 + 150 * number: "skipped" if 100 <= number < 200 else "SNV" for number in range(600)}
    scoring = prepared(made_vcf(places))
    monkeypatch.setattr("kipoi_borzoi.variants.output._BLOCK_ALLELES", 60)
    measured = []
    monkeypatch.setattr("kipoi_borzoi.variants.sizes.pack", lambda chunk: measured.append(len(chunk.alleles)) or b"")
    found = estimate_scoring(scoring, Request(format=suffix, alleles=20))
    assert measured == [60, 120]
    # Extrapolated from a tenth and a fifth of the file, whose overhead differs by version: pyarrow 15 is 6 % off.
    assert found.table == pytest.approx(write(scoring, f"out{suffix}"), rel=0.08)


def test_profiles_are_measured_as_well(files, numpy_network):
    scoring = prepared(scores=["SUM", "REF", "ALT"])
    with pytest.raises(InputError, match="only .h5 can hold"):
        estimate_scoring(scoring, Request(format=".parquet"))
    found = estimate_scoring(scoring, Request(format=".h5"))
    assert found.table == pytest.approx(write(scoring, "out.h5"), rel=0.02)


def test_alleles_without_a_gene_have_no_scores_in_the_table_either(files, numpy_network):
    Path("far.gtf").write_text('demo1\tx\texon\t90001\t90100\t.\t+\t.\tgene_id "G1";\n')
    scoring = prepared(genes="far.gtf", scores=["SED"])
    found = estimate_scoring(scoring, Request(format=".tsv"))
    assert found.table == pytest.approx(write(scoring, "out.tsv"), rel=0.02)


def test_more_variants_than_the_file_has_are_more_of_the_same(files, numpy_network):
    scoring = prepared(made_vcf({3000 + 500 * number: "skipped" if number % 4 == 0 else "SNV" for number in range(40)}))
    here = estimate_scoring(scoring, Request(format=".tsv"))
    more = estimate_scoring(scoring, Request(format=".tsv", variants=4000))
    assert (here.alleles, here.scored, more.alleles, more.scored) == (40, 30, 4000, 3000)
    lines = write(prepared("made.vcf"), "out.tsv") - len("".join(Path("out.tsv").read_text().splitlines(True)[:2]))
    assert here.table < more.table and more.table - here.table == pytest.approx(99 * lines, rel=0.02)


@pytest.mark.parametrize("suffix", [".parquet", ".vcf.gz"])
def test_the_size_for_more_variants_is_that_of_a_file_with_as_many(files, numpy_network, suffix):
    few = estimate_scoring(prepared(made_vcf(range(3000, 50000, 800))), Request(format=suffix, variants=590))
    many = prepared(made_vcf([start + by for start in range(3000, 50000, 800) for by in range(0, 100, 10)]))
    assert few.alleles == many.survey.total == 590
    assert few.table == pytest.approx(write(many, f"out{suffix}"), rel=0.06)


def test_fewer_alleles_than_asked_for_are_all_timed(files, numpy_network):
    found = estimate_scoring(prepared(made_vcf([5000, 7000, 9000])), Request(alleles=50))
    assert [one.alleles for one in found.timed] == [1, 1, 1] and found.alleles == found.scored == 3
    one = estimate_scoring(prepared(made_vcf([5000])), Request(alleles=50))
    assert len(one.timed) == 1 and one.range_s[0] == one.range_s[1] == one.per_allele_s


def run(*options, vcf="variants.vcf"):
    return main(["estimate", "--model", "BorzoiDemo/base", "--vcf", vcf, "--fasta", "genome.fa.gz", *options])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--within", "0"], "hours to end within: 0.0, expected a number above 0"),
        (["--within", "nan"], "hours to end within: nan"),
        (["--within=-3"], "hours to end within: -3.0"),
        (["--alleles", "0"], "alleles to time: 0, expected 1 or more"),
        (["--variants", "0"], "variants: 0, expected 1 or more"),
        (["--out", "x.docx"], "error: x.docx: its suffix names no format; known: .tsv, "),
        (["--scores", "SUMM"], "unknown scorer 'SUMM'"),
        (["--window", "gene"], "window 'gene' is for gene scores"),
        (["--genes", "no.gtf"], "no.gtf: no such file"),
    ],
)
def test_wrong_options_are_one_line_before_a_model_is_loaded(files, capsys, monkeypatch, options, message):
    monkeypatch.setattr("kipoi_borzoi.scoring.loaded_models", lambda *_: pytest.fail("the model is loaded last"))
    assert run(*options) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert message in line


def test_nothing_that_can_be_scored_is_an_error(files, capsys, numpy_network):
    made_vcf([5000, 6000], "skipped")
    assert run(vcf="made.vcf") == 1
    last = capsys.readouterr().err.splitlines()[-1].removeprefix("kipoi-borzoi: error: ")
    assert last == "made.vcf: none of its 2 alleles can be scored (ALT_SYMBOLIC 2): there is nothing to time"
    Path("none.vcf").write_text(HEADER)
    assert run(vcf="none.vcf") == 1
    assert "none of its 0 alleles can be scored: there is nothing to time" in capsys.readouterr().err


def test_many_variants_in_little_time_ask_for_workers(files, capsys, numpy_network, monkeypatch):
    def seconds(scoring, alleles, clock):
        return 1.0 * len(alleles), scoring.score(alleles)

    monkeypatch.setattr("kipoi_borzoi.estimating._seconds", seconds)
    options = ["--tracks", "C", "--rc", "--shifts=-1,0"]
    assert run("--variants", "100000", "--within", "10", *options, "--out", "my table.parquet") == 0
    printed = capsys.readouterr().out
    # 1 s per allele are 27.8 h; a little of the 10 h is for start and writing
    (workers,) = re.findall(r"^workers for 10 h +(\d+)$", printed, re.MULTILINE)
    assert workers == "3"
    given = " ".join(["--model BorzoiDemo/base --vcf variants.vcf --fasta genome.fa.gz", *options])
    assert f"  kipoi-borzoi score {given} --shard I/{workers} --out part.I.shard\n" in printed
    assert "  kipoi-borzoi merge part.*.shard --out 'my table.parquet'\n" in printed
    assert f"  kipoi-borzoi score {given} --out 'my table.parquet' --cluster local:{workers}\n" in printed
    assert run("--within", "0.0001") == 0
    assert "no number is enough" in capsys.readouterr().out


def test_the_command_says_what_its_own_last_line_then_takes(files, capsys):
    before = {path.name for path in files.iterdir()}
    options = ["--genes", "genes.gtf", "--tracks", "cell1.control.rep1"]
    status = run("--zoo", str(EXAMPLE.parents[2]), "--out", ".parquet", *options)
    printed = capsys.readouterr().out
    assert status == 0
    rows = dict(re.findall(r"^(.+?)  +(.+)$", printed, re.MULTILINE))
    assert rows["alleles"] == "43, of which 43 can be scored" and rows["workers for 24 h"] == "1"
    assert re.fullmatch(r"[\d.]+ s \([\d.]+ s to [\d.]+ s; timed: 8 alleles in 8 groups\)", rows["per allele"])
    assert "as .parquet, and " in rows["disk"] and rows["peak memory"].endswith("of every worker")
    assert printed.count("\n- ") == 7
    assert {path.name for path in files.iterdir()} == before, "nothing is written where it runs"
    command = shlex.split(printed.splitlines()[-1])
    assert command[0] == "kipoi-borzoi" and main(command[1:]) == 0
    assert capsys.readouterr().out == "43 alleles: 43 scored, 0 skipped\n"
    size, unit = re.match(r"([\d.]+) (kB)", rows["disk"]).groups()
    assert Path("scores.parquet").stat().st_size == pytest.approx(float(size) * 1000, rel=0.05), unit


def test_peak_memory_is_that_of_the_process():
    program = [
        "from kipoi_borzoi.machine import peak_memory", "peak = peak_memory()", "held = b'1' * 200_000_000",
        "print(peak, peak_memory())",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", "; ".join(program)], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert 2e6 < before < 100e6  # a bare interpreter's, whatever the process that started it holds
    assert 195e6 < after - before < 205e6
