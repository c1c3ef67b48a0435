"""Runs of attribution: what is written, what is skipped or refused, and that killed and divided runs end the same."""

import json

import h5py
import numpy as np
import pyBigWig
import pytest
from adapter_cases import METHOD_CASES
from explain_cases import MOTIF, planted_genome, planted_model
from genome_files import one_hot_by_letter, window, write_fasta
from tuned_models import make_base, parts_of, write_adapter

from kipoi_borzoi import attribute, cli, load_model, score_variants
from kipoi_borzoi.attributing import prepare_explaining
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret import methods
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.methods import Method
from kipoi_borzoi.interpret.targets import Skipped
from kipoi_borzoi.tracks import unsquash
from kipoi_borzoi.zoo import zoo_import, zoo_publish

pytestmark = pytest.mark.usefixtures("uncompiled")

IDS = ["G0", "name1", "G2", "G20"]


class Case:
    """A planted genome, its files, and a model."""

    def __init__(self, folder):
        self.folder = folder
        self.text, self.sites = planted_genome(folder)
        self.fasta, self.gtf = folder / "genome.fa", folder / "genes.gtf"
        self.contrast = folder / "contrast.tsv"
        self.contrast.write_text("name\ttrack\tweight\nchange\ttreated\t1\nchange\tcontrol\t-1\n")
        self.model = {"m": planted_model()}

    def run(self, out=None, **options):
        options = {"genes": self.gtf, "gene_ids": IDS, "contrast": self.contrast, "progress": False, **options}
        if "regions" in options:
            options["genes"] = options["gene_ids"] = None
        return attribute(self.model, self.fasta, out, **options)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("attributing"))


def contents(path):
    """All datasets of an attribution file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_planted_sites_are_what_explains_the_contrast(case):
    results = case.run()
    assert [result.name for result in results] == ["G0", "G1", "G2", "G20"]
    for result in results[:3]:
        site = case.sites[result.name] - result.start
        values = result.attribution.contributions
        inside = values[site : site + len(MOTIF)]
        assert (inside > 0).all() and inside.sum() > 0.8 * np.abs(values).sum()
        assert result.attribution.value > results[3].attribution.value + 0.05
        assert (result.end - result.start, result.window) == (512, (result.start, result.end))
        text = window(case.text, result.start, result.end)
        np.testing.assert_array_equal(result.attribution.sequence, one_hot_by_letter(text))


def test_files_hold_what_the_function_returns(case, tmp_path):
    out = tmp_path / "a.h5"
    summary = case.run(out, rc=True, shifts=[0, 1])
    assert str(summary) == "4 targets: 4 explained, 0 skipped"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bw", "a.h5", "a.scores.npz", "a.sequences.npz"]
    results = case.run(rc=True, shifts=[0, 1])
    arrays = [np.load(tmp_path / f"a.{name}.npz")["arr_0"] for name in ("sequences", "scores")]
    with AttributionFile(out) as file, pyBigWig.open(str(tmp_path / "a.bw")) as bigwig:
        assert (file.names, file.labels) == (["G0", "G1", "G2", "G20"], ["name0", "name1", "name2", "name20"])
        assert file.provenance["quantity"]["contrast"] == {"name": "change", "terms": {"treated": 1.0, "control": -1.0}}
        assert (
            file.provenance["models"][0]["weights_sha256"] and file.provenance["files"]["fasta"]["name"] == "genome.fa"
        )
        overlap = np.zeros((2, len(case.text)))
        for row, result in enumerate(results):
            one = result.attribution
            np.testing.assert_array_equal(file.contributions(row), one.contributions)
            np.testing.assert_array_equal(file.hypothetical(row), one.hypothetical)
            np.testing.assert_array_equal(file.sd(row), one.sd)
            assert one.members == 4 and np.isfinite(one.sd).all() and file.values[row] == one.value
            np.testing.assert_array_equal(arrays[0][row].T, one.sequence)
            np.testing.assert_array_equal(arrays[1][row].T, one.hypothetical)
            first, last = max(result.start, 0), min(result.end, len(case.text))
            overlap[0, first:last] += one.contributions[first - result.start : last - result.start]
            overlap[1, first:last] += 1
        assert [array.shape for array in arrays] == [(4, 4, 512)] * 2
        got = np.array(bigwig.values("c1", 0, len(case.text)))
        covered = overlap[1] > 0
        np.testing.assert_allclose(got[covered], (overlap[0] / np.maximum(overlap[1], 1))[covered], rtol=1e-6)
        assert np.isnan(got[~covered]).all() and (overlap[1] > 1).any()


def test_mutagenesis_effects_equal_the_scores_of_the_variants(case, tmp_path):
    """An independent path: the variant engine's logSED in the same window, which has pseudocount 1."""
    site = case.sites["G0"]
    (result,) = case.run(gene_ids=["G0"], contrast=None, tracks=["treated"], method="ism", span=130)
    offset = site - result.start
    assert 0 <= offset <= 121
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for position in range(site, site + 9):
        lines += [
            f"c1\t{position + 1}\t.\t{case.text[position]}\t{alt}\t.\t.\t."
            for alt in "ACGT"
            if alt != case.text[position]
        ]
    (tmp_path / "v.vcf").write_text("\n".join(lines) + "\n")
    table = score_variants(
        case.model,
        tmp_path / "v.vcf",
        case.fasta,
        genes=case.gtf,
        scores=["gene:logSED"],
        tracks=["treated"],
        window="gene",
    )
    table = table[table.gene_id == "G0"]
    assert len(table) == 27 and table.score.abs().max() > 0.1
    for row in table.itertuples():
        at = row.pos - 1 - result.start
        scores = result.attribution.hypothetical[at]
        effect = scores["ACGT".index(row.alt)] - scores["ACGT".index(row.ref)]
        assert effect == pytest.approx(row.score, abs=2e-6)


