"""Scores of a trained network on real variants equal those recorded from Calico's code."""

import shutil

import h5py
import numpy as np
import pytest

from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.dataloaders.vcf import VcfReader
from kipoi_borzoi.scoring import prepare_scoring
from kipoi_borzoi.variants.alleles import AlleleSource, Genome
from kipoi_borzoi.variants.columns import make_table
from kipoi_borzoi.variants.engine import Engine
from kipoi_borzoi.variants.genes import GeneSet
from kipoi_borzoi.variants.options import Options
from kipoi_borzoi.variants.scores import GENE_SCORERS, choose

NAMES = "SUM logSUM logSED sqrtSUM SAX D1 logD1 sqrtD1 D2 logD2 sqrtD2 JS".split()
# Their SED is called SUM.
GENE_NAMES = {"SED": "SUM", "logSED": "logSED", "D2": "D2", "logD2": "logD2"}


@pytest.fixture(scope="module")
def model(shared_data):
    from kipoi_borzoi.model import BorzoiModel

    folder = shared_data / "tiny_model"
    return BorzoiModel(str(folder / "params.json"), str(folder / "model.h5"), str(folder / "targets.txt"), head="human")


@pytest.fixture(scope="module")
def fasta(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    for suffix in ("", ".fai", ".gzi"):
        shutil.copyfile(shared_data / f"hg38_chr1_1mb.fa.gz{suffix}", folder / f"hg38.fa.gz{suffix}")
    return folder / "hg38.fa.gz"


def assert_close(found, recorded, largest, what):
    """1e-3 relative plus 3e-4 of the track's largest score: float32 noise of predictions, and Calico's sums in float32."""
    excess = np.abs(found - recorded) - (1e-3 * np.abs(recorded) + 3e-4 * largest)
    assert excess.max() <= 0, f"{what}: {excess.max()} above the tolerance at {np.unravel_index(excess.argmax(), excess.shape)}"


def test_scores_of_eqtls_equal_the_recorded_ones(shared_data, model, fasta):
    scoring = prepare_scoring({"tiny": model}, shared_data / "eqtl_chr1.vcf", fasta, scores=[*NAMES, "logJS"])
    (chunk,) = scoring.chunks()
    with h5py.File(shared_data / "reference/variants/eqtl_all.scores.h5") as handle:
        assert [name.decode() for name in handle["target_ids"]] == [column.tracks[0] for column in scoring.table.columns]
        assert [name.decode() for name in handle["snp"]] == [row.id for row in chunk.alleles]
        for name in NAMES:
            recorded = handle["f32"][name][:]
            assert_close(chunk.scores[name].mean, recorded, np.abs(recorded).max(axis=0), name)
    assert (chunk.scores["logJS"].mean > 0).all()


def test_gene_scores_of_snvs_equal_the_recorded_ones(shared_data, model, fasta):
    folder = shared_data / "reference/variants"
    genome = Genome(FastaReader(fasta))
    alleles = list(AlleleSource(VcfReader(folder / "gene.vcf"), genome))
    genes = GeneSet(read_gtf(folder / "genes.gtf"), genome, "genes.gtf")
    table = make_table({"tiny": model})
    engine = Engine(table, genome, Options((), choose(GENE_NAMES, GENE_SCORERS), window="gene"), genes)
    with h5py.File(folder / "gene.f32.h5") as handle:
        # The largest score of each track is over all recorded pairs, indels included.
        largest = {
            name: np.max([np.abs(gene[()]) for variant in handle[other].values() for gene in variant.values()], axis=0)
            for name, other in GENE_NAMES.items()
        }
        chosen = [one for one in alleles if one.row.id.startswith(("g01", "g04", "g09"))]
        chunk = engine.score(chosen)
        for place, gene in enumerate(chunk.genes):
            row = chunk.alleles[gene.allele]
            # Calico's code scores a gene without a strand on the - tracks, a known fault: unstranded tracks alone are compared.
            columns = [i for i, column in enumerate(table.columns) if gene.strand != "." or len(column.tracks) == 1]
            for name, other in GENE_NAMES.items():
                recorded = handle[other][row.id][gene.gene_id][()]
                found = chunk.gene_scores[name].mean[place]
                assert_close(found[columns], recorded[columns], largest[name][columns], f"{name} {row.id} {gene.gene_id}")
        pairs = {(variant, gene) for variant in handle["D1"] for gene in handle["D1"][variant]}
    near = {one.row.id: {gene.gene_id for gene in genes.centred_on("chr1", one.change.pos - 1, 131072)} for one in alleles}
    assert {(variant, gene) for variant, found in near.items() for gene in found} == pairs
    assert near["g08_snv_first_base_beyond_GD_window"] == set()
