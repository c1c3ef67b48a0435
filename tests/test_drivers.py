"""From differential genes to a ranked table, on a genome and a network in which the driver is known."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from explain_cases import MOTIF, planted_genome, planted_model

from kipoi_borzoi import cli, find_drivers
from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.drivers import COLUMNS
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.knockout import Place, insert, knock_out
from kipoi_borzoi.interpret.pwm import Motif

pytestmark = pytest.mark.usefixtures("uncompiled")

OTHERS = ("CAGGTTGAC", "GATTACAGG")


def meme_of(*words):
    """Words as motifs whose bases have a probability of 0.97."""
    lines = ["MEME version 4", ""]
    for word in words:
        lines += [f"MOTIF {word}", f"letter-probability matrix: alength= 4 w= {len(word)}"]
        lines += [" ".join("0.97" if base == letter else "0.01" for base in "ACGT") for letter in word]
    return "\n".join(lines) + "\n"


class Case:
    def __init__(self, folder):
        self.folder = folder
        self.text, self.sites = planted_genome(folder)
        (folder / "contrast.tsv").write_text("name\ttrack\tweight\nchange\ttreated\t1\nchange\tcontrol\t-1\n")
        (folder / "motifs.meme").write_text(meme_of(*OTHERS, MOTIF))
        self.write_genes(1)

    def write_genes(self, sign, carriers=12):
        lines = ["gene\tlog2FoldChange\tpadj"]
        lines += [
            f"G{number}\t{sign * 2.0 if number < carriers else 0.1}\t{0.001 if number < carriers else 0.8}"
            for number in range(24)
        ]
        (self.folder / "de.tsv").write_text("\n".join(lines) + "\nunknown\t3\t0.001\nuntested\tNA\tNA\n")

    def run(self, out, sign=1, model=None, **options):
        self.write_genes(sign)
        files = (self.folder / name for name in ("genome.fa", "genes.gtf", "contrast.tsv", "de.tsv", "motifs.meme"))
        model = model or planted_model(sign=float(sign))
        return find_drivers(
            {"m": model}, *files, out, **{"progress": False, "permutations": 999, "pictures": None, **options}
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("drivers"))


def read(path):
    lines = path.read_text().splitlines()
    return json.loads(lines[0].removeprefix("# ")), pd.read_csv(io.StringIO("\n".join(lines[1:])), sep="\t")


@pytest.mark.parametrize("sign", [1, -1], ids=["raises", "lowers"])
def test_the_planted_driver_is_first_with_its_sign_and_size(case, tmp_path, sign, caplog):
    found = case.run(tmp_path / "d.tsv", sign, test=1, test_genes=3)
    provenance, table = read(tmp_path / "d.tsv")
    assert tuple(table.columns) == COLUMNS and table.motif[0] == MOTIF and len(table) == 3
    first = table.iloc[0]
    assert first.direction == ("+" if sign > 0 else "-") and np.sign(first.effect) == sign
    assert first.p == 0.001 and first.p_adjusted <= 0.002 and first.concordance > 0.05
    assert (first.changed, first.unchanged, first.changed_with_hit) == (12, 12, 12)
    assert (table.p_adjusted[1:] > 0.05).all()
    # Taking the only site out brings treated back to control: minus the whole contrast.
    with AttributionFile(found.files[1]) as file:
        contrast = file.values[file.names.index("G0")]
    assert first.knock_out == pytest.approx(-contrast, abs=1e-4) and first.knock_out_genes == 3
    assert table.knock_out[1:].isna().all()
    assert provenance["files"]["de_genes"]["name"] == "de.tsv" and provenance["options"]["permutations"] == 999
    assert "1 of 25 genes are not in" in caplog.text


def test_attributions_are_kept_and_used_again(case, tmp_path, monkeypatch):
    out = tmp_path / "d.tsv"
    case.run(out, test=0)
    before = out.read_text()
    with pytest.raises(InputError, match="d.tsv: exists; give --force"):
        case.run(out, test=0)
    out.unlink()
    monkeypatch.setattr("kipoi_borzoi.drivers.write_explained", lambda *args, **options: pytest.fail("explained again"))
    case.run(out, test=0)
    assert out.read_text() == before
    out.unlink()
    with pytest.raises(InputError, match="d.attributions.h5: is of other genes, models or options; give --force"):
        case.run(out, test=0, pseudocount=2.0)


def test_pictures_are_drawn(case, tmp_path):
    found = case.run(tmp_path / "d.tsv", pictures=".svg", test=1, test_genes=1)
    names = [path.name for path in found.files]
    assert (
        names[:3] == ["d.tsv", "d.attributions.h5", "d.motifs.svg"] and names[3].startswith("d.G") and len(names) == 4
    )
    assert all(path.stat().st_size > 1000 for path in found.files)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_change": 5.0}, "0 changed genes .by 5 or more in log2, adjusted p 0.05 or less. and 12 unchanged"),
        ({"max_genes": 4}, "max_genes is 4"),
        ({"min_change": 0.0}, "min_change 0.0"),
        ({"change_column": "x"}, "no column 'x'"),
        ({"pictures": ".gif"}, "pictures are written as .png, .svg, .pdf"),
        ({"permutations": 9}, "permutations is 9"),
    ],
)
def test_bad_arguments_are_refused(case, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        case.run(tmp_path / "d.tsv", **options)
    assert not (tmp_path / "d.tsv").exists()


def test_genes_of_another_annotation_are_refused(case, tmp_path):
    (tmp_path / "de.tsv").write_text("gene\tlogFC\nENSG1\t2\nENSG2\t0\n")
    files = (
        case.folder / "genome.fa",
        case.folder / "genes.gtf",
        case.folder / "contrast.tsv",
        tmp_path / "de.tsv",
        case.folder / "motifs.meme",
    )
    with pytest.raises(
        InputError, match=r"none of its 2 genes \(such as ENSG1\) is in .*genes.gtf \(with genes such as G0\)"
    ):
        find_drivers({"m": planted_model()}, *files, tmp_path / "d.tsv")


def test_genes_may_be_limited_to_stretches(case, tmp_path):
    genes = read_gtf(case.folder / "genes.gtf")
    wanted = [gene for gene in genes if 4 <= int(gene.gene_id[1:]) < 20]
    # two stretches that touch are one: each gene is cut by a border
    lines = [f"{gene.chrom}\t{a}\t{b}" for gene in wanted for a, b in ((gene.start, gene.start + 9), (gene.start + 9, gene.end))]
    (tmp_path / "held.bed").write_text("\n".join(lines) + "\n")
    found = case.run(tmp_path / "d.tsv", test=0, within=tmp_path / "held.bed")
    assert (found.changed, found.unchanged) == (8, 8)
    with AttributionFile(found.files[1]) as file:
        assert sorted(file.names) == sorted(gene.gene_id for gene in wanted)
    assert read(tmp_path / "d.tsv")[0]["files"]["within"]["sha256"]
    (tmp_path / "held.bed").write_text("\n".join(lines[:6]) + "\n")
    with pytest.raises(InputError, match="3 changed genes .* 0 unchanged ones .* where they are wanted"):
        case.run(tmp_path / "less.tsv", test=0, within=tmp_path / "held.bed")
    (tmp_path / "held.bed").write_text("other\t0\t100\n")
    with pytest.raises(InputError, match="none of the 24 genes lies in its stretches, which are on other; the first gene is on c1"):
        case.run(tmp_path / "less.tsv", test=0, within=tmp_path / "held.bed")


def test_the_command(case, tmp_path, capsys, monkeypatch):
    case.write_genes(1)
    monkeypatch.setattr(
        "kipoi_borzoi.drivers.loaded_models", lambda names, zoo: {name: planted_model() for name in names}
    )
    folder = case.folder
    words = ["drivers", "--model", "m", "--fasta", f"{folder}/genome.fa", "--genes", f"{folder}/genes.gtf", "--contrast", f"{folder}/contrast.tsv",
             "--de-genes", f"{folder}/de.tsv", "--motifs", f"{folder}/motifs.meme", "--out", f"{tmp_path}/d.tsv", "--permutations", "199",
             "--test", "0", "--pictures", "none"]  # fmt: skip
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"12 changed and 12 unchanged genes, 3 motifs\n1. {MOTIF} (+)  z ") and "written: " in out
    assert cli.main([*words[:-2], "--motifs", f"{folder}/de.tsv", "--force"]) == 1
    assert "not a MEME file" in capsys.readouterr().err


def test_insertion_adds_what_knocking_out_removes(case):
    from kipoi_borzoi.attributing import prepare_explaining

    model = planted_model()
    explaining = prepare_explaining(
        {"m": model},
        case.folder / "genome.fa",
        genes=case.folder / "genes.gtf",
        gene_ids=["G0", "G20"],
        contrast=case.folder / "contrast.tsv",
    )
    carrier, empty = explaining.targets
    motif = Motif.of_sequence(MOTIF)
    at = case.sites["G0"] - carrier.window.start
    (out,) = knock_out(explaining.explainer, explaining.sequence(carrier), [carrier.quantity], motif, [Place(at)])
    inside = insert(
        explaining.explainer, explaining.sequence(empty), [empty.quantity], motif, [Place(100), Place(300, "-")]
    )
    assert out.effects[0] < -0.05
    for effect in inside:
        assert effect.effects[0] == pytest.approx(-out.effects[0], rel=1e-3) and np.isnan(effect.sd[0])
