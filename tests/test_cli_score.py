"""`kipoi-borzoi score` and `scorers`, and the function behind: one table, one last line, one line for an error."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from variant_cases import HEADER, NumpyReference, numpy_model

from kipoi_borzoi.cli import main
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.scoring import prepare_scoring, score_variants

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo/BorzoiDemo/base/example"
MODEL = "BorzoiDemo/base"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """genome.fa.gz and variants.vcf (two alleles that can be scored, three that cannot) in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for suffix in ("", ".fai", ".gzi"):
        shutil.copyfile(EXAMPLE / f"genome.fa.gz{suffix}", f"genome.fa.gz{suffix}")
    fasta = FastaReader("genome.fa.gz")
    base = fasta.fetch(Interval("demo1", 60000, 60001))
    other = "CGTA"["ACGT".index(base)]
    lines = [f"demo1\t60001\ts;1\t{base}\t{other},<DEL>", f"demo1\t60001\t.\t{other}\t{base}", f"demo1\t60001\t.\t{base}\t{base}AC", "demo9\t1\t.\tA\tC"]
    Path("variants.vcf").write_text(HEADER + "".join(f"{line}\t.\t.\t.\n" for line in lines))
    Path("genes.gtf").write_text('demo1\tx\texon\t59001\t61000\t.\t+\t.\tgene_id "G1"; gene_name "N";\n')
    return tmp_path


def score(*options, vcf="variants.vcf", out="out.tsv", fasta="genome.fa.gz"):
    return main(["score", "--model", MODEL, "--vcf", str(vcf), "--fasta", str(fasta), "--out", str(out), *options])


def test_a_table_with_every_allele_and_a_last_line(files, capsys):
    status = score("--scores", "SUM,logD2,SED", "--genes", "genes.gtf", "--tracks", "cell1.control.rep1")
    printed = capsys.readouterr()
    assert status == 0
    assert printed.out == "5 alleles: 2 scored, 3 skipped (ALT_SYMBOLIC 1, CONTIG_UNKNOWN 1, REF_MISMATCH 1)\n"
    assert "REF_MISMATCH 1: REF is not what the FASTA has" in printed.err
    table = pd.read_csv("out.tsv", sep="\t", skiprows=1, keep_default_na=False, na_values={"score": [""]})
    assert list(table.status[table.scorer == ""]) == ["ALT_SYMBOLIC", "REF_MISMATCH", "CONTIG_UNKNOWN"]
    scored = table[table.status == "SCORED"]
    assert list(scored.scorer) == ["SUM", "logD2", "logD2", "SED"] * 2 and set(scored.track) == {"cell1.control.rep1"}
    assert np.isfinite(scored.score).all() and list(scored.gene_id) == ["", "", "G1", "G1"] * 2

    frame = score_variants(MODEL, "variants.vcf", "genome.fa.gz", scores=["SUM", "logD2", "SED"], genes="genes.gtf", tracks=["cell1.control.rep1"])
    assert list(frame.columns) == list(table.columns)
    np.testing.assert_allclose(frame.score, table.score, rtol=1e-5)

    assert score("--scores", "SUM,logD2,SED", "--genes", "genes.gtf", "--tracks", "cell1.control.rep1") == 1
    assert "out.tsv: exists; give --force" in capsys.readouterr().err


def test_nothing_scored_is_an_error_and_leaves_the_reasons(files, capsys):
    Path("none.vcf").write_text(HEADER + "demo1\t60001\t.\tN\tA\t.\t.\t.\n")
    assert score(vcf="none.vcf") == 1
    printed = capsys.readouterr()
    assert printed.out == "1 allele: 0 scored, 1 skipped (REF_NOT_ACGT 1)\n"
    assert printed.err.splitlines()[-1] == "kipoi-borzoi: error: none.vcf: none of its 1 alleles could be scored; out.tsv says why"
    assert "REF_NOT_ACGT" in Path("out.tsv").read_text()