def test_a_killed_run_goes_on_and_ends_the_same(case, tmp_path, monkeypatch):
    case.run(tmp_path / "whole.h5")
    out, calls = tmp_path / "a.h5", []
    real = methods.explain

    def failing(*args):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return real(*args)

    monkeypatch.setattr("kipoi_borzoi.attributing.explain", failing)
    with pytest.raises(RuntimeError):
        case.run(out)
    assert not out.exists() and (tmp_path / "a.h5.parts").is_dir()
    part = tmp_path / "a.h5.parts" / "target-000000001"
    content = bytearray(part.read_bytes())
    content[-30] ^= 255
    part.write_bytes(content)
    with pytest.raises(InputError, match="beginning of another run: .*pseudocount was 1.0, is 2.0"):
        case.run(out, pseudocount=2.0)
    case.run(out)
    assert len(calls) == 3 + 3  # the damaged one again
    same(out, tmp_path / "whole.h5")
    assert not (tmp_path / "a.h5.parts").exists()


def test_shards_together_are_the_whole(case, tmp_path):
    case.run(tmp_path / "whole.h5")
    paths = [tmp_path / f"{number}.h5" for number in (1, 2, 3)]
    for number, path in enumerate(paths, start=1):
        case.run(path, shard=(number, 3), bigwig=False, npz=False)
    with AttributionFile(paths) as parts, AttributionFile(tmp_path / "whole.h5") as whole:
        assert parts.names == whole.names and len(parts) == 4
        for row in whole.rows():
            np.testing.assert_array_equal(parts.hypothetical(row), whole.hypothetical(row))
    with pytest.raises(InputError, match="3.h5 and .*3.h5 hold the same targets"):
        AttributionFile([paths[2], paths[0], paths[2]])
    case.run(tmp_path / "other.h5", pseudocount=2.0)
    with pytest.raises(InputError, match="other.h5 and .*1.h5 are of different runs: their quantity differ"):
        AttributionFile([paths[0], tmp_path / "other.h5"])


