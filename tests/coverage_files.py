"""Small coverage files for tests, and the plain way from coverage per base to targets."""

import math

import h5py
import numpy as np


def write_bigwig(path, contigs, values):
    """Write a BigWig file. contigs: name to length; values: name to one number per base, NaN for none."""
    import pyBigWig

    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(contigs.items()), maxZooms=0)
    for name, array in values.items():
        places = np.flatnonzero(~np.isnan(array))
        if len(places):
            file.addEntries([name] * len(places), places.tolist(), ends=(places + 1).tolist(),
                            values=np.asarray(array)[places].astype(float).tolist())  # fmt: skip
    file.close()
    return path


def write_w5(path, values, dtype=np.float16):
    """Write Calico's HDF5 coverage: one array per contig."""
    with h5py.File(path, "w") as file:
        for name, array in values.items():
            file.create_dataset(name, data=np.asarray(array, dtype=dtype), compression="gzip", shuffle=True)
    return path


def write_targets(path, rows):
    """Write a target table; rows are (identifier, file, clip, clip_soft, scale, sum_stat, strand_pair)."""
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += ["\t".join(map(str, [index, *row, f"track {index}"])) for index, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def plain_target(values, start, end, row, transform, crop, width, black=(), quantile=0.5):
    """One track's target of a window, bin by bin and base by base, from the definition; values as a list, NaN for none."""
    _, _, clip, clip_soft, scale, stat, _ = row
    window = [values[i] if 0 <= i < len(values) else math.nan for i in range(start, end)]
    filled = [0.0 if math.isnan(v) else float(v) for v in window]
    ordered = sorted(filled)
    rank = quantile * (len(ordered) - 1)
    low = int(rank)
    baseline = ordered[low] + (rank - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    if any(math.isnan(v) for v in window):
        baseline = 0.0
    for black_start, black_end in black:
        for i in range(start, end):
            if black_start - 20 <= i < black_end + 20:
                filled[i - start] = min(filled[i - start], baseline)
    result = []
    for first in range(crop, len(filled) - crop, width):
        bases = filled[first : first + width]
        if transform == "new":
            bases = [scale * base for base in bases]
        y = max(bases) if stat.startswith("max") else sum(bases)
        if stat.startswith("mean"):
            y /= width
        if stat.endswith("_sqrt"):
            y = math.sqrt(1 + y) - 1 if transform == "new" else y**0.75
        if y > clip_soft:
            y = (
                clip_soft - 1 + math.sqrt(y - clip_soft + 1)
                if transform == "new"
                else clip_soft + math.sqrt(y - clip_soft)
            )
        y = min(y, clip)
        if transform == "old":
            y *= scale
        result.append(min(y, 65504.0))
    return np.array(result)
