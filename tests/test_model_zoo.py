"""The packaged zoo: complete, consistent with Calico's facts and with what generates it."""

import importlib.util
from pathlib import Path

import numpy as np
import pysam
import pytest

from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.network.weights import read_weights
from kipoi_borzoi.simulation.rule import find_transcripts
from kipoi_borzoi.simulation.simulate import SimulationOptions, simulate
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.zoo import zoo_verify
from kipoi_borzoi.zoo.describe import describe_dataloader
from kipoi_borzoi.zoo.entries import read_zoo
from kipoi_borzoi.zoo.names import PACKAGED_GROUPS, VIEWS
from kipoi_borzoi.zoo.place import packaged_zoo
from kipoi_borzoi.zoo.yaml_text import read_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DEMO = [f"BorzoiDemo/{name}" for name in ("base", "unseen1", "unseen2")]
ENTRIES = {entry.name: entry for entry in read_zoo(packaged_zoo())}


def script(name):
    path = REPOSITORY / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names():
    borzoi = [f"Borzoi/{s}/{r}" for s in ("human", "mouse") for r in ("rep0", "rep1", "rep2", "rep3", "ensemble")]
    models = [*borzoi, "BorzoiMini/k562_rna/f0", "BorzoiMini/k562_rna/f1", *DEMO]
    assert set(ENTRIES) == {f"{model}/{view}" for model in models for view in VIEWS}
    assert {name.split("/")[0] for name in ENTRIES} == set(PACKAGED_GROUPS)


@pytest.mark.parametrize("name", ENTRIES)
def test_description(name):
    entry = ENTRIES[name]
    assert entry.problem is None and entry.is_borzoi
    assert entry.args["view"] == name.rpartition("/")[2] == entry.description["schema"]["targets"]["name"]
    files = entry.files()
    for file in files:
        assert file.url is None or file.url.startswith("https://")
        assert file.path is None or file.path.is_file()
    # Kipoi finds the dataloader by this path, from the entry's name.
    dataloader = (packaged_zoo() / name / entry.description["default_dataloader"]).resolve()
    assert entry.shape("inputs")[0] == read_yaml(dataloader / "dataloader.yaml")["args"]["auto_resize_len"]["default"]
    assert entry.description["info"]["doc"] and entry.description["info"]["license"] == "Apache-2.0"


BASE = "https://storage.googleapis.com/seqnn-share/borzoi"


def test_borzoi():
    args = ENTRIES["Borzoi/human/rep2/logsum"].args
    assert args["weights"] == [f"{BASE}/f2/model0_best.h5"]
    assert (args["head"], args["transform"]) == ("human", "old")
    mouse = ENTRIES["Borzoi/mouse/ensemble/coverage"]
    assert mouse.args["weights"] == [f"{BASE}/f{fold}/model1_best.h5" for fold in range(4)]
    assert mouse.args["head"] == "mouse"
    (targets,) = [file for file in mouse.files() if file.role == "targets"]
    assert targets.url.endswith("/5c9358222b5026abb733ed5fb84f3f6c77239b37/examples/targets_mouse.txt")
    assert targets.sha256 == "b751060f82aa4ffe3cf818b49f9f066c37822cb86b88f8d736fc9a640ff5f854"
    # 524,288 bp / 32 = 16,384 bins, 16 cropped at each end
    assert mouse.shape("targets") == (6144, 2608)
    assert ENTRIES["Borzoi/human/ensemble/sum"].shape("targets") == (7611,)


def test_borzoi_params():
    config = NetworkConfig.from_params(packaged_zoo() / "Borzoi" / "params.json")
    assert (config.seq_length, config.bins, config.crop, config.bin_size) == (524288, 16352, 16, 32)
    assert [(head.key, head.units) for head in config.heads] == [("human", 7611), ("mouse", 2608)]


def test_borzoi_params_are_calicos(shared_data):
    ours = NetworkConfig.from_params(packaged_zoo() / "Borzoi" / "params.json")
    assert ours == NetworkConfig.from_params(shared_data / "borzoi" / "params_pred.json")


def test_mini():
    args = ENTRIES["BorzoiMini/k562_rna/f1/sum"].args
    assert args["params"] == f"{BASE}/mini/k562_rna/params.json"
    assert args["weights"] == f"{BASE}/mini/k562_rna/f1/model0_best.h5"
    assert args["targets"] == f"{BASE}/mini/k562_rna/hg38/targets.txt"