def test_merged_shards_are_the_whole_byte_by_byte(case, tmp_path, capsys):
    case.run(tmp_path / "whole.h5")
    paths = [str(tmp_path / f"part.{number}.h5") for number in (3, 1, 2)]
    for path in paths:
        case.run(path, shard=(int(path[-4]), 3))
    assert cli.main(["merge", *paths, "--out", str(tmp_path / "merged.h5")]) == 0
    assert "4 explained" in capsys.readouterr().out
    for suffix in ("h5", "bw", "sequences.npz", "scores.npz"):
        assert (tmp_path / f"merged.{suffix}").read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes(), suffix
    assert cli.main(["merge", *paths[1:], "--out", str(tmp_path / "less.h5")]) == 1
    assert "of 3 shards 1 are missing: 3/3" in capsys.readouterr().err
    assert cli.main(["merge", *paths, "--out", str(tmp_path / "merged.h5")]) == 1
    assert "exists; give --force" in capsys.readouterr().err
    case.run(tmp_path / "half.h5", shard=(1, 2))
    assert cli.main(["merge", paths[1], str(tmp_path / "half.h5"), "--out", str(tmp_path / "less.h5")]) == 1
    assert "is shard 1 of 2" in capsys.readouterr().err
    assert not list(tmp_path.glob("less*"))


def test_spans_lie_around_the_start_of_transcription(case):
    forward, reverse = case.run(gene_ids=["G2", "G3"], span=100)
    assert (forward.start + 50, forward.end - 50) == (400 * 2 + 260,) * 2
    assert reverse.start + 50 == 400 * 3 + 260 + 120 - 1
    whole = case.run(gene_ids=["G2"])[0]
    at = forward.start - whole.start
    np.testing.assert_array_equal(whole.attribution.hypothetical[at : at + 100], forward.attribution.hypothetical)