def test_an_input_without_records_gives_an_empty_table(files, capsys):
    Path("none.vcf").write_text(HEADER)
    assert score(vcf="none.vcf") == 0
    printed = capsys.readouterr()
    assert printed.out == "0 alleles: 0 scored, 0 skipped\n" and "none.vcf: no variants in it" in printed.err
    assert len(Path("out.tsv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scores", "SUMM"], "unknown scorer 'SUMM'; known: SUM, .*did you mean SUM"),
        (["--scores", "gene:SUM", "--genes", "genes.gtf"], "unknown scorer 'SUM'; known: SED"),
        (["--scores", "SED"], "SED is a score per gene: give an annotation"),
        (["--window", "gene"], "window 'gene' is for gene scores"),
        (["--polya", "x.bed"], "no genes that they belong to"),
        (["--max-indel", "0"], "max_indel is 0"),
        (["--max-mismatch", "2"], "max_mismatch is 2.0"),
        (["--genes", "no.gtf"], "no.gtf: no such file"),
        (["--contrast", "no.tsv"], "no.tsv: no such file"),
        (["--regions", "no.bed"], "no.bed: no such file"),
        (["--shard", "1/2"], "a shard is written as .shard"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_computed(files, capsys, monkeypatch, options, message):
    monkeypatch.setattr("kipoi_borzoi.scoring.loaded_models", lambda *_: pytest.fail("the model is loaded last"))
    assert score(*options) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert line.startswith("kipoi-borzoi: error: ")
    assert re.search(message, line), line
    assert not Path("out.tsv").exists()


def test_wrong_files_are_one_line(files, capsys):
    for options, message in (
        ({"vcf": "no.vcf"}, "no.vcf: no such file"), ({"fasta": "no.fa"}, "no.fa: no such file"),
        ({"out": "variants.vcf"}, "variants.vcf"), ({"out": "x.docx"}, "x.docx"), ({"out": "no/x.tsv"}, "its folder no does not exist"),
    ):  # fmt: skip
        assert score(**options) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_unknown_models_and_tracks_are_named(files, capsys):
    assert main(["score", "--model", "BorzoiDemo/bose", "--vcf", "variants.vcf", "--fasta", "genome.fa.gz", "--out", "o.tsv"]) == 1
    assert "no entry 'BorzoiDemo/bose'; near matches: BorzoiDemo/base" in capsys.readouterr().err
    assert score("--tracks", "liver") == 1
    assert "tracks: 'liver' is no identifier, no file" in capsys.readouterr().err
    with pytest.raises(InputError, match="given twice"):
        prepare_scoring([MODEL, MODEL], "variants.vcf", "genome.fa.gz")
    with pytest.raises(InputError, match="do not fit a tidy table"):
        score_variants(MODEL, "variants.vcf", "genome.fa.gz", scores=["REF"])


def test_scorers_are_listed_with_their_formulas(capsys):
    assert main(["scorers"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["scorer", "per", "signed", "strands", "formula", "description"]
    assert {line[0] for line in lines[1:]} >= {"SUM", "logSED", "SAX", "JS", "logJS", "REF", "SED", "nDi", "COVR"}
    assert all(len(line) == 6 for line in lines)


@pytest.fixture
def numpy_network(monkeypatch):
    """A network in NumPy in the place of every model, so that predictions cost nothing."""
    monkeypatch.setattr("kipoi_borzoi.variants.members.Reference", NumpyReference)
    monkeypatch.setattr("kipoi_borzoi.scoring.loaded_models", lambda models, zoo: {models[0]: numpy_model()})
    monkeypatch.setattr("kipoi_borzoi.scoring.describe_model", lambda name, model: {"name": name})


def test_a_background_gives_quantiles_to_runs_of_the_same_options(files, capsys, numpy_network):
    shared = ["--model", MODEL, "--fasta", "genome.fa.gz", "--scores", "SUM,D1,logSED", "--genes", "genes.gtf"]
    assert main(["background", *shared, "--simulate", "60", "--seed", "3", "--out", "b.h5"]) == 0
    assert capsys.readouterr().out == "60 alleles: 60 scored, 0 skipped\n"
    assert main(["score", *shared, "--vcf", "variants.vcf", "--out", "q.tsv", "--background", "b.h5", "--tracks", "C"]) == 0
    table = pd.read_csv("q.tsv", sep="\t", skiprows=1)
    scored = table[(table.status == "SCORED") & table.gene_id.isna()]
    assert set(scored.scorer) == {"SUM", "D1", "logSED"}
    assert (np.sign(scored["quantile"]) == np.sign(scored.score))[scored["quantile"] != 0].all()
    assert scored["quantile"].abs().between(0, 1).all() and scored["quantile"].nunique() > 1
    capsys.readouterr()
    assert main(["score", *shared, "--vcf", "variants.vcf", "--out", "r.tsv", "--background", "b.h5", "--rc"]) == 1
    assert "the background of another model or of other options: options.rc was false, is true" in capsys.readouterr().err
    assert main(["background", *shared, "--simulate", "60", "--out", "b.h5"]) == 1
    assert "b.h5: exists" in capsys.readouterr().err
    assert main(["background", "--model", MODEL, "--fasta", "genome.fa.gz", "--simulate", "6", "--out", "c.h5"]) == 1
    assert "simulated variants lie near genes" in capsys.readouterr().err


def test_a_background_goes_on_where_it_was_interrupted(files, capsys, numpy_network, monkeypatch):
    from kipoi_borzoi.variants.engine import Engine

    command = ["background", "--model", MODEL, "--fasta", "genome.fa.gz", "--scores", "SUM", "--genes", "genes.gtf", "--simulate", "60", "--out"]
    assert main([*command, "undisturbed.h5"]) == 0
    score, scored = Engine.score, []

    def counted(self, alleles):
        scored.append(len(alleles))
        if sum(scored) > 40:
            raise KeyboardInterrupt
        return score(self, alleles)

    monkeypatch.setattr(Engine, "score", counted)
    assert main([*command, "b.h5"]) != 0
    assert Path("b.h5.parts").is_dir() and not Path("b.h5").exists()
    capsys.readouterr()
    assert main([*command, "b.h5", "--seed", "1"]) == 1
    assert "b.h5.parts holds the beginning of another run: files.vcf.name" in capsys.readouterr().err
    kept = sum(scored) - scored[-1]
    scored[:] = []
    assert main([*command, "b.h5"]) == 0
    assert 0 < kept and sum(scored) == 60 - kept
    assert Path("b.h5").read_bytes() == Path("undisturbed.h5").read_bytes() and not Path("b.h5.parts").exists()
    assert main([*command[:-1], "--force", "--out", "genome.fa.gz"]) == 1
    assert "genome.fa.gz: is an input as well" in capsys.readouterr().err


def test_a_variant_is_drawn_where_it_lies(files, capsys, numpy_network, monkeypatch):
    base = FastaReader("genome.fa.gz").fetch(Interval("demo1", 60000, 60001))
    other = "CGTA"["ACGT".index(base)]
    given = {}

    def drawn(ref, alt, columns, bin_size, start, *rest, **options):
        given.update(ref=ref, alt=alt, start=start, bin_size=bin_size, rest=rest)
        return ["A"]

    monkeypatch.setattr("kipoi_borzoi.variants.plot.plot_variant", drawn)
    arguments = ["plot", "variant", "--model", MODEL, "--fasta", "genome.fa.gz", "--out", "x.png", "--genes", "genes.gtf"]
    assert main([*arguments, "--variant", f"demo1:60001:{base}:{other}"]) == 0
    assert capsys.readouterr().out == "x.png: A\n"
    # the base at index 191 of the window; 4 bins of 8 bp cropped
    assert (given["start"], given["bin_size"]) == (60000 - 191 + 32, 8)
    assert given["ref"].shape == given["alt"].shape == (40, 4) and (given["ref"] != given["alt"]).any()
    assert given["rest"][:2] == ("demo1", 60001) and [gene.gene_id for gene in given["rest"][2]] == ["G1"]
    assert main([*arguments, "--variant", f"demo1:60001:{other}:{base}"]) == 1
    assert "REF_MISMATCH: REF is not what the FASTA has" in capsys.readouterr().err
    assert main([*arguments, "--variant", "demo1:60001"]) == 1
    assert "expected chrom:pos:ref:alt" in capsys.readouterr().err


def test_the_key_changes_with_whatever_decides_a_score(files, numpy_network):
    def key(**options):
        return prepare_scoring([MODEL], "variants.vcf", "genome.fa.gz", **options).key

    keys = [key(), key(rc=True), key(shifts=[0, 1]), key(tracks=["C"]), key(scores=["SUM"]), key(max_indel=1)]
    assert len(set(keys)) == len(keys) and key() == keys[0]
