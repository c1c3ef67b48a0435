"""The Kipoi Dataset of training examples: windows of DNA with the binned coverage of each track, straight from the coverage files."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from kipoi.data import kipoi_dataloader
from kipoi.specs import Author
from kipoi_utils.utils import default_kwargs

from kipoi_borzoi.dataloaders.coverage import Blacklist, Recipe, bins_of, locate_coverage, open_coverage, read_target
from kipoi_borzoi.dataloaders.kipoi_loaders import SeqIntervalDl, parse_dtype, restore
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import check_transform, read_tracks


@kipoi_dataloader(override={"info.authors": [Author(name="kipoi-borzoi developers")]})
class SeqCoverageDl(SeqIntervalDl):
    """
    info:
        doc: >
            Training examples: windows of one-hot DNA (A, C, G, T; anything else is all zeros) around the intervals of a BED
            file, with targets made of BigWig or w5 coverage as Borzoi's are. They equal those of a store that
            'kipoi-borzoi data build' makes of the same files.
    args:
        intervals_file:
            doc: BED file with 3, 4, 6 or more columns (plain, gzip or bgzip); one example is made per line
        fasta_file:
            doc: genome as FASTA, plain or bgzip; indexed (.fai) at first use when it is not
        targets_file:
            doc: target table (Calico's format); its column 'file' names the coverage files, relative to the table's folder
        transform:
            doc: how coverage is squashed, 'new' (Calico's current code) or 'old' (the released Borzoi weights)
        crop_bp:
            doc: bp at each end of a window that have no targets
            type: int
        pool_width:
            doc: bp of a bin
            type: int
        blacklist_file:
            doc: BED file of stretches whose coverage is clipped to the window's median; None for none
        auto_resize_len:
            doc: length in bp of the windows, set around the centre of each interval; None keeps the intervals as they are
            type: int
        negative:
            doc: what to do with coverage below 0, 'error' or 'abs' (take the absolute value)
        dtype:
            doc: numpy dtype of the windows, such as np.float32 (default) or bool
        target_dtype:
            doc: numpy dtype of the targets, such as np.float32 (default); the values are those of float16
    output_schema:
        inputs:
            name: seq
            shape: (None, 4)
            doc: one-hot DNA, columns A, C, G, T
            special_type: DNASeq
            associated_metadata: ranges
        targets:
            name: coverage
            shape: (None, None)
            doc: squashed coverage, (bins, tracks), tracks in the order of the table's index
        metadata:
            ranges:
                type: GenomicRanges
                doc: place of each window (contig as in the BED file, 0-based half-open, may reach beyond the contig)
    """

    def __init__(
        self,
        intervals_file,
        fasta_file,
        targets_file,
        transform="new",
        crop_bp=0,
        pool_width=32,
        blacklist_file=None,
        auto_resize_len=None,
        negative="error",
        dtype="float32",
        target_dtype="float32",
    ):
        super().__init__(intervals_file, fasta_file, auto_resize_len=auto_resize_len, dtype=dtype)
        check_transform(transform)
        self.recipe = Recipe(transform, crop_bp, pool_width, negative)
        self.bins = bins_of(self.windows[0].length, crop_bp, pool_width)
        self.target_dtype = parse_dtype("target_dtype", target_dtype, np.float32)
        if self.target_dtype.kind != "f":
            raise InputError(f"target_dtype is {target_dtype!r}, expected a floating type such as np.float32")
        self.tracks = read_tracks(targets_file)
        self.blacklist = Blacklist(blacklist_file) if blacklist_file else None
        if self.blacklist:
            self.blacklist.check_contigs(self.fasta.contigs)
        self._each = [self.tracks.select([int(index)]) for index in self.tracks.index]
        self._coverage = [open_coverage(locate_coverage(file, targets_file)) for file in self.tracks.files]
        for name in dict.fromkeys(window.chrom for window in self.windows):
            for reader in self._coverage:
                reader.resolve(name, self.fasta.contigs[self.fasta.resolve(name)], f"{intervals_file}: ")

    def __getitem__(self, index):
        item = super().__getitem__(index)
        window = self.windows[index]
        targets = np.empty((self.bins, len(self.tracks)), dtype=self.target_dtype)
        for row, (reader, track) in enumerate(zip(self._coverage, self._each, strict=True)):
            targets[:, row] = read_target(reader, window, track, self.recipe, self.blacklist)
        item["targets"] = targets
        return item

    def __reduce__(self):
        return restore, (SeqCoverageDl, self.__dict__)

    @classmethod
    def get_output_schema(cls):
        """Schema of the batches under the class's default arguments, which Kipoi may have changed."""
        schema = deepcopy(cls.output_schema)
        defaults = default_kwargs(cls)
        length = defaults["auto_resize_len"]
        if length is not None:
            schema.inputs.shape = (length, 4)
            schema.targets.shape = (bins_of(length, defaults["crop_bp"], defaults["pool_width"]), None)
        return schema