def test_regions_and_ratios(case, tmp_path):
    (tmp_path / "r.bed").write_text("c1\t660\t700\texon\nc1\t740\t780\tother\n")
    (tmp_path / "d.bed").write_text("c1\t740\t780\texon\nc1\t660\t700\tother\nc1\t680\t690\tother\n")
    first, second = case.run(regions=tmp_path / "r.bed", contrast=None, tracks=["treated"])
    up, down = case.run(regions=tmp_path / "r.bed", relative_to=tmp_path / "d.bed", contrast=None, tracks=["treated"])
    assert (first.name, first.start) == ("exon", 680 - 256) and first.attribution.value > 0
    # Each bin of this network sees the whole window alike, so a ratio of as many bins is 0 but for the pseudocount.
    assert up.attribution.value == pytest.approx(0, abs=0.6) and np.abs(up.attribution.contributions).max() < 1e-2
    explaining = prepare_explaining(
        case.model, case.fasta, regions=tmp_path / "r.bed", relative_to=tmp_path / "d.bed", tracks=["treated"]
    )
    terms = explaining.targets[0].quantity.terms
    start = 680 - 256 + 4 * 16
    assert [(term.sign, term.bins.tolist()) for term in terms] == [
        (1.0, list(range((660 - start) // 16, -(-(700 - start) // 16)))),
        (-1.0, list(range((740 - start) // 16, -(-(780 - start) // 16)))),
    ]


def test_what_cannot_be_explained_is_skipped_with_its_reason(case, tmp_path, caplog):
    write_fasta(tmp_path / "n.fa", {"c1": "N" * 2000 + case.text})
    (tmp_path / "r.bed").write_text("c1\t900\t950\nc9\t5\t9\nc1\t3000\t3010\nc1\t99990\t99999\n")
    results = attribute(
        case.model, tmp_path / "n.fa", regions=tmp_path / "r.bed", progress=False, contrast=case.contrast
    )
    assert [one.code if isinstance(one, Skipped) else "" for one in results] == [
        "NO_ACGT",
        "CONTIG_UNKNOWN",
        "",
        "OUT_OF_RANGE",
    ]
    assert "CONTIG_UNKNOWN 1: the FASTA has no such contig" in caplog.text
    (tmp_path / "far.gtf").write_text(
        "".join(f'c1\tx\texon\t{start}\t{start + 9}\t.\t+\t.\tgene_id "far";\n' for start in (1000, 9000))
    )
    out = tmp_path / "far.h5"
    summary = attribute(case.model, case.fasta, out, genes=tmp_path / "far.gtf", contrast=case.contrast, progress=False)
    assert str(summary) == "1 target: 0 explained, 1 skipped (NO_EXON 1)"
    with AttributionFile(out) as file:
        assert len(file) == 0 and file.skipped[0].code == "NO_EXON"


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"gene_ids": ["G0", "G99", "nobody"]},
            "genes.gtf: 2 of 3 chosen genes are not in it: 'G99', 'nobody'; it has 24 genes",
        ),
        ({"gene_ids": []}, "no genes are chosen"),
        ({"contrast": None, "tracks": ["nothing like it"]}, "'nothing like it' is no identifier"),
        ({"tracks": ["treated"]}, "give either tracks or a contrast"),
        ({"contrast_name": "other"}, "no contrast 'other' for these models; there is change"),
        ({"genes": None}, "give either genes .* or regions"),
        ({"shifts": []}, "shifts is"),
        ({"span": 513}, "span is 513 bp, expected 1 to the window's 512"),
        ({"pseudocount": -1}, "pseudocount is -1"),
        ({"method": "ig"}, "method is 'ig'"),
        ({"exon_bins": "some"}, "exon_bins is 'some'"),
    ],
)
def test_bad_arguments_are_refused(case, options, message):
    with pytest.raises(InputError, match=message):
        case.run(**options)


@pytest.mark.parametrize(
    "text, message",
    [
        ("name\ttrack\tweight\nc\ttreated\t1\n", "contrast 'c' has no weight below 0"),
        ("name\ttrack\tweight\nc\ttreated\t1\nc\tabsent\t-1\n", "absent"),
        ("contrast\ttreated_tracks\tcontrol_tracks\nc\ttreated\tx\n", "line 2: the models have no track 'x'"),
        ("contrast\ttreated_tracks\tcontrol_tracks\nc\tx\ty\n", "no contrast in it names tracks of these models"),
        ("contrast\ttreated_tracks\tcontrol_tracks\nc\ttreated\ttreated\n", "stands on both sides"),
        ("contrast\ttreated_tracks\tcontrol_tracks\nc\ttreated\t\n", "tracks on both sides"),
        ("contrast\ttreated_tracks\tcontrol_tracks\nc\ttreated\n", "line 2: 2 columns, but the header has 3"),
        (
            "contrast\ttreated_tracks\tcontrol_tracks\na\ttreated\tcontrol\nb\tcontrol\ttreated\n",
            "holds 2 contrasts, name the one",
        ),
        ("a\ttreated\t1\nb\tcontrol\t1\n", "holds 2 contrasts"),
    ],
)
def test_bad_contrasts_are_refused(case, tmp_path, text, message):
    (tmp_path / "c.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        case.run(contrast=tmp_path / "c.tsv")


def test_both_kinds_of_contrast_files_mean_the_same(case, tmp_path):
    (tmp_path / "c.tsv").write_text(
        "contrast\tcell\ttreated_tracks\tcontrol_tracks\nx\tA\tunknown1\tunknown2\nchange\tB\ttreated\tcontrol\n"
    )
    (one,), (other,) = case.run(gene_ids=["G0"], contrast=tmp_path / "c.tsv"), case.run(gene_ids=["G0"])
    np.testing.assert_array_equal(one.attribution.hypothetical, other.attribution.hypothetical)
    assert one.attribution.value == other.attribution.value


def test_tuned_less_base_is_a_contrast_of_models(case, tmp_path):
    (tmp_path / "c.tsv").write_text("name\ttrack\tweight\nd\ttuned:treated\t1\nd\tbase:treated\t-1\n")
    models = {"tuned": planted_model(), "base": planted_model(sign=0.0)}
    (result,) = attribute(
        models, case.fasta, genes=case.gtf, gene_ids=["G0"], contrast=tmp_path / "c.tsv", progress=False
    )
    (alone,) = attribute(
        {"t": models["tuned"]}, case.fasta, genes=case.gtf, gene_ids=["G0"], tracks=["treated"], progress=False
    )
    np.testing.assert_allclose(result.attribution.hypothetical, alone.attribution.hypothetical, atol=1e-6)
    assert result.attribution.value < alone.attribution.value
    with pytest.raises(InputError, match="different tracks; say by a contrast"):
        other = {"a": models["tuned"], "b": planted_model(names=("x", "y"))}
        attribute(other, case.fasta, genes=case.gtf, gene_ids=["G0"], progress=False)


def test_outputs_that_exist_are_inputs_or_cannot_be_are_refused(case, tmp_path):
    out = tmp_path / "a.h5"
    out.write_text("mine")
    for given, message in (
        (out, "exists; give --force"), (tmp_path / "a.tsv", "attributions are written as .h5"), (tmp_path / "no" / "a.h5", "does not exist"),
        (tmp_path, "written as .h5"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            case.run(given)
    assert out.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    case.run(out, force=True, gene_ids=["G0"], method=Method("shuffle", block=10, stride=10), span=50)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.bw",
        "a.h5",
    ]  # shuffling knows nothing of other bases
    for name, message in (("absent.h5", "no such file"), ("a.bw", "cannot be read as HDF5")):
        with pytest.raises(InputError, match=message):
            AttributionFile(tmp_path / name)


def test_the_command(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "kipoi_borzoi.attributing.loaded_models", lambda names, zoo: {name: planted_model() for name in names}
    )
    (tmp_path / "ids.txt").write_text("# mine\nG0\tup\nname1\n")
    out = tmp_path / "a.h5"
    words = ["attribute", "--model", "m", "--fasta", str(case.fasta), "--genes", str(case.gtf), "--gene-ids", str(tmp_path / "ids.txt"),
             "--contrast", str(case.contrast), "--out", str(out), "--rc", "--shifts=0,-1", "--no-npz"]  # fmt: skip
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "2 targets: 2 explained, 0 skipped\n"
    with AttributionFile(out) as file:
        assert file.names == ["G0", "G1"]
        assert file.provenance["ensemble"] == {"rc": True, "shifts": [0, -1], "precision": "float32"}
        assert json.loads(json.dumps(file.provenance)) == file.provenance
    assert cli.main(words) == 1
    assert "exists; give --force" in capsys.readouterr().err
    (tmp_path / "ids.txt").write_text("\n")
    assert cli.main([*words, "--force"]) == 1
    assert "no genes in it" in capsys.readouterr().err


def test_two_adapters_of_a_zoo_are_compared(case, tmp_path, capsys):
    """By the command, from published adapters with the same tracks; the values against the models' own predictions."""
    network = make_base(tmp_path / "parts", seed=1)
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    zoo_import("lab/base", **parts_of(tmp_path / "parts"), head="human", zoo=zoo)
    for name, method in (("treated", "lora"), ("control", "houlsby")):
        write_adapter(tmp_path / "adapters" / name, network, METHOD_CASES[method])
        zoo_publish(tmp_path / "adapters" / name, f"lab/{name}", zoo=zoo)
    (tmp_path / "c.tsv").write_text("tuned\tlab/treated:track2\t1\ntuned\tlab/control:track2\t-1\n")
    (tmp_path / "ids.txt").write_text("G3\n")
    words = ["attribute", "--zoo", str(zoo), "--model", "lab/treated,lab/control", "--fasta", str(case.fasta), "--genes", str(case.gtf),
             "--gene-ids", str(tmp_path / "ids.txt"), "--contrast", str(tmp_path / "c.tsv"), "--out", str(tmp_path / "a.h5")]  # fmt: skip
    assert cli.main(words) == 0, capsys.readouterr().err
    with AttributionFile(tmp_path / "a.h5") as file:
        value, start, names = file.values[0], int(file.starts[0]), [one["name"] for one in file.provenance["models"]]
        assert names == ["lab/treated", "lab/control"] and np.abs(file.contributions(0)).max() > 0
    x = one_hot_by_letter(window(case.text, start, start + 256))[None]
    logs = []
    for name in names:
        model = load_model(name, zoo=zoo)
        layout = model.config.layout
        first, size = start + layout.crop * layout.bin_size, layout.bin_size
        gene = 400 * 3 + 260
        exons = [(gene, gene + 40), (gene + 80, gene + 120)]
        bins = sorted({b for a, z in exons for b in range((a - first) // size, -(-(z - first) // size))})
        coverage = model.predict_on_batch(x, tracks=["track2"])
        linear = unsquash(coverage[0], model.tracks.select(["track2"]), model.transform, dtype=np.float64)
        logs.append(np.log2(1 + linear[bins, 0].sum()))
    assert value == pytest.approx(logs[0] - logs[1], abs=1e-5) and abs(value) > 1e-3
