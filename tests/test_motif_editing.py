"""Motifs put into sites and taken out, against plain predictions of the edited sequences."""

import json

import numpy as np
import pytest
from explain_cases import MOTIF, planted_genome, planted_model
from genome_files import one_hot_by_letter, reverse_complement_text, window
from test_drivers import OTHERS, meme_of

from kipoi_borzoi import cli, edit_motif
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.motif_editing import COLUMNS, parse_motif

pytestmark = pytest.mark.usefixtures("uncompiled")


class Case:
    def __init__(self, folder):
        self.folder = folder
        self.text, self.sites = planted_genome(folder)
        (folder / "contrast.tsv").write_text("name\ttrack\tweight\nchange\ttreated\t1\nchange\tcontrol\t-1\n")
        (folder / "known.meme").write_text(meme_of(*OTHERS, MOTIF))
        # A site in a gene without the motif (gene 20 begins at 8260), one of a carrier (gene 0), one nowhere.
        self.bed = folder / "sites.bed"
        self.bed.write_text(
            f"c1\t8200\t8209\tempty\t0\t-\nc1\t{self.sites['G0']}\t{self.sites['G0'] + 9}\tthere\t0\t+\nc1\t5\t9\tnowhere\t0\t+\n"
        )

    def run(self, motif=MOTIF, out=None, **options):
        options = {
            "genes": self.folder / "genes.gtf",
            "gene_ids": ["G0", "G20"],
            "contrast": self.folder / "contrast.tsv",
            **options,
        }
        return edit_motif(
            {"m": planted_model()}, self.folder / "genome.fa", motif, self.bed, out, progress=False, **options
        )

    def logs(self, start, text):
        """log2(1 + coverage summed over the two exons' bins) of both tracks, of a window's sequence; every bin is alike."""
        coverage = planted_model().predictors[0].predict(one_hot_by_letter(text)[None])[0]
        first = start + 4 * 16
        gene = start + 256 - 60  # exons at 0 to 40 and 80 to 120 of the gene, midpoint 59.5
        bins = {
            b
            for a, z in ((gene, gene + 40), (gene + 80, gene + 120))
            for b in range((a - first) // 16, -(-(z - first) // 16))
        }
        return np.log2(1 + coverage[sorted(bins)].sum(axis=0))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("editing"))


def test_insertions_equal_plain_predictions(case, caplog):
    rows = case.run()
    by_key = {(row.target, row.site, row.column): row for row in rows}
    assert len(rows) == len(by_key) == 2 * 3 and "1 of 3 sites lie in no target's window" in caplog.text
    start = 400 * 20 + 260 + 59 - 256
    before = window(case.text, start, start + 512)
    at = 8200 - start
    after = before[:at] + reverse_complement_text(MOTIF) + before[at + 9 :]
    change = case.logs(start, after) - case.logs(start, before)
    assert change[0] > 0.05 and change[1] == 0
    row = by_key["G20", "empty", "change"]
    assert (row.chrom, row.start, row.end, row.strand, row.edit, row.kind) == (
        "c1",
        8200,
        8209,
        "-",
        "insertion",
        "contrast",
    )
    assert row.effect == pytest.approx(change[0] - change[1], abs=1e-5) and np.isnan(row.sd)
    assert by_key["G20", "empty", "treated"].effect == pytest.approx(change[0], abs=1e-5)
    assert by_key["G20", "empty", "control"].effect == pytest.approx(0, abs=1e-6)
    assert by_key["G0", "there", "change"].effect == pytest.approx(0, abs=1e-6)  # it is there already


def test_knock_outs_take_away_what_is_there(case, tmp_path):
    out = tmp_path / "e.tsv"
    rows = {
        (row.target, row.column): row
        for row in case.run(f"{case.folder}/known.meme:{MOTIF}", out, knocked_out=True, rc=True)
    }
    inserted = {(row.target, row.column): row for row in case.run()}
    assert rows["G0", "change"].effect == pytest.approx(-inserted["G20", "change"].effect, rel=1e-3)
    assert rows["G20", "change"].effect == pytest.approx(0, abs=1e-6) and rows["G0", "change"].sd < 1e-5
    lines = out.read_text().splitlines()
    assert (
        json.loads(lines[0].removeprefix("# "))["options"]["knocked_out"]
        and tuple(lines[1].split("\t")) == COLUMNS
        and len(lines) == 8
    )


def test_motifs_are_sequences_or_in_files(case):
    path = case.folder / "known.meme"
    assert parse_motif("tgac").consensus == "TGAC" and parse_motif(f"{path}:{OTHERS[0]}").consensus == OTHERS[0]
    for text, message in (
        ("TGAX", "expected a sequence of A, C, G, T, or FILE.meme:NAME"), (str(path), "3 motifs ''; name one of: CAGG"),
        (f"{path}:nothing", "no motif 'nothing'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            parse_motif(text)


def test_sites_outside_of_every_window_are_an_error(case, tmp_path):
    (tmp_path / "s.bed").write_text("c1\t9400\t9409\n")
    with pytest.raises(InputError, match="none of the 1 sites lies in the window of one of the 1 genes or regions"):
        edit_motif(
            {"m": planted_model()},
            case.folder / "genome.fa",
            MOTIF,
            tmp_path / "s.bed",
            genes=case.folder / "genes.gtf",
            gene_ids=["G0"],
        )


def test_the_command(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "kipoi_borzoi.attributing.loaded_models", lambda names, zoo: {name: planted_model() for name in names}
    )
    folder, out = case.folder, tmp_path / "e.tsv"
    words = ["edit", "--model", "m", "--fasta", f"{folder}/genome.fa", "--genes", f"{folder}/genes.gtf", "--motif", MOTIF,
             "--sites", str(case.bed), "--out", str(out), "--tracks", "treated", "--tracks", "control"]  # fmt: skip
    assert cli.main(words) == 0
    assert f"{out}: " in capsys.readouterr().out
    assert {line.split("\t")[8] for line in out.read_text().splitlines()[2:]} == {"mean", "treated", "control"}
    assert cli.main(words) == 1 and "exists; give --force" in capsys.readouterr().err
