"""Our side of kipoi_veff2's contract, against a stand-in for it, and against kipoi_veff2 itself where it is installed."""

import importlib
import importlib.util
import logging
import sys

import numpy as np
import pandas as pd
import pytest
from genome_files import one_hot_by_letter, random_sequence, window, write_fasta
from network_cases import make_network
from stand_in_veff2 import make_modules
from tuned_models import write_adapter
from zoo_parts import make_lively_parts, use_kipoi_home

from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.cli import main
from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.zoo import zoo_import, zoo_init, zoo_publish

LENGTH = 512
CONTIGS = {"chr1": random_sequence(3000, 1).lower(), "chr2": random_sequence(700, 2)}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo with ``lab/mine`` and the adapter ``lab/tuned`` of it, registered as source ``borzoi``."""
    folder = tmp_path_factory.mktemp("veff2")
    with pytest.MonkeyPatch.context() as patch:
        use_kipoi_home(folder / "home", patch)
        zoo_init(folder / "zoo")
        parts = make_lively_parts(folder / "parts", _small_params())
        zoo_import("lab/mine", **parts, head="human", zoo=folder / "zoo")
        network = make_network(_small_params(), seed=1, dtype="float32")
        write_adapter(folder / "adapters" / "tuned", network, Lora(rank=2), base="lab/mine")
        zoo_publish(folder / "adapters" / "tuned", "lab/tuned", zoo=folder / "zoo")
        yield folder / "zoo"


def _small_params():
    trunk = [
        {"name": "conv_dna", "filters": 8, "kernel_size": 15, "norm_type": None, "activation": "linear", "pool_size": 2},
        {"name": "res_tower", "filters_init": 8, "filters_end": 16, "divisible_by": 4, "kernel_size": 5, "num_convs": 1,
         "pool_size": 2, "repeat": 4},
        {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 8, "repeat": 1},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": 2},
        {"name": "conv_nac", "filters": 24},
    ]  # fmt: skip
    head = {"name": "final", "units": 6, "activation": "softplus"}
    return {"model": {"seq_length": LENGTH, "activation": "gelu", "norm_type": "batch", "trunk": trunk, "head_human": head}}


@pytest.fixture(params=["stand-in", "kipoi_veff2"])
def tool(request, zoo, monkeypatch):
    """kipoi_veff2 as it is before our scorers are imported."""
    names = [name for name in sys.modules if name.split(".")[0] == "kipoi_veff2"]
    for name in [*names, "kipoi_borzoi.veff2"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    if request.param == "stand-in":
        for name, module in make_modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    elif importlib.util.find_spec("kipoi_veff2") is None:
        pytest.skip("kipoi_veff2 is not installed: it can only be cloned from its repository")
    return importlib.import_module("kipoi_veff2.variant_centered")


@pytest.fixture(scope="module")
def model(zoo):
    """Plain predictions of the entry's sums, by text."""
    import kipoi

    loaded = kipoi.get_model("lab/mine/sum", source="borzoi")
    return lambda text: loaded.predict_on_batch(one_hot_by_letter(text)[np.newaxis])[0]


def test_an_adapter_entry_is_scored_as_itself(tool, fasta, tmp_path):
    import kipoi

    record = ("chr1", 1500, base("chr1", 1500), other(base("chr1", 1500)))
    table = score(tool, "lab/tuned/sum", write_vcf(tmp_path / "in.vcf", [record]), fasta, tmp_path / "o.tsv", ["diff", "ref"])
    tuned = kipoi.get_model("lab/tuned/sum", source="borzoi")
    ref, alt = (tuned.predict_on_batch(one_hot_by_letter(text)[np.newaxis])[0] for text in alleles(*record))
    found = table.iloc[0, 5:].values.astype(float).reshape(2, -1)
    np.testing.assert_allclose(found, [alt - ref, ref], rtol=1e-5, atol=2e-6 * ref.max())
    assert found.shape == (2, 3) and table.columns[5].startswith("lab/tuned/sum/") and np.abs(alt - ref).min() > 0


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "genome.fa", CONTIGS)


def base(chrom, pos):
    return CONTIGS[chrom][pos - 1].upper()


def other(letter):
    return "CGTA"["ACGT".index(letter)]


