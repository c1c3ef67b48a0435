"""Motifs from attributions: their places, names and tests in the model. TF-MoDISco is replaced by what it is known to find."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from explain_cases import MOTIF, planted_genome, planted_model
from test_drivers import OTHERS, meme_of

from kipoi_borzoi import attribute, cli
from kipoi_borzoi.attributing import prepare_explaining
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.interpret import discovery
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.pwm import read_meme
from kipoi_borzoi.motif_discovery import COLUMNS, find_motifs

pytestmark = pytest.mark.usefixtures("uncompiled")


class Case:
    def __init__(self, folder):
        self.folder, self.out = folder, folder / "a.h5"
        self.text, self.sites = planted_genome(folder)
        (folder / "contrast.tsv").write_text("name\ttrack\tweight\nchange\ttreated\t1\nchange\tcontrol\t-1\n")
        (folder / "known.meme").write_text(meme_of(*OTHERS, MOTIF))
        self.models = {"m": planted_model()}
        attribute(self.models, folder / "genome.fa", self.out, **self.options(), progress=False)

    def options(self):
        return {"genes": self.folder / "genes.gtf", "contrast": self.folder / "contrast.tsv"}

    def explaining(self, **options):
        return prepare_explaining(self.models, self.folder / "genome.fa", **{**self.options(), **options})


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("motifs"))


def planted_patterns(case, flank=6):
    """What modisco-lite would return of the planted sites: objects with its attributes."""
    with AttributionFile(case.out) as file:
        found, sequences, scores = [], [], []
        for row in file.rows():
            if file.names[row] in case.sites:
                start = int(case.sites[file.names[row]] - file.starts[row]) - flank
                end = start + len(MOTIF) + 2 * flank
                reverse = case.text[case.sites[file.names[row]] :][: len(MOTIF)] != MOTIF
                one_hot = (file.sequence(row)[start:end, None] == np.arange(4)).astype(float)
                contributions = one_hot * file.hypothetical(row)[start:end]
                step = -1 if reverse else 1
                sequences.append(one_hot[::step, ::step])
                scores.append(contributions[::step, ::step])
                found.append(SimpleNamespace(example_idx=row, start=start, end=end, is_revcomp=reverse))
    return SimpleNamespace(sequence=np.mean(sequences, axis=0), contrib_scores=np.mean(scores, axis=0), seqlets=found)


@pytest.fixture
def installed(case, monkeypatch):
    """TF-MoDISco replaced by what it is known to find here."""
    monkeypatch.setattr(discovery, "check_installed", lambda: None)
    monkeypatch.setattr("kipoi_borzoi.motif_discovery.check_installed", lambda: None)
    monkeypatch.setattr(discovery, "_run", lambda *args: ([planted_patterns(case)], None))


def test_patterns_are_cut_named_and_tested(case, tmp_path, installed):
    out = tmp_path / "found.tsv"
    (one,) = find_motifs(
        case.out,
        out,
        motifs=case.folder / "known.meme",
        explaining=case.explaining(),
        sites=4,
        pictures=".svg",
        progress=False,
    )
    assert (one.pattern.motif.consensus, one.pattern.sign, len(one.pattern.seqlets)) == (MOTIF, "+", 12)
    assert one.closest == MOTIF and one.similarity > 0.95
    with AttributionFile(case.out) as file:
        for seqlet in one.pattern.seqlets:
            assert file.starts[seqlet.row] + seqlet.start == case.sites[file.names[seqlet.row]]
            total = file.contributions(seqlet.row)[seqlet.start : seqlet.end].sum()
            assert seqlet.contribution == pytest.approx(total, rel=1e-5)
    assert len(one.knock_outs) == len(one.insertions) == 4
    assert (one.knock_outs < -0.05).all() and one.insertions == pytest.approx(-one.knock_outs.mean(), rel=1e-3)
    assert read_meme(tmp_path / "found.meme")[0].consensus == MOTIF
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert (
        tuple(lines[0]) == COLUMNS
        and len(lines) == 2
        and lines[1][:6] == ["pos_0", "+", "12", "12", lines[1][4], MOTIF]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.meme", "found.motifs.svg", "found.tsv"]


def test_without_models_nothing_is_tested(case, tmp_path, installed, capsys):
    assert cli.main(["motifs", str(case.out), "--out", str(tmp_path / "x.tsv"), "--pictures", "none"]) == 0
    assert capsys.readouterr().out == "1 motifs\npos_0 (+)  12 instances\n"
    assert (tmp_path / "x.tsv").read_text().splitlines()[1].split("\t")[-6:] == ["NA", "NA", "0", "NA", "NA", "0"]
    with pytest.raises(InputError, match="x.tsv: exists; give --force"):
        find_motifs(case.out, tmp_path / "x.tsv")


def test_tests_in_the_model_need_the_run_that_made_the_file(case, tmp_path, installed):
    with pytest.raises(InputError, match="of another run than the options describe: its quantity differ"):
        find_motifs(case.out, tmp_path / "x.tsv", explaining=case.explaining(pseudocount=2.0))
    with pytest.raises(InputError, match="explains G1 at c1"):
        find_motifs(case.out, tmp_path / "x.tsv", explaining=case.explaining(gene_ids=["G0"]))


def test_a_missing_modisco_is_said(case, tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "modiscolite" else real(name))
    with pytest.raises(KipoiBorzoiError, match=r"pip install 'kipoi-borzoi\[motifs\]'"):
        find_motifs(case.out, tmp_path / "x.tsv")
    assert not list(tmp_path.iterdir())


def test_too_little_signal_is_said(case, tmp_path, installed, monkeypatch):
    monkeypatch.setattr(discovery, "_run", lambda *args: (None, None))
    with pytest.raises(InputError, match="too little signal for motif discovery: fewer than 100 stretches"):
        find_motifs(case.out, tmp_path / "x.tsv")
    assert not list(tmp_path.iterdir())


def test_a_failure_within_modisco_is_one_line(case, tmp_path, monkeypatch):
    def broken(**arguments):
        assert arguments["one_hot"].shape == arguments["hypothetical_contribs"].shape == (24, 512, 4)
        raise ZeroDivisionError("by zero")

    module = SimpleNamespace(TFMoDISco=broken)
    monkeypatch.setitem(sys.modules, "modiscolite", SimpleNamespace(tfmodisco=module))
    monkeypatch.setitem(sys.modules, "modiscolite.tfmodisco", module)
    monkeypatch.setattr(discovery, "check_installed", lambda: None)
    monkeypatch.setattr("kipoi_borzoi.motif_discovery.check_installed", lambda: None)
    with pytest.raises(InputError, match="TF-MoDISco failed .ZeroDivisionError: by zero.: is there enough signal"):
        find_motifs(case.out, tmp_path / "x.tsv")


def test_flanks_without_contributions_are_cut_off():
    means = np.zeros((9, 4))
    means[[2, 3, 6], [0, 1, 2]] = [0.5, -1.0, 0.3]
    assert discovery.trimmed(means) == (2, 7) and discovery.trimmed(means, 0.4) == (2, 4)
