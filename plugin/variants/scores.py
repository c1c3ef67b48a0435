"""The scores: each a frozen object that knows its formula, its sign, and how the two strands of a track are put together.

NumPy only. Formulas are those of Calico's ``hound_snp`` and ``hound_snpgene``, which score unsquashed
coverage; where these fail (JS with several shifts, logJS always 0) the definition is that of the text below.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from kipoi_borzoi.errors import InputError

SUM_STRANDS = "sum"
"""The scores of the two strands are added."""

ROOT_OF_SQUARES = "root of the sum of squares"
"""Euclidean norms of the two strands become the norm over both."""


@dataclass(frozen=True)
class Scorer:
    """A rule that makes one number of the predictions for two alleles.

    Attributes
    ----------
    name : str
        Unique among the scorers per allele, and among those per gene.
    formula : str
        In words and symbols: r, a are the bins of the reference's and alternative's predicted coverage.
    signed : bool
        Whether the sign says which allele has more.
    description : str
        One line: what it is good for.
    function : callable or None
        From (ref, alt), each (bins, tracks) on the scorer's scale, to (tracks,) float64. None for the
        predictions themselves, which are no number per track.
    scale : {'linear', 'log', 'sqrt'}
        What is done to coverage x before: nothing, log2(1 + x), sqrt(x).
    strands : {'sum', 'root of the sum of squares'}
        How the scores of a track's two strands become one.
    over : {'window', 'exons', 'span', 'sites'}
        Which bins ``function`` gets: all, or those of one gene: of its exons, of all between the first and the
        last exon, of its polyadenylation sites.
    """

    name: str
    formula: str
    signed: bool
    description: str
    function: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    scale: str = "linear"
    strands: str = SUM_STRANDS
    over: str = "window"

    @property
    def per_gene(self) -> bool:
        """Whether there is a score per allele and gene."""
        return self.over != "window"

    @property
    def is_profile(self) -> bool:
        """Whether the result is a number per bin."""
        return self.function is None

    def __call__(self, ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
        """Score unsquashed coverage, each (bins, tracks): (tracks,) float64."""
        return self.function(SCALES[self.scale](ref), SCALES[self.scale](alt))

    def combine(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Put the scores of the two strands together, element by element."""
        return np.hypot(first, second) if self.strands == ROOT_OF_SQUARES else first + second


def total(x: np.ndarray) -> np.ndarray:
    """Sum over bins in float64, (..., bins, tracks) to (..., tracks): float32 sums near 3e4 move in steps of 0.002."""
    return x.sum(axis=-2, dtype=np.float64)


def log2_of(x: np.ndarray) -> np.ndarray:
    """log2(1 + x), in the type of ``x``."""
    return np.log1p(x) * x.dtype.type(1 / np.log(2))


SCALES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"linear": lambda x: x, "log": log2_of, "sqrt": np.sqrt}
"""What scorers do to coverage first."""


