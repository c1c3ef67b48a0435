"""Mends Kipoi's writers of predictions; nothing but attributes of ``kipoi.writers`` is replaced.

Each fix returns whether the fault was there.
"""

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.kipoi_compat.patching import NumpyWith, wrap
from kipoi_borzoi.kipoi_compat.whole_outputs import write_outputs_whole

MAX_CHUNK_BYTES = 16 * 2**20
"""Largest chunk of an HDF5 or Zarr output, unless a single row is larger."""


def alias_numpy_strings(writers) -> bool:
    """Let ``kipoi.writers`` (not numpy) know ``np.string_`` and ``np.unicode_``: else every ``.h5`` fails on numpy 2."""
    if writers.np is not np or (hasattr(np, "string_") and hasattr(np, "unicode_")):
        return False
    writers.np = NumpyWith(string_=np.bytes_, unicode_=np.str_)
    return True


def cap_chunk_bytes(writers) -> bool:
    """Cap the rows of a chunk by their bytes.

    The writers buffer and chunk 10,000 rows whatever their width: the inputs of a 524-kb model or its
    binned outputs exceed HDF5's limit of 4 GB per chunk, and the memory of the machine before that.
    """
    for name in ("HDF5BatchWriter", "ZarrBatchWriter"):
        wrap(getattr(writers, name), "batch_write", _write_with_capped_chunks)
    return True


def _write_with_capped_chunks(batch_write, self, batch):
    from kipoi_utils.external.flatten_json import flatten

    if self.first_pass:
        arrays = flatten(batch, separator="/").values()
        row_bytes = max(array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)) for array in arrays)
        self.chunk_size = max(1, min(int(self.chunk_size), MAX_CHUNK_BYTES // max(row_bytes, 1)))
    return batch_write(self, batch)


def name_existing_hdf5(writers) -> bool:
    """Say that Kipoi does not write over an ``.h5``: it appends to the file, and h5py stops on the first name it knows.

    `write_outputs_whole` says so for ``kipoi predict``; kipoi_veff's extra outputs come here.
    """
    wrap(writers.HDF5BatchWriter, "batch_write", _write_hdf5_that_is_new)
    return True


def _write_hdf5_that_is_new(batch_write, self, batch):
    from kipoi_utils.external.flatten_json import flatten

    held = [name for name in flatten(batch, separator="/") if name in self.f] if self.first_pass else []
    if held:
        raise InputError(
            f"{self.file_path}: holds {held[0]!r} already, and Kipoi appends to an .h5 that is there:"
            " remove the file or give another name"
        )
    return batch_write(self, batch)


def drop_foreign_writer_options(writers) -> bool:
    """Hand ``hdf5_chunk_size``, ``keep_metadata`` and the like only to the writers that take them.

    Kipoi passes them to the ``.tsv`` and ``.bed`` writers too, which then stop with a TypeError
    (``kipoi test -o out.tsv``, and ``kipoi predict`` of any model with ``writers: hdf5_chunk_size``).
    """
    wrap(writers, "get_writer", _get_writer_with_its_own_options)
    return True


def _get_writer_with_its_own_options(get_writer, output_file, metadata_schema=None, **kwargs):
    known = {"h5": "hdf5_chunk_size", "hdf5": "hdf5_chunk_size", "zarr": "hdf5_chunk_size"}
    known.update(dict.fromkeys(["parquet", "pq", "pqt"], "parquet_chunk_size"))
    option = known.get(output_file.rsplit(".", 1)[-1])
    return get_writer(output_file, metadata_schema, **{key: kwargs[key] for key in kwargs if key == option})


def pass_bed_writer_its_schema(writers) -> bool:
    """Let the ``.bed`` writer take its ``metadata_schema`` by the name that Kipoi calls it: ``dataloader_schema``."""
    wrap(writers.BedBatchWriter, "__init__", _init_bed_writer)
    return True


def _init_bed_writer(init, self, file_path, metadata_schema=None, header=True, dataloader_schema=None):
    init(self, file_path, metadata_schema if dataloader_schema is None else dataloader_schema, header)


def name_missing_bed_ranges(writers) -> bool:
    """Say that ``.bed`` output needs ``--keep_metadata``: Kipoi drops the ranges by default and then raises KeyError."""
    wrap(writers.BedBatchWriter, "batch_write", _write_bed_with_ranges)
    return True


def _write_bed_with_ranges(batch_write, self, batch):
    if not any(str(key).partition("/")[0] == "metadata" for key in batch):
        raise InputError(
            f"{self.file_path}: the rows of a .bed file are the genomic ranges of the metadata, which this command "
            "leaves out of its output; add --keep_metadata (-m)"
        )
    return batch_write(self, batch)


def open_zarr_writer(writers) -> bool:
    """Give ``.zarr`` its writer: Kipoi lists the format and has the writer, yet writes nothing and exits 0."""
    wrap(writers, "get_writer", _get_writer_or_zarr)
    return True


def _get_writer_or_zarr(get_writer, output_file, metadata_schema=None, **kwargs):
    if not output_file.endswith(".zarr"):
        return get_writer(output_file, metadata_schema, **kwargs)
    from kipoi.writers import ZarrBatchWriter

    _require_zarr_2(output_file)
    options = {"chunk_size": kwargs["hdf5_chunk_size"]} if "hdf5_chunk_size" in kwargs else {}
    return ZarrBatchWriter(output_file, **options)


def _require_zarr_2(output_file):
    try:
        import zarr
    except ImportError:
        found = "zarr is not installed"
    else:
        if hasattr(zarr, "DirectoryStore"):
            return
        found = f"zarr {zarr.__version__} is installed"
    raise InputError(f"{output_file}: Kipoi writes .zarr with zarr 2 only, and {found}; pip install 'zarr>=2.16,<3'")


# The last wrapper of get_writer runs first: options are sorted out before a writer is chosen.
FIXES = (
    alias_numpy_strings,
    cap_chunk_bytes,
    name_existing_hdf5,
    pass_bed_writer_its_schema,
    name_missing_bed_ranges,
    open_zarr_writer,
    drop_foreign_writer_options,
    write_outputs_whole,
)
