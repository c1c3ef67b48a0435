"""The attribution file (``.h5``): sequences, what their bases contribute, where they lie, and what made the numbers.

Datasets, one row per explained target, in their order: ``name, label, chrom, strand`` (text); ``start, end,
window_start, window_end`` (0-based, half-open); ``value, value_sd, members``; ``sequence`` (n, length) uint8: 0 to 3 for
A, C, G, T, 4 for others; ``contributions`` (n, length): what the observed base contributes; ``sd``: its standard
deviation over the ensemble, NaN without one; ``hypothetical`` (n, length, 4): what each base would. Skipped targets:
``skipped/name, code, detail``. ``contigs`` (JSON): lengths of the genome's, bp. Attributes: ``format``, ``provenance`` (JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import damage_named
from kipoi_borzoi.interpret.attribution import Attribution
from kipoi_borzoi.interpret.parts import Explained
from kipoi_borzoi.interpret.targets import Skipped

FORMAT = "kipoi-borzoi attribution 1"
_REMEDY = "expected a file that `kipoi-borzoi attribute` has written; make it again"
_TEXTS = ("name", "label", "chrom", "strand")
_CHUNK = 1 << 16


def write_attributions(
    path: str | os.PathLike,
    length: int,
    results: Iterable[Explained | Skipped],
    provenance: Mapping,
    contigs: Mapping[str, int],
) -> None:
    """Write an attribution file, one target at a time.

    Parameters
    ----------
    path : path
        Is replaced; make it a temporary (`kipoi_borzoi.files.atomic_write`).
    length : int
        bp of every explained stretch.
    results : iterable of Explained or Skipped
    provenance : dict
        What JSON can hold.
    contigs : dict of str to int
        Lengths in bp of the contigs of the genome.
    """
    rows: list[Explained] = []
    skipped: list[Skipped] = []
    with h5py.File(path, "w") as file:
        arrays = {
            name: file.create_dataset(
                name, (0, length, *more), dtype, maxshape=(None, length, *more), chunks=(1, min(length, _CHUNK), *more),
                compression="gzip", compression_opts=4, shuffle=True,
            )
            for name, dtype, more in (
                ("sequence", "uint8", ()), ("contributions", "float32", ()), ("sd", "float32", ()), ("hypothetical", "float32", (4,)),
            )
        }  # fmt: skip
        for result in results:
            if isinstance(result, Skipped):
                skipped.append(result)
                continue
            one = result.attribution
            values = {
                "sequence": np.where(one.sequence.any(1), one.sequence.argmax(1), 4), "contributions": one.contributions,
                "sd": one.sd, "hypothetical": one.hypothetical,
            }  # fmt: skip
            for name, dataset in arrays.items():
                dataset.resize(len(rows) + 1, axis=0)
                dataset[len(rows)] = values[name]
            rows.append(_without_arrays(result))
        for name in _TEXTS:
            _write_texts(file, name, [getattr(row, name) for row in rows])
        for name, values in (
            ("start", [row.start for row in rows]), ("end", [row.end for row in rows]),
            ("window_start", [row.window[0] for row in rows]), ("window_end", [row.window[1] for row in rows]),
            ("members", [row.attribution.members for row in rows]),
        ):  # fmt: skip
            file.create_dataset(name, data=np.array(values, np.int64))
        file.create_dataset("value", data=np.array([row.attribution.value for row in rows], np.float64))
        file.create_dataset("value_sd", data=np.array([row.attribution.value_sd for row in rows], np.float64))
        for name in ("name", "code", "detail"):
            _write_texts(file, f"skipped/{name}", [getattr(one, name) for one in skipped])
        file.create_dataset("contigs", data=json.dumps(dict(contigs)))
        file.attrs["format"] = FORMAT
        file.attrs["provenance"] = json.dumps(provenance, sort_keys=True)


def _without_arrays(result: Explained) -> Explained:
    one, nothing = result.attribution, np.zeros((0, 4), np.float32)
    small = Attribution(nothing, nothing, nothing[:, 0], one.value, one.value_sd, one.members)
    return Explained(
        result.name, result.label, result.chrom, result.start, result.end, result.strand, result.window, small
    )


def _write_texts(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    file.create_dataset(name, data=np.array(texts, dtype=object), dtype=h5py.string_dtype())


class AttributionFile:
    """One or more attribution files (such as the shards of a run), read row by row; a context manager.

    Parameters
    ----------
    paths : path or sequence of path

    Attributes
    ----------
    names, labels, chroms, strands : list of str
    starts, ends : (n,) int64
    values : (n,) float64
    length : int
        bp of every row.
    contigs : dict of str to int
        Lengths of the genome's, of the first file.
    provenance : dict
        Of the first file.
    provenances : list of dict
        Of all files.
    skipped : list of Skipped

    Raises
    ------
    InputError
        A file that cannot be read or is no attribution file; files of different length or different runs, or one twice.
    """

    def __init__(self, paths: str | os.PathLike | Sequence[str | os.PathLike]):
        self.paths = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        if not self.paths:
            raise InputError("no attribution file is given")
        self._files: list[h5py.File] = []
        try:
            for path in self.paths:
                self._files.append(_opened(path))
            with damage_named(", ".join(map(str, self.paths)), _REMEDY):
                self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        lengths = {file["sequence"].shape[1] for file in self._files}
        if len(lengths) > 1:
            raise InputError(
                f"the attribution files have rows of different length: {', '.join(map(str, sorted(lengths)))} bp"
            )
        self.length = lengths.pop()
        provenances = [json.loads(file.attrs["provenance"]) for file in self._files]
        for path, other in zip(self.paths, provenances, strict=True):
            for part in ("models", "quantity", "method"):
                if other.get(part) != provenances[0].get(part):
                    raise InputError(f"{path} and {self.paths[0]} are of different runs: their {part} differ")
        shards = [(json.dumps(other.get("targets")), json.dumps(other.get("shard"))) for other in provenances]
        for number, shard in enumerate(shards):
            if shard in shards[:number]:
                raise InputError(
                    f"{self.paths[number]} and {self.paths[shards.index(shard)]} hold the same targets: give each file once"
                )
        self.provenance, self.provenances = provenances[0], provenances
        self.contigs: dict[str, int] = json.loads(self._files[0]["contigs"][()])
        texts = {name: [text for file in self._files for text in file[name].asstr()[:]] for name in _TEXTS}
        self.names, self.labels, self.chroms, self.strands = (texts[name] for name in _TEXTS)
        self.starts, self.ends = (np.concatenate([file[name][:] for file in self._files]) for name in ("start", "end"))
        self.values = np.concatenate([file["value"][:] for file in self._files])
        self.skipped = [
            Skipped(*row)
            for file in self._files
            for row in zip(*(file[f"skipped/{name}"].asstr()[:] for name in ("name", "code", "detail")), strict=True)
        ]
        self._place = [(file, row) for file in self._files for row in range(file["sequence"].shape[0])]

    def __len__(self) -> int:
        return len(self.names)

    def __enter__(self) -> AttributionFile:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def sequence(self, row: int) -> np.ndarray:
        """Bases of a row, (length,) uint8: 0 to 3 for A, C, G, T, 4 for others."""
        return self._get(row, "sequence")

    def contributions(self, row: int) -> np.ndarray:
        """What the observed bases of a row contribute, (length,) float32."""
        return self._get(row, "contributions")

    def sd(self, row: int) -> np.ndarray:
        """Its standard deviation over the ensemble, (length,) float32."""
        return self._get(row, "sd")

    def hypothetical(self, row: int) -> np.ndarray:
        """What each base would contribute, (length, 4) float32."""
        return self._get(row, "hypothetical")

    def result(self, row: int) -> Explained:
        """A row as it was given to `write_attributions`."""
        file, place = self._place[row]
        with damage_named(file.filename, _REMEDY):
            found = {name: file[name][place] for name in ("start", "end", "window_start", "window_end", "value", "value_sd", "members")}
        bases = self.sequence(row)
        attribution = Attribution(
            bases[:, None] == np.arange(4), self.hypothetical(row), self.sd(row),
            float(found["value"]), float(found["value_sd"]), int(found["members"]),
        )  # fmt: skip
        return Explained(
            self.names[row], self.labels[row], self.chroms[row], int(found["start"]), int(found["end"]), self.strands[row],
            (int(found["window_start"]), int(found["window_end"])), attribution,
        )  # fmt: skip

    def rows(self) -> Iterator[int]:
        """Numbers of all rows."""
        return iter(range(len(self)))

    def _get(self, row: int, name: str) -> np.ndarray:
        file, place = self._place[row]
        with damage_named(file.filename, _REMEDY):
            return file[name][place]


def _opened(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "no such file" if not path.exists() else f"cannot be read as HDF5 ({error})"
        raise InputError(f"{path}: {reason}; expected a file that `kipoi-borzoi attribute` has written") from error
    with damage_named(path, _REMEDY):
        known = file.attrs.get("format") == FORMAT
    if not known:
        file.close()
        raise InputError(f"{path}: not an attribution file; expected one that `kipoi-borzoi attribute` has written")
    return file
