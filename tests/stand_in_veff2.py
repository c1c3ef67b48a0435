"""What our bridge touches of kipoi_veff2, with the same names and the same treatment of batches, and nothing of its code."""

import csv
import types

import numpy as np


def make_modules():
    """Fresh modules ``kipoi_veff2``, ``.variant_centered`` and ``.interval_based`` by name."""
    package = types.ModuleType("kipoi_veff2")
    package.__path__ = []
    variant_centered = types.ModuleType("kipoi_veff2.variant_centered")
    interval_based = types.ModuleType("kipoi_veff2.interval_based")
    interval_based.MODEL_GROUPS = ["MMSplice"]
    _fill(variant_centered)
    package.variant_centered, package.interval_based = variant_centered, interval_based
    return {module.__name__: module for module in (package, variant_centered, interval_based)}


def _fill(module):
    import kipoi
    from kipoiseq.dataclasses import Interval, Variant
    from kipoiseq.extractors import VariantSeqExtractor

    module.kipoi = kipoi
    module.VariantSeqExtractor = VariantSeqExtractor
    module.MODEL_GROUPS = {"Basset", "DeepSEA"}
    module.VARIANT_CENTERED_MODEL_GROUP_CONFIGS = {}

    class ModelConfig:
        def __init__(
            self, model_name, batch_size=1000, transform=None, required_sequence_length=None, default_scoring_function=None
        ):
            self.model, self.batch_size, self.transform = model_name, batch_size, transform
            self.required_sequence_length = required_sequence_length
            self.default_scoring_function = default_scoring_function
            self.model_description = module.kipoi.get_model_descr(model_name)

        def get_column_labels(self, scoring_functions):
            targets = self.model_description.schema.targets
            labels = targets.column_labels or range(1, targets.shape[-1] + 1)
            assert len(labels) == targets.shape[-1]
            scores = [f"{self.model}/{label}/{one['name']}" for one in scoring_functions for label in labels]
            return ["#CHROM", "POS", "ID", "REF", "ALT", *scores]

    def column(scores):
        return scores[:, np.newaxis] if scores.ndim == 1 else scores

    def score_variants(model_config, vcf_file, fasta_file, output_file, scoring_functions=()):
        from pysam import VariantFile

        model = module.kipoi.get_model(model_config.model)
        arguments = model_config.model_description.default_dataloader.default_args
        length = model_config.required_sequence_length or arguments["auto_resize_len"]
        functions = list(scoring_functions) or [model_config.default_scoring_function]
        extractor = module.VariantSeqExtractor(fasta_file=fasta_file)
        with open(output_file, "w") as handle:
            writer = csv.writer(handle, delimiter="\t")
            writer.writerow(model_config.get_column_labels(scoring_functions=functions))
            for record in VariantFile(vcf_file):
                variant = Variant(record.chrom, record.pos, record.ref, record.alts[0], record.id)
                interval = Interval(variant.chrom, variant.pos - 1, variant.pos).resize(length)
                texts = [
                    extractor.extract(interval, variants=[], anchor=length),
                    extractor.extract(interval, variants=[variant], anchor=interval.center()),
                ]
                batch = np.stack([model_config.transform(text) for text in texts])
                ref, alt = model.predict_on_batch(batch)  # batch size 1: the first axis is that of the alleles
                scores = np.concatenate([column(one["func"](ref, alt)) for one in functions], axis=1)
                row = [variant.chrom, variant.pos, variant.id, variant.ref, variant.alt]
                writer.writerow(row + list(scores[0]))

    module.get_model_config = ModelConfig
    module.score_variants = score_variants