def write_vcf(path, records, extra=()):
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name},length={len(text)}>" for name, text in CONTIGS.items())]
    lines += [*extra, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"{chrom}\t{pos}\t{number}\t{ref}\t{alt}\t.\t.\t." for number, (chrom, pos, ref, alt) in enumerate(records)]
    path.write_text("\n".join(lines) + "\n")
    return path


def score(tool, model_name, vcf, fasta, output, scorers):
    """What kipoi_veff2's command does for ``-s kipoi_borzoi.veff2.SCORER ... -m MODEL_NAME``."""
    module = importlib.import_module("kipoi_borzoi.veff2")
    functions = [{"name": name, "func": getattr(module, name)} for name in scorers]
    group = model_name.split("/")[0]
    assert group in tool.MODEL_GROUPS
    config = tool.get_model_config(model_name=model_name, **tool.VARIANT_CENTERED_MODEL_GROUP_CONFIGS[group])
    tool.score_variants(config, str(vcf), str(fasta), str(output), functions)
    return pd.read_csv(output, sep="\t")


def alleles(chrom, pos, ref, alt):
    """Both windows; the anchor, which the window is filled from, is the position behind the variant's first base."""
    text = CONTIGS[chrom].upper()
    left, right = text[: pos - 1] + alt[:1], alt[1:] + text[pos - 1 + len(ref) :]
    if len(ref) == 1:  # kipoiseq puts an insertion in front of the anchor
        left, right = text[: pos - 1] + alt, text[pos:]
    half, ends = LENGTH // 2, "N" * LENGTH
    return window(text, pos - half, pos + half), (ends + left)[-half:] + (right + ends)[:half]


VARIANTS = [("chr1", 1500), ("chr1", 5), ("chr1", 2998), ("chr2", 350)]


def test_every_track_of_every_scorer_by_hand(tool, model, fasta, tmp_path):
    records = [(chrom, pos, base(chrom, pos), other(base(chrom, pos))) for chrom, pos in VARIANTS]
    vcf = write_vcf(tmp_path / "in.vcf", records)
    table = score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff", "ref", "alt", "SUM", "logSED"])
    tracks = [f"human{index}" for index in range(6)]
    scorers = ["diff", "ref", "alt", "SUM", "logSED"]
    assert list(table.columns[:5]) == ["#CHROM", "POS", "ID", "REF", "ALT"]
    assert list(table.columns[5:]) == [f"lab/mine/sum/{track}/{name}" for name in scorers for track in tracks]
    assert table[["#CHROM", "POS", "REF", "ALT"]].values.tolist() == [list(record) for record in records]
    for row, record in enumerate(records):
        ref, alt = map(model, alleles(*record))
        expected = [alt - ref, ref, alt, alt - ref, np.log2(1 + alt) - np.log2(1 + ref)]
        found = table.iloc[row, 5:].values.astype(float).reshape(5, 6)
        # Batches of two and of one round differently, by 1e-6 of a sum.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * ref.max())
        assert np.abs(found[0]).max() > 1e-4 * ref.max()


def test_insertions_and_deletions(tool, model, fasta, tmp_path):
    text = CONTIGS["chr1"].upper()
    records = [("chr1", 1500, base("chr1", 1500), base("chr1", 1500) + "ACGTT"), ("chr1", 1400, text[1399:1403], text[1399])]
    table = score(tool, "lab/mine/sum", write_vcf(tmp_path / "in.vcf", records), fasta, tmp_path / "o.tsv", ["alt"])
    for row, record in enumerate(records):
        expected = model(alleles(*record)[1])
        np.testing.assert_allclose(table.iloc[row, 5:].values.astype(float), expected, rtol=1e-5)


def test_logsum_gives_the_same_scores_as_sum(tool, fasta, tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, base("chr1", 1500), other(base("chr1", 1500)))])
    tables = {
        view: score(tool, f"lab/mine/{view}", vcf, fasta, tmp_path / f"{view}.tsv", ["SUM", "logSED"]).iloc[:, 5:].values
        for view in ("sum", "logsum")
    }
    np.testing.assert_allclose(tables["logsum"], tables["sum"], rtol=1e-7, atol=1e-9)