def test_demo_is_whole_and_says_that_it_is_simulated():
    lines = zoo_verify("BorzoiDemo", zoo=packaged_zoo(), predict=False)
    assert [line.status for line in lines] == ["ok"] * 9
    for model in DEMO:
        for view in VIEWS:
            assert "simulated" in ENTRIES[f"{model}/{view}"].description["info"]["doc"]
    folder = packaged_zoo() / "BorzoiDemo" / "base"
    config = NetworkConfig.from_params(folder / "params.json")
    assert {unit.name for unit in config.trunk} >= {
        "conv_dna",
        "res_tower",
        "transformer_tower",
        "unet_conv",
        "conv_nac",
    }
    assert len(dict(read_weights(folder / "weights.safetensors", config))) > 50
    assert len(read_tracks(folder / "targets.txt", units=32)) == 32
    assert sum(path.stat().st_size for path in packaged_zoo().rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("group, window", [("Borzoi", 524288), ("BorzoiMini", 393216), *((name, 4096) for name in DEMO)])
def test_dataloaders_are_those_of_the_class(group, window):
    """Kipoi demands exactly the arguments of the class."""
    example = "../base/example" if group.startswith("BorzoiDemo/unseen") else "example"
    expected = describe_dataloader(window, f"{example}/genome.fa.gz", f"{example}/regions.bed")
    found = read_yaml(packaged_zoo() / group / "dataloader.yaml")
    for text in (expected, found):
        text["info"].pop("version")
    assert found == expected
    folder = packaged_zoo() / (group if not group.startswith("BorzoiDemo") else "BorzoiDemo/base")
    for file in ("genome.fa.gz", "genome.fa.gz.fai", "genome.fa.gz.gzi", "regions.bed"):
        assert (folder / "example" / file).is_file()


def test_tables_are_what_the_script_writes(tmp_path, monkeypatch):
    groups = script("make_groups")
    monkeypatch.setattr(groups, "MODEL_ZOO", tmp_path)
    for group, rows in (("Borzoi", groups.borzoi_rows()), ("BorzoiMini", groups.mini_rows())):
        (tmp_path / group).mkdir()
        groups.write_table(group, rows)
        assert (tmp_path / group / "models.tsv").read_text() == (packaged_zoo() / group / "models.tsv").read_text()


def test_demo_example_is_what_the_script_writes(tmp_path):
    """The example comes from a simulation that is the same on every machine: here with fewer windows."""
    demo = script("make_demo")
    simulate(tmp_path / "sim", SimulationOptions(genes=300, genome_length=100 * 4096, transfer_cells=2, variants=100))
    (tmp_path / "example").mkdir()
    demo.write_example(tmp_path / "sim", tmp_path / "example")
    names = sorted(path.relative_to(tmp_path / "example") for path in (tmp_path / "example").rglob("*") if path.is_file())
    folder = packaged_zoo() / "BorzoiDemo" / "base" / "example"
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    with pysam.FastaFile(str(tmp_path / "sim/genome.fa.gz")) as genome, pysam.FastaFile(str(tmp_path / "example/genome.fa.gz")) as fasta:
        window = fasta.fetch("demo1", 4096, 8192)
        assert sum(genome.fetch(name).count(window) for name in genome.references) == 1
    for place in (tmp_path / "example", folder):
        genes = read_gtf(place / "genes.gtf")
        assert len(genes) > 20 and all(gene.chrom == "demo1" for gene in genes)
        check_example(place)


def check_example(folder):
    """Every variant fits the genome, and the rule reads every gene in the sequence where the annotation has it."""
    lines = [line.split("\t") for line in (folder / "variants.vcf").read_text().splitlines() if line[0] != "#"]
    assert len(lines) > 20
    with pysam.FastaFile(str(folder / "genome.fa.gz")) as fasta:
        for chrom, position, _, ref, alt, *_ in lines:
            start = int(position) - 1
            assert fasta.fetch(chrom, start, start + len(ref)).upper() == ref != alt
        codes = np.frombuffer(fasta.fetch("demo1").translate(str.maketrans("ACGT", "\0\1\2\3")).encode(), np.uint8)
    read = {transcript.exons for transcript in find_transcripts(codes)}
    assert {gene.exons for gene in read_gtf(folder / "genes.gtf")} == read


def test_source_configuration():
    constraints = read_yaml(packaged_zoo() / "config.yaml")["test"]["constraints"]
    assert set(constraints) == {f"{model}/{view}" for model in DEMO for view in VIEWS}
