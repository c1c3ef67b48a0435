"""Variant scores computed slowly and plainly, as a check on the package: text for genomes, loops for formulas, whole passes."""

import math

import numpy as np
from genome_files import one_hot_by_letter, window


def haplotype(sequence, pos, ref, alt):
    """The whole contig with one allele in place; ``pos`` 1-based."""
    assert sequence[pos - 1 : pos - 1 + len(ref)] == ref.upper()
    return sequence[: pos - 1] + alt.upper() + sequence[pos - 1 + len(ref) :]


def difference(sequence, other):
    """(0-based start, removed, inserted) between two contigs: what they share at the end is as long as possible."""
    shortest = min(len(sequence), len(other))
    behind = 0
    while behind < shortest and sequence[-1 - behind] == other[-1 - behind]:
        behind += 1
    before = 0
    while before < shortest - behind and sequence[before] == other[before]:
        before += 1
    return before, sequence[before : len(sequence) - behind], other[before : len(other) - behind]


def centre(sequence, other):
    """1-based position that the window is centred on."""
    start, removed, inserted = difference(sequence, other)
    return start + 1 if removed and inserted else start


def unsquashed(coverage, tracks):
    """Transform 'new', value by value: (bins, tracks)."""
    result = np.empty(coverage.shape, dtype=np.float64)
    for t in range(coverage.shape[1]):
        for b in range(coverage.shape[0]):
            x, c = float(coverage[b, t]), float(tracks.clip_soft[t])
            if x > c:
                x = c - 1 + (x - c + 1) ** 2
            result[b, t] = (x + 1) ** 2 - 1 if tracks.sum_stat[t].endswith("_sqrt") else x
    return result


class Plain:
    """Predicts and scores with one network whose whole head is predicted.

    ``pairs`` maps a column's name to its rows, one or two.
    """

    def __init__(self, model, pairs, rc=False, shifts=(0,)):
        self.model, self.pairs, self.rc, self.shifts = model, pairs, rc, shifts
        self.length, self.crop = model.config.seq_length, model.config.crop
        self.bin = model.config.layout.bin_size

    def predict(self, text, moved=0):
        """Coverage of a window moved right by ``moved`` bp: per shift (bins, tracks), not unsquashed."""
        result = []
        for by in self.shifts:
            x = one_hot_by_letter(shifted(shifted(text, moved), by))
            coverage = self.run(x)
            if self.rc:
                other = self.run(x[::-1, ::-1])[::-1][:, self.model.tracks.strand_pair]
                coverage = (coverage + other) / 2
            result.append(unsquashed(coverage, self.model.tracks))
        return result

    def run(self, x):
        (predictor,) = self.model.predictors
        return predictor.predict(np.ascontiguousarray(x)[None], head=self.model.head.name, crop=self.crop)[0]

    def alleles(self, sequence, pos, ref, alt, start=None, align=True, shared=False):
        """Window start and the unsquashed coverage of both alleles, per shift, with bins matched."""
        other = haplotype(sequence, pos, ref, alt)
        at = centre(sequence, other)
        start = at - self.length // 2 if start is None else start
        one = window(sequence, start, start + self.length)
        two = window(other, start, start + self.length)
        size = len(alt) - len(ref)
        r, a = self.predict(one), self.predict(two)
        if size and align:
            last = (at - 1 - start) // self.bin - self.crop
            keep = max(0, last + 1)
            if size < 0 and not shared:
                r = [np.concatenate([x[:keep], y[keep:]]) for x, y in zip(r, self.predict(one, size), strict=True)]
            else:
                a = [np.concatenate([x[:keep], y[keep:]]) for x, y in zip(a, self.predict(two, -size), strict=True)]
        return start, r, a

    def scores(self, name, r, a):
        """One scorer's column scores: mean over shifts, strands put together."""
        per_shift = [[TRACK[name](x[:, t], y[:, t]) for t in range(x.shape[1])] for x, y in zip(r, a, strict=True)]
        tracks = [sum(values) / len(values) for values in zip(*per_shift, strict=True)]
        return {column: joined(name, [tracks[row] for row in rows]) for column, rows in self.pairs.items()}

    def gene_scores(self, name, r, a, start, exons, rows):
        """One scorer's scores over the bins that overlap exons, for chosen rows by column (None: NaN)."""
        first = start + self.crop * self.bin
        bins = [
            b
            for b in range(len(r[0]))
            if any(first + b * self.bin < end and first + (b + 1) * self.bin > begin for begin, end in exons)
        ]
        values = [[TRACK[name](x[bins, t], y[bins, t]) for t in range(x.shape[1])] for x, y in zip(r, a, strict=True)]
        tracks = [sum(one) / len(one) for one in zip(*values, strict=True)]
        return {c: math.nan if not chosen else joined(name, [tracks[i] for i in chosen]) for c, chosen in rows.items()}


def shifted(text, by):
    """Text moved right by ``by`` (left when negative), N in the gap."""
    if by >= 0:
        return "N" * by + text[: len(text) - by]
    return text[-by:] + "N" * -by


def joined(name, values):
    """Strands put together."""
    return math.sqrt(sum(v * v for v in values)) if name.endswith("D2") else sum(values)


def lin(x):
    return [float(v) for v in x]


def log(x):
    return [math.log2(1 + float(v)) for v in x]


def root(x):
    return [math.sqrt(float(v)) for v in x]


def summed(change):
    return lambda r, a: math.fsum(change(a)) - math.fsum(change(r))


def norm(change, power):
    return lambda r, a: math.fsum(abs(y - x) ** power for x, y in zip(change(r), change(a), strict=True)) ** (1 / power)


def extreme(r, a):
    return max((float(y) - float(x) for x, y in zip(r, a, strict=True)), key=abs)


def fold(r, a):
    return math.log2(1 + math.fsum(lin(a))) - math.log2(1 + math.fsum(lin(r)))


def entropies(change):
    def score(r, a):
        r, a = change(r), change(a)
        ranked, at = sorted(r), 0.25 * (len(r) - 1)
        low = int(at)
        c = ranked[low] + (at - low) * (ranked[min(low + 1, len(r) - 1)] - ranked[low])
        p = [(x + c) / math.fsum(y + c for y in r) for x in r]
        q = [(x + c) / math.fsum(y + c for y in a) for x in a]
        forth = math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
        back = math.fsum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
        return (forth + back) / 2

    return score


def shape(r, a):
    return max(abs(y / math.fsum(lin(a)) - x / math.fsum(lin(r))) for x, y in zip(lin(r), lin(a), strict=True))


TRACK = {
    "SUM": summed(lin), "logSUM": summed(log), "sqrtSUM": summed(root), "SAX": extreme, "logSED": fold, "SED": summed(lin),
    "D1": norm(lin, 1), "D2": norm(lin, 2), "logD1": norm(log, 1), "logD2": norm(log, 2), "sqrtD1": norm(root, 1),
    "sqrtD2": norm(root, 2), "JS": entropies(lin), "logJS": entropies(log), "nDi": shape,
}  # fmt: skip