def sum_difference(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """SUM: sum over bins of alt - ref.

    Parameters
    ----------
    ref, alt : (bins, tracks) float
        Coverage, 0 or more.

    Returns
    -------
    (tracks,) float64
    """
    return total(alt - ref)


def log_of_sums(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """logSED: log2(1 + sum of alt) - log2(1 + sum of ref); see `sum_difference`."""
    return np.log2(1 + total(alt)) - np.log2(1 + total(ref))


def largest_difference(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """SAX: alt - ref at the bin where it is largest in size (the first of equals); see `sum_difference`."""
    difference = alt - ref
    at = np.abs(difference).argmax(axis=0)
    return np.take_along_axis(difference, at[None], axis=0)[0].astype(np.float64)


def l1(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """D1: sum over bins of |alt - ref|; see `sum_difference`."""
    return total(np.abs(alt - ref))


def l2(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """D2: square root of the sum over bins of (alt - ref)^2; see `sum_difference`."""
    difference = (alt - ref).astype(np.float64)
    return np.sqrt(np.einsum("bt,bt->t", difference, difference))


def jensen_shannon(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """JS: mean of the two relative entropies (natural logarithm) between the distributions over bins.

    The 25th percentile of the reference's bins is added to both before each is divided by its sum.
    See `sum_difference`. Where that leaves a bin empty in one distribution alone, the result is infinite;
    where a track is empty in both, 0.
    """
    floor = np.percentile(ref, 25, axis=0).astype(np.float64)
    p, q = _distribution(ref + floor), _distribution(alt + floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        # (p ln(p/q) + q ln(q/p)) / 2 as one term: nothing cancels between two nearly equal distributions
        terms = (p - q) * np.log(p / q)
    return np.where(p == q, 0, terms).sum(axis=0) / 2


def _distribution(x: np.ndarray) -> np.ndarray:
    """Each column divided by its sum; an empty one stays empty."""
    sums = x.sum(axis=0)
    return np.divide(x, sums, out=np.zeros_like(x), where=sums > 0)


def normalized_difference(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """nDi: largest |difference| over bins between the coverages, each divided by its own sum; see `sum_difference`.

    Of a gene whose bins are all empty in one of the alleles the result is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(alt / total(alt) - ref / total(ref)).max(axis=0).astype(np.float64)


def coverage_ratio(ref: np.ndarray, alt: np.ndarray) -> np.ndarray:
    """COVR: largest change of the ratio of coverage behind and before a split of a gene's polyadenylation sites.

    Parameters
    ----------
    ref, alt : (sites, tracks) float
        Coverage at the bins of a gene's sites, in the direction of transcription; two sites or more.

    Returns
    -------
    (tracks,) float64
        Largest over the splits of |log2 of (mean behind / mean before) of alt over the same of ref|; NaN where
        coverage is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        splits = [_log_ratio(alt, at) - _log_ratio(ref, at) for at in range(1, len(ref))]
        return np.abs(splits).max(axis=0)


def _log_ratio(coverage: np.ndarray, at: int) -> np.ndarray:
    return np.log2(coverage[at:].mean(axis=0, dtype=np.float64) / coverage[:at].mean(axis=0, dtype=np.float64))


_LOG, _SQRT = "after log2(1 + x) of both", "after sqrt(x) of both"

_VARIANT_SCORERS = (
    Scorer("SUM", "sum_b(a - r)", True, "change of total coverage", sum_difference),
    Scorer("logSUM", "sum_b(log2(1 + a) - log2(1 + r))", True, "the same, bins of low coverage weigh more", sum_difference, "log"),
    Scorer("sqrtSUM", "sum_b(sqrt(a) - sqrt(r))", True, "between SUM and logSUM", sum_difference, "sqrt"),
    Scorer("logSED", "log2(1 + sum_b a) - log2(1 + sum_b r)", True, "log fold change of total coverage", log_of_sums),
    Scorer("SAX", "(a - r) at the bin of largest |a - r|", True, "the strongest local change", largest_difference),
    Scorer("D1", "sum_b |a - r|", False, "change of coverage anywhere, up or down", l1),
    Scorer("D2", "sqrt(sum_b (a - r)^2)", False, "the same, strong local changes weigh more", l2, strands=ROOT_OF_SQUARES),
    Scorer("logD1", f"D1 {_LOG}", False, "D1, bins of low coverage weigh more", l1, "log"),
    Scorer("logD2", f"D2 {_LOG}", False, "D2, bins of low coverage weigh more", l2, "log", ROOT_OF_SQUARES),
    Scorer("sqrtD1", f"D1 {_SQRT}", False, "between D1 and logD1", l1, "sqrt"),
    Scorer("sqrtD2", f"D2 {_SQRT}", False, "between D2 and logD2", l2, "sqrt", ROOT_OF_SQUARES),
    Scorer(
        "JS", "(KL(p, q) + KL(q, p)) / 2; p = (r + c) / sum_b(r + c), q likewise of a; c = 25th percentile over bins of r",
        False, "change of the shape of coverage, whatever its total", jensen_shannon,
    ),
    Scorer("logJS", f"JS {_LOG}", False, "JS, bins of low coverage weigh more", jensen_shannon, "log"),
    Scorer("REF", "r, per bin", False, "predicted coverage of the reference"),
    Scorer("ALT", "a, per bin", False, "predicted coverage of the alternative"),
)  # fmt: skip

_GENE_SCORERS = (
    Scorer("SED", "sum_e(a - r); e = bins of the gene's exons", True, "change of a gene's coverage", sum_difference,
           over="exons"),
    Scorer("logSED", "log2(1 + sum_e a) - log2(1 + sum_e r)", True, "log fold change of a gene's coverage",
           log_of_sums, over="exons"),
    Scorer("D2", "sqrt(sum_e (a - r)^2)", False, "change anywhere in a gene's exons", l2, "linear", ROOT_OF_SQUARES, "exons"),
    Scorer("logD2", f"D2 {_LOG}", False, "D2, bins of low coverage weigh more", l2, "log", ROOT_OF_SQUARES, "exons"),
    Scorer("nDi", "max_g |a / sum_g a - r / sum_g r|; g = bins from the gene's first to its last exon", False,
           "splicing: change of the shape of a gene's coverage", normalized_difference, over="span"),
    Scorer("COVR", "max over splits of |log2((mean a behind / mean a before) / (same of r))| at polyadenylation sites", False,
           "polyadenylation: change of the balance between a gene's ends; needs --polya", coverage_ratio, over="sites"),
)  # fmt: skip

VARIANT_SCORERS: Mapping[str, Scorer] = {scorer.name: scorer for scorer in _VARIANT_SCORERS}
"""Scorers per allele and track, by name."""

GENE_SCORERS: Mapping[str, Scorer] = {scorer.name: scorer for scorer in _GENE_SCORERS}
"""Scorers per allele, gene and track, by name."""

DEFAULT_SCORES = ("SUM", "logSUM", "logD2")
DEFAULT_GENE_SCORES = ("SED", "logSED")


def score_all(ref: np.ndarray, alt: np.ndarray, scorers: Iterable[Scorer]) -> dict[str, np.ndarray]:
    """Score one pair of predictions with several scorers; what they share is computed once.

    Parameters
    ----------
    ref, alt : (bins, tracks) float
        Unsquashed coverage, 0 or more.
    scorers : iterable of Scorer

    Returns
    -------
    dict of str to (tracks,) float64
    """
    scaled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    scores = {}
    for scorer in scorers:
        if scorer.scale not in scaled:
            scaled[scorer.scale] = SCALES[scorer.scale](ref), SCALES[scorer.scale](alt)
        scores[scorer.name] = scorer.function(*scaled[scorer.scale])
    return scores


def choose(names: Iterable[str], known: Mapping[str, Scorer]) -> tuple[Scorer, ...]:
    """The scorers of these names, in this order.

    Raises
    ------
    InputError
        When one is unknown or comes twice.
    """
    chosen: dict[str, Scorer] = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), {other.lower(): other for other in known}, n=1)
            hint = "".join(f"; did you mean {other}?" for other in known if other.lower() in near)
            raise InputError(f"unknown scorer {name!r}; known: {', '.join(known)}{hint}")
        if name in chosen:
            raise InputError(f"scorer {name!r} is asked for twice")
        chosen[name] = known[name]
    return tuple(chosen.values())
