"""Variant effects: from a VCF to scores per allele, track and gene."""
