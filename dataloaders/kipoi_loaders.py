"""The Kipoi Dataset that joins a BED file and a FASTA file into one-hot windows of a model's length."""

from __future__ import annotations

import logging
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
from kipoi.data import Dataset, kipoi_dataloader
from kipoi.metadata import GenomicRanges
from kipoi.specs import Author
from kipoi_utils.utils import default_kwargs

from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.dataloaders.bed import BedRecord, read_bed_records
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.sequence import BASES, reverse_complement

kipoi_compat.apply()

logger = logging.getLogger("kipoi_borzoi")


@kipoi_dataloader(override={"info.authors": [Author(name="kipoi-borzoi developers")]})
class SeqIntervalDl(Dataset):
    """
    info:
        doc: >
            Windows of one-hot DNA (A, C, G, T; anything else is all zeros) around the intervals of a BED file. Arguments
            are those of kipoiseq's SeqIntervalDl. Windows that reach beyond their contig are padded with zeros.
    args:
        intervals_file:
            doc: BED file with 3, 4, 6 or more columns (plain, gzip or bgzip); one window is made per line
        fasta_file:
            doc: genome as FASTA, plain or bgzip; indexed (.fai) at first use when it is not
        num_chr_fasta:
            doc: kept for kipoiseq's callers, no effect; contig names are matched with and without 'chr' by themselves
            type: bool
        label_dtype:
            doc: numpy dtype of the labels, such as np.float32 (default float64); only with ignore_targets False
        auto_resize_len:
            doc: length in bp of the windows, set around the centre of each interval; None keeps the intervals as they are
            type: int
        use_strand:
            doc: reverse-complement the windows of '-' intervals; needs a BED file with 6 columns
            type: bool
        alphabet_axis:
            doc: 1 for windows of shape (length, 4), 0 for (4, length)
            type: int
        dummy_axis:
            doc: None is the only value; kept for kipoiseq's callers
        alphabet:
            doc: ACGT is the only value; kept for kipoiseq's callers
        ignore_targets:
            doc: False returns the columns behind the third (sixth with use_strand) as numeric labels
            type: bool
        dtype:
            doc: numpy dtype of the windows, such as np.float32 (default) or bool
    output_schema:
        inputs:
            name: seq
            shape: (None, 4)
            doc: one-hot DNA, columns A, C, G, T
            special_type: DNASeq
            associated_metadata: ranges
        targets:
            shape: (None,)
            doc: labels from the BED file, with ignore_targets False
        metadata:
            ranges:
                type: GenomicRanges
                doc: place of each window (contig as in the BED file, 0-based half-open, may reach beyond the contig)
    """

    postprocessing = {"variant_effects": SimpleNamespace(bed_input=["intervals_file"], scoring_functions=[])}

    def __init__(
        self,
        intervals_file,
        fasta_file,
        num_chr_fasta=False,
        label_dtype=None,
        auto_resize_len=None,
        use_strand=False,
        alphabet_axis=1,
        dummy_axis=None,
        alphabet=BASES,
        ignore_targets=True,
        dtype="float32",
    ):
        _check_options(auto_resize_len, alphabet_axis, dummy_axis, alphabet)
        if label_dtype is not None and ignore_targets:
            raise InputError(f"label_dtype is {label_dtype!r}, but labels are read only with ignore_targets=False")
        self.use_strand = bool(use_strand)
        self.alphabet_axis = alphabet_axis
        self.dtype = parse_dtype("dtype", dtype, np.float32)
        # As in kipoiseq, labels stand behind the third column, or behind the strand where that is used.
        bed_columns = 6 if ignore_targets or use_strand else 3
        records = read_bed_records(intervals_file, bed_columns)
        self.labels = None
        if not ignore_targets and records[0].extra:
            self.labels = _read_labels(records, parse_dtype("label_dtype", label_dtype, np.float64), intervals_file)
        if use_strand:
            _check_strands(records, intervals_file)
        self.fasta = FastaReader(fasta_file)
        self.windows = _make_windows(records, auto_resize_len, self.fasta, intervals_file)

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        window = self.windows[index]
        x = self.fasta.fetch_one_hot(window, self.dtype)
        strand = "*"
        if self.use_strand and window.strand != ".":
            strand = window.strand
            if strand == "-":
                x = reverse_complement(x)
        if self.alphabet_axis == 0:
            x = x.T
        # The strand is that of the bases: kipoi_veff complements alleles by it.
        ranges = GenomicRanges(window.chrom, window.start, window.end, window.name or str(index), strand)
        item = {"inputs": np.ascontiguousarray(x), "metadata": {"ranges": ranges}}
        if self.labels is not None:
            item["targets"] = self.labels[index]
        return item

    def __reduce__(self):
        # Kipoi changes default arguments in subclasses made on the spot, which pickle cannot find by name.
        return restore, (SeqIntervalDl, self.__dict__)

    @classmethod
    def get_output_schema(cls):
        """Schema of the batches under the class's default arguments, which Kipoi may have changed."""
        schema = deepcopy(cls.output_schema)
        defaults = default_kwargs(cls)
        length = defaults["auto_resize_len"]
        if length is not None or defaults["alphabet_axis"] == 0:
            schema.inputs.shape = (4, length) if defaults["alphabet_axis"] == 0 else (length, 4)
        if defaults["ignore_targets"]:
            schema.targets = None
        return schema