def test_default_scorer_is_diff(tool, fasta, tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, base("chr1", 1500), other(base("chr1", 1500)))])
    module = importlib.import_module("kipoi_borzoi.veff2")
    config = tool.get_model_config(model_name="lab/mine/sum", **tool.VARIANT_CENTERED_MODEL_GROUP_CONFIGS["lab"])
    assert config.default_scoring_function == {"name": "diff", "func": module.diff}
    assert config.batch_size == 1
    assert config.transform("acgtN").tolist() == one_hot_by_letter("ACGTN").tolist()
    tool.score_variants(config, str(vcf), str(fasta), str(tmp_path / "o.tsv"), [])
    assert pd.read_csv(tmp_path / "o.tsv", sep="\t").columns[-1] == "lab/mine/sum/human5/diff"


def test_labels_come_from_the_loaded_model_where_the_description_has_none(tool, zoo, fasta, tmp_path):
    path = zoo / "lab" / "mine" / "sum" / "model.yaml"
    text = path.read_text()
    start = text.index("    column_labels:")
    path.write_text(text[:start])
    try:
        vcf = write_vcf(tmp_path / "in.vcf", [("chr2", 350, base("chr2", 350), other(base("chr2", 350)))])
        table = score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
        assert list(table.columns[5:]) == [f"lab/mine/sum/human{index}/diff" for index in range(6)]
    finally:
        path.write_text(text)


def test_groups_of_the_tool_stay_its_own(tool, zoo, monkeypatch):
    before = set(tool.MODEL_GROUPS)
    (zoo / "Basset").mkdir()
    (zoo / "Basset" / "model.yaml").write_text("defined_as: kipoi_borzoi.model.BorzoiModel\n")
    try:
        module = importlib.import_module("kipoi_borzoi.veff2")
    finally:
        (zoo / "Basset" / "model.yaml").unlink()
        (zoo / "Basset").rmdir()
    assert tool.MODEL_GROUPS - before == set(module.GROUPS)
    assert {"lab", "borzoi:lab", "BorzoiDemo", "borzoi:Basset"} <= set(module.GROUPS)
    assert "Basset" not in module.GROUPS and "Basset" not in tool.VARIANT_CENTERED_MODEL_GROUP_CONFIGS
    asked = []
    monkeypatch.setattr(tool.kipoi._kipoi, "get_model_descr", lambda name: asked.append(name))
    tool.kipoi.get_model_descr("Basset")
    assert asked == ["Basset"]


def test_entries_of_two_sources_are_told_apart(tool, zoo, tmp_path, fasta):
    import kipoi

    kipoi.config.add_source("second", {"type": "local", "local_path": str(zoo)})
    try:
        vcf = write_vcf(tmp_path / "in.vcf", [("chr2", 350, base("chr2", 350), other(base("chr2", 350)))])
        with pytest.raises(ZooError, match="borzoi:lab/mine/sum or second:lab/mine/sum"):
            score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
        table = score(tool, "second:lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
        assert len(table) == 1
    finally:
        kipoi.config.model_sources().pop("second")


def test_binned_and_unknown_entries_are_refused(tool):
    importlib.import_module("kipoi_borzoi.veff2")
    options = tool.VARIANT_CENTERED_MODEL_GROUP_CONFIGS["lab"]
    with pytest.raises(InputError, match="lab/mine/sum or lab/mine/logsum"):
        tool.get_model_config(model_name="lab/mine/coverage", **options)
    with pytest.raises(ZooError, match="near matches: lab/mine/sum"):
        tool.get_model_config(model_name="lab/mind/sum", **options)


REF = base("chr1", 1500)
BAD = {
    "several ALTs": ("chr1", 1500, REF, ",".join(letter for letter in "ACGT" if letter != REF)),
    "REF differs": ("chr1", 1500, other(REF), REF),
    "not of A, C, G and T": ("chr1", 1500, REF, "<DEL>"),
    "no such contig": ("chr9", 10, "A", "C"),
    "beyond the contig": ("chr2", 701, "A", "C"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_would_be_scored_wrongly_is_refused_before_anything_is_written(tool, fasta, tmp_path, fault):
    good = ("chr1", 1400, base("chr1", 1400), other(base("chr1", 1400)))
    extra = ['##ALT=<ID=DEL,Description="deletion">', "##contig=<ID=chr9,length=100>"]
    vcf = write_vcf(tmp_path / "in.vcf", [good, BAD[fault], BAD[fault]], extra)
    with pytest.raises(InputError) as caught:
        score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
    assert "2 of 3 records" in str(caught.value) and fault in str(caught.value)
    assert f"{BAD[fault][0]}:{BAD[fault][1]}" in str(caught.value)
    assert not (tmp_path / "out.tsv").exists()


def test_a_file_without_records_is_refused(tool, fasta, tmp_path):
    with pytest.raises(InputError, match="no record"):
        score(tool, "lab/mine/sum", write_vcf(tmp_path / "in.vcf", []), fasta, tmp_path / "out.tsv", ["diff"])


def test_a_failure_on_the_way_leaves_the_old_output(tool, fasta, tmp_path, monkeypatch):
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, REF, other(REF))])
    (tmp_path / "out.tsv").write_text("before")
    module = importlib.import_module("kipoi_borzoi.veff2")
    monkeypatch.setattr(module, "diff", lambda ref, alt: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
    assert (tmp_path / "out.tsv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "genome.fa.fai", "in.vcf", "out.tsv"]


def test_other_batch_sizes_are_refused(tool, fasta, tmp_path):
    importlib.import_module("kipoi_borzoi.veff2")
    options = {**tool.VARIANT_CENTERED_MODEL_GROUP_CONFIGS["lab"], "batch_size": 8}
    config = tool.get_model_config(model_name="lab/mine/sum", **options)
    with pytest.raises(InputError, match="batch_size is 8, expected 1"):
        tool.score_variants(config, "in.vcf", str(fasta), str(tmp_path / "out.tsv"))


def test_the_verb_takes_options_in_any_order(tool, fasta, tmp_path, capsys):
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, REF, other(REF))])
    out = tmp_path / "out.tsv"
    assert main(["veff2", str(vcf), "-m", "lab/mine/sum", str(fasta), "-s", "logSED", str(out), "-s", "diff"]) == 0
    assert "12 columns" in capsys.readouterr().out
    assert pd.read_csv(out, sep="\t").shape == (1, 17)


