"""The rule of the simulated genome once more: letter by letter, from the words of its README, with nothing of the package."""

import math
from functools import cache, lru_cache

GENE_MOTIFS = {
    "core": "TATAAAAGgcGCGCcg", "donor": "CAGGTAAGTAtg", "acceptor": "ttTTCTTTTGCAGg", "polya": "AATAAAGTGTTg",
}  # fmt: skip


@cache
def base_score(letter, consensus):
    best = 0.91 if consensus.isupper() else 0.73
    p = best if letter == consensus.upper() else (1 - best) / 3
    return round(100 * math.log2(p / 0.25))


def occupancy(word, consensus, slack):
    """Of a stretch of DNA; None where it is no site."""
    below_best = 0
    for letter, c in zip(word, consensus, strict=True):
        below_best += base_score(c.upper(), c) - base_score(letter, c)
        if below_best >= slack:
            return None
    return (slack - below_best) / slack


@lru_cache(maxsize=200)
def hits(text, consensus, slack):
    """{start: occupancy} on the strand that ``text`` spells."""
    size = len(consensus)
    found = {i: occupancy(text[i : i + size], consensus, slack) for i in range(len(text) - size + 1)}
    return {i: value for i, value in found.items() if value is not None}


def flipped(text):
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


def exons_of(text, tss):
    """Walk along ``text`` base by base."""
    donors = {i + 3 for i in hits(text, GENE_MOTIFS["donor"], 400)}
    acceptors = {i + 13 for i in hits(text, GENE_MOTIFS["acceptor"], 400)}
    ends = {i + 12 for i in hits(text, GENE_MOTIFS["polya"], 400)}
    limit = min(tss + 768, len(text))
    exons, begin, place = [], tss, tss + 1
    while True:
        if place in ends or place == limit:
            return [*exons, (begin, place)]
        if place in donors:
            usable = [a for a in sorted(acceptors) if 60 <= a - place <= 300 and a < limit]
            if usable:
                exons.append((begin, place))
                begin, place = usable[0], usable[0]
        place += 1


def sites_of(text, consensus_of_factors):
    """(factor, middle, occupancy) of every site on both strands."""
    found = []
    for factor, consensus in enumerate(consensus_of_factors):
        size = len(consensus)
        for start, value in hits(text, consensus, 560).items():
            found.append((factor, (start + start + size) // 2, value))
        for start, value in hits(flipped(text), consensus, 560).items():
            begin = len(text) - start - size
            found.append((factor, (begin + begin + size) // 2, value))
    return found


def coverage(text, consensus_of_factors, activity):
    """{'+': depth of every base, '-': ...} of a sequence in one state."""
    result = {"+": [0.0] * len(text), "-": [0.0] * len(text)}
    sites = sites_of(text, consensus_of_factors)
    for strand in "+-":
        oriented = text if strand == "+" else flipped(text)
        for start, core in hits(oriented, GENE_MOTIFS["core"], 400).items():
            tss = start + 32
            on_plus = tss if strand == "+" else len(text) - 1 - tss
            u = sum(activity[f] * occ * max(0, 1 - abs(middle - on_plus) / 640) for f, middle, occ in sites)
            log2_depth = 3 + 2 * core + 8 * u / (8 + abs(u))
            for begin, end in exons_of(oriented, tss):
                for place in range(begin, end):
                    result[strand][place if strand == "+" else len(text) - 1 - place] += 2**log2_depth
    for factor, middle, occ in sites:
        if activity[factor] > 0:
            for place in range(max(0, middle - 48), min(len(text), middle + 48)):
                for strand in "+-":
                    result[strand][place] += 16 * activity[factor] * occ
    return result