def restore(loader_class: type, state: dict) -> Dataset:
    """Make a loader with the attributes that it was pickled with."""
    loader = loader_class.__new__(loader_class)
    loader.__dict__.update(state)
    return loader


def parse_dtype(argument: str, value, default) -> np.dtype:
    """Turn a loader's dtype argument into a dtype.

    Parameters
    ----------
    argument : str
        Its name, for the error.
    value : dtype, type or str
        Text may be spelled as kipoiseq wants it (``np.float32``) or plainly; None takes ``default``.
    default : dtype

    Raises
    ------
    InputError
        When it names no boolean, integer or floating type.
    """
    try:
        text = value.removeprefix("np.").removeprefix("numpy.") if isinstance(value, str) else value
        dtype = np.dtype(default if text is None else np.bool_ if text == "bool_" else text)
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in "biuf":
        raise InputError(f"{argument} is {value!r}, expected a numeric dtype such as np.float32 or bool")
    return dtype


def _check_options(auto_resize_len, alphabet_axis, dummy_axis, alphabet) -> None:
    integer = isinstance(auto_resize_len, (int, np.integer)) and not isinstance(auto_resize_len, bool)
    if auto_resize_len is not None and not (integer and auto_resize_len > 0):
        raise InputError(f"auto_resize_len is {auto_resize_len!r}, expected a positive number of bp, or None")
    if alphabet_axis not in (0, 1):
        raise InputError(f"alphabet_axis is {alphabet_axis!r}, expected 1 (length, 4) or 0 (4, length)")
    if dummy_axis is not None:
        raise InputError(f"dummy_axis is {dummy_axis!r}, expected None: the models take windows without a further axis")
    if "".join(alphabet) != BASES:
        raise InputError(f"alphabet is {alphabet!r}, expected {BASES!r}: the order that the models are trained with")


def _check_strands(records: list[BedRecord], path) -> None:
    if all(record.interval.strand == "." for record in records):
        raise InputError(f"{path}: use_strand is set, but no line has a strand; a BED file with 6 columns is expected")


def _read_labels(records: list[BedRecord], dtype: np.dtype, path) -> np.ndarray:
    rows = []
    for record in records:
        try:
            rows.append([float(field) for field in record.extra])
        except ValueError as error:
            raise InputError(
                f"{path}, line {record.line}: a label is not a number ({error}); with ignore_targets=False all columns "
                "behind the third (behind the sixth with use_strand=True) are labels. Pass ignore_targets=True for none"
            ) from error
    values = np.array(rows)
    with np.errstate(invalid="ignore", over="ignore"):
        labels = values.astype(dtype)
    changed = (labels != values).any(axis=1) if dtype.kind != "f" else np.zeros(len(values), dtype=bool)
    if changed.any():
        record = records[int(changed.argmax())]
        raise InputError(f"{path}, line {record.line}: labels {', '.join(record.extra)} do not fit label_dtype {dtype}")
    return labels


def _make_windows(records: list[BedRecord], length: int | None, fasta: FastaReader, path) -> list[Interval]:
    # One window per line; every line is checked before the first sequence is read.
    windows = []
    beyond = []
    for record in records:
        where = f"{path}, line {record.line}"
        interval = record.interval
        contig_length = fasta.contigs[fasta.resolve(interval.chrom, f"{where}: ")]
        if length is None and interval.length != records[0].interval.length:
            raise InputError(
                f"{where}: interval of {interval.length} bp, but {records[0].interval.length} bp in line "
                f"{records[0].line}; windows must be of one length: set auto_resize_len"
            )
        if length is not None and interval.length > length:
            raise InputError(
                f"{where}: interval {interval} of {interval.length} bp is longer than the window of {length} bp, which would "
                "show its middle only; cut it into windows, or give its centre if that is what you want"
            )
        if interval.start >= contig_length:
            raise InputError(
                f"{where}: interval {interval} lies beyond the end of its contig, which is {contig_length} bp long in "
                f"{fasta.path}; is it of another assembly?"
            )
        if interval.end > contig_length:
            beyond.append(record)
        windows.append(interval if length is None else interval.resize(int(length)))
    if beyond:
        logger.warning(
            "%s: %d of %d intervals reach beyond the end of their contig, where zeros stand (first: line %d, %s)",
            path, len(beyond), len(records), beyond[0].line, beyond[0].interval,
        )  # fmt: skip
    return windows