@pytest.mark.parametrize(
    "change, message",
    [
        (("-s", "SED"), "unknown scorer 'SED'; known: diff, ref, alt, SUM, logSED"),
        (("-m", "nolab/mine/sum"), "no group 'nolab'"),
        (("-m", "lab/mine/coverage"), "coverage per bin"),
        (("out", "in.vcf"), "the output is one of the inputs"),
        (("out", "nowhere/out.tsv"), "there is no folder"),
        (("vcf", "absent.vcf"), "absent.vcf: no such file"),
    ],
)
def test_the_verb_says_what_is_wrong_in_one_line(tool, fasta, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    write_vcf(tmp_path / "in.vcf", [("chr1", 1500, REF, other(REF))])
    arguments = {"vcf": "in.vcf", "fasta": str(fasta), "out": "out.tsv", "-m": "lab/mine/sum", "-s": "diff"}
    arguments.update([change])
    words = [arguments[name] for name in ("vcf", "fasta", "out")]
    assert main(["veff2", *words, "-m", arguments["-m"], "-s", arguments["-s"]]) == 1
    err = capsys.readouterr().err
    assert message in err and len([line for line in err.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out.tsv").exists()


def test_without_kipoi_veff2_scorers_work_and_the_verb_names_the_command(zoo, fasta, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "kipoi_veff2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kipoi_veff2", None)
    monkeypatch.delitem(sys.modules, "kipoi_borzoi.veff2", raising=False)
    module = importlib.import_module("kipoi_borzoi.veff2")
    assert module.GROUPS == []
    ref, alt = np.array([[1.0, 3.0]]), np.array([[3.0, 1.0]])
    assert module.logSED(ref, alt).tolist() == [[1.0, -1.0]] and module.SUM(ref, alt).tolist() == [[2.0, -2.0]]
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, REF, other(REF))])
    assert main(["veff2", str(vcf), str(fasta), str(tmp_path / "o.tsv"), "-m", "lab/mine/sum"]) == 1
    assert "git clone https://github.com/kipoi/kipoi-veff2" in capsys.readouterr().err


def test_nothing_is_logged_without_a_reason(tool, fasta, tmp_path, caplog):
    vcf = write_vcf(tmp_path / "in.vcf", [("chr1", 1500, REF, other(REF))])
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        score(tool, "lab/mine/sum", vcf, fasta, tmp_path / "out.tsv", ["diff"])
    assert not caplog.records
