"""The engine on real networks: replicates, adapters and their base give what each network gives by itself."""

import numpy as np
import pytest
from plain_scores import Plain
from test_variants_engine import CLOSE, genes_near, records, run
from variant_cases import PAIRS, make_model, small_genome, write_vcf

from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.adapters.sites import make_adapter
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.variants.alleles import Genome
from kipoi_borzoi.variants.columns import make_table
from kipoi_borzoi.variants.genes import GeneSet
from kipoi_borzoi.variants.options import Options
from kipoi_borzoi.variants.scores import GENE_SCORERS, VARIANT_SCORERS, choose

NAMES = ["SUM", "logSED", "SAX", "logD2", "JS"]


@pytest.fixture(scope="module")
def params():
    trunk = [
        {"name": "conv_dna", "filters": 6, "kernel_size": 7, "norm_type": None, "activation": "linear", "pool_size": 2},
        {"name": "res_tower", "filters_init": 6, "filters_end": 8, "kernel_size": 5, "pool_size": 2, "repeat": 3},
        {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 6},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": 4},
    ]
    head = {"name": "final", "units": 6, "activation": "softplus"}
    return {"model": {"seq_length": 384, "activation": "gelu", "norm_type": "batch", "trunk": trunk, "head_human": head}}


@pytest.fixture(scope="module")
def genome_and_text(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    contigs = small_genome(path)
    return Genome(FastaReader(path)), contigs


def test_alleles_of_every_type_on_a_network(params, genome_and_text, tmp_path, uncompiled):
    genome, text = genome_and_text
    model = make_model(params)
    vcf = write_vcf(tmp_path / "a.vcf", records(text)[:4])
    chunk = run(vcf, genome, make_table({"m": model}), Options(choose(NAMES, VARIANT_SCORERS)))
    plain = Plain(model, PAIRS)
    for place, row in enumerate(chunk.alleles):
        _, r, a = plain.alleles(text[row.chrom], row.pos, row.ref, row.alt)
        for name in NAMES:
            expected = list(plain.scores(name, r, a).values())
            np.testing.assert_allclose(chunk.scores[name].mean[place], expected, **CLOSE, err_msg=f"{row.id} {name}")


def test_an_adapter_and_its_base_are_predicted_in_one_call(params, genome_and_text, tmp_path, monkeypatch, uncompiled):
    genome, text = genome_and_text
    base = make_model(params, dtype="float32")
    sites = make_adapter(base.predictors[0].network, make_method("lora", {}), tracks=6, seed=3)
    assert isinstance(sites.adapter.scheme.method, Method)
    for variable in sites.trainable_variables:
        variable.assign(np.asarray(variable) + 0.1 * np.random.default_rng(4).standard_normal(variable.shape).astype(np.float32))
    tuned = make_model(params, dtype="float32")
    tuned.predictors = [Predictor(base.predictors[0].network, sites)]
    tuned.head = sites.head.config
    members = []

    from kipoi_borzoi.variants import members as module

    class Counted(module.Reference):
        def __init__(self, given, *args, **options):
            members.append(len(given))
            super().__init__(given, *args, **options)

    monkeypatch.setattr(module, "Reference", Counted)
    vcf = write_vcf(tmp_path / "a.vcf", records(text)[:1])
    genes = GeneSet(genes_near(), genome, "test")
    options = Options(choose(["logSED"], VARIANT_SCORERS), choose(["SED"], GENE_SCORERS), rc=True)
    chunk = run(vcf, genome, make_table({"base": base, "tuned": tuned}, separate=True), options, genes)
    assert members == [2]
    alone = [run(vcf, genome, make_table({"m": model}), options, genes) for model in (base, tuned)]
    for name, kind in (("logSED", "scores"), ("SED", "gene_scores")):
        found = getattr(chunk, kind)[name].mean
        expected = np.concatenate([getattr(one, kind)[name].mean for one in alone], axis=1)
        # float32 predictions: rounding of sums over bins, on scores that are their differences
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * np.abs(expected[~np.isnan(expected)]).max())
    assert np.abs(chunk.scores["logSED"].mean[:, :4] - chunk.scores["logSED"].mean[:, 4:]).max() > 1e-3
