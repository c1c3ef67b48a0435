"""How alleles are predicted and scored: what can be checked before a network is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.scores import Scorer

WINDOWS = ("variant", "cluster", "gene")
INDELS = ("align", "none")


@dataclass(frozen=True)
class Options:
    """How alleles are predicted and scored.

    Attributes
    ----------
    scorers, gene_scorers : tuple of Scorer
    rc : bool
        Average the predictions of both strands.
    shifts : tuple of int
        bp by which the window's sequence is moved; scores are means over them.
    indels : {'align', 'none'}
        Whether the bins behind an insertion or deletion are compared with those of the same sequence.
    window : {'variant', 'cluster', 'gene'}
        Each allele in a window of its own; neighbours in a shared one; or, for gene scores, each gene in the
        window around its midpoint, as Calico's ``hound_snpgene`` does.
    precision : {'float32', 'mixed_bfloat16'}
    specificity : bool
        Whether to tell each score apart from its mean over the other columns.
    """

    scorers: tuple[Scorer, ...]
    gene_scorers: tuple[Scorer, ...] = ()
    rc: bool = False
    shifts: tuple[int, ...] = (0,)
    indels: str = "align"
    window: str = "variant"
    precision: str = "float32"
    specificity: bool = False

    def __post_init__(self):
        for name, value, known in (("window", self.window, WINDOWS), ("indels", self.indels, INDELS)):
            if value not in known:
                raise InputError(f"{name} is {value!r}; known: {', '.join(known)}")
        if not (self.scorers or self.gene_scorers):
            raise InputError("no scorers are chosen")
        if not self.shifts or len(set(self.shifts)) < len(self.shifts):
            raise InputError(f"shifts is {list(self.shifts)}, expected one or more different numbers of bp")
        if self.window == "gene" and not self.gene_scorers:
            raise InputError("window 'gene' is for gene scores: it needs genes and a gene scorer")
