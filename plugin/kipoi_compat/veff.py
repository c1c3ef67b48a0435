"""Mends kipoi_veff 0.3.1, and tells it what it cannot know of our models; each fix returns whether it was needed.

The fixes are of three kinds. ``FIXES_OF_VERSIONS``: names and signatures that newer numpy, PyVCF3, shapely and
deepdish changed; with the versions of kipoi_veff's days none is applied. ``FIXES_OF_FAULTS``: kipoi_veff's own, with
any versions. ``BRIDGE``: for our models only. kipoi_veff is never imported here, since its import rewires
the logging of the whole process.
"""

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass, field

import numpy as np

from kipoi_borzoi.kipoi_compat.patching import NumpyWith, import_with_numpy, wrap

RC_VARIABLE = "KIPOI_BORZOI_VEFF_RC"
"""Environment variable: 1 scores both strands by default (kipoi_veff has no option for it)."""

_PLOTTING = "kipoi_veff.external.concise.seqplotting_deps"


@dataclass
class VariantEffects:
    """What kipoi_veff reads from ``model.postprocessing["variant_effects"]``.

    Duck-typed: kipoi_veff's own class would have to be imported for it.

    Attributes
    ----------
    view : str
        The entry's view: ``sum`` and ``logsum`` can be scored.
    seq_input : list of str
        Names of the inputs to mutate.
    use_rc : bool
        Whether the reverse complement is scored as well and merged (kipoi_veff: ``rc_merging``).
    """

    view: str
    seq_input: list = field(default_factory=lambda: ["seq"])
    use_rc: bool = field(default_factory=lambda: os.environ.get(RC_VARIABLE, "0") not in ("", "0"))
    _scoring_functions: list | None = field(default=None, repr=False)

    @property
    def scoring_functions(self) -> list:
        """Scores beside kipoi_veff's diff, ref and alt: ``logSED`` of ``sum`` entries. More may be appended."""
        if self._scoring_functions is None:
            specs = sys.modules.get("kipoi_veff.specs")
            if specs is None:
                return []
            self._scoring_functions = [_log_sed(specs)] if self.view == "sum" else []
        return self._scoring_functions


def _log_sed(specs):
    merging = specs.VarEffectScoringFuncArgument(
        doc="how the two strands are merged", name="rc_merging", type="str", optional=True, default="mean"
    )
    scores = os.path.join(os.path.dirname(os.path.abspath(__file__)), "veff_scores.py")
    return specs.VarEffectScoringFunctions(
        name="logSED",
        type=specs.VarEffectFuncType.custom,
        defined_as=f"{scores}::LogSED",
        args={"rc_merging": merging},
    )


def is_complete(tool) -> bool:
    """Whether the package is imported to its end."""
    return hasattr(tool, "MutationMap")


def supply_removed_numpy_names(tool) -> bool:
    """Let kipoi_veff's modules (not numpy) know ``np.int``, ``np.str`` and ``np.in1d``: else no model is accepted."""
    names = _missing({"int": int, "str": str, "in1d": _in1d})
    if not names:
        return False
    for name in ("snv_predict", "utils.mutators", "utils.dna_reshapers"):
        sys.modules[f"kipoi_veff.{name}"].np = NumpyWith(**names)
    return True


def _missing(names: dict) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of names that it is about to remove
        return {name: value for name, value in names.items() if not hasattr(np, name)}


def _in1d(values, tests, **options):
    return np.isin(np.ravel(values), tests, **options)


def give_info_fields_their_type_code(tool) -> bool:
    """Make header lines as PyVCF3 wants them, with a ``type_code``: else no annotated VCF can be written."""
    from vcf import parser

    if "type_code" not in parser._Info._fields:
        return False
    wrap(sys.modules["kipoi_veff.utils.io"].VcfWriter, "_generate_info_field", _info_field)
    return True


def _info_field(make, identifier, number, kind, description, source, version):
    from vcf import parser

    return parser._Info(identifier, number, kind, description, source, version, parser._encode_type(kind))


def save_maps_with_current_numpy(tool) -> bool:
    """Save and load mutation maps where deepdish asks for ``np.object`` and others that numpy removed.

    deepdish is not Kipoi's: it sees the names only while kipoi_veff uses it.
    """
    if not _missing(dict.fromkeys(_deepdish_numpy())):
        return False
    for name in ("write_hdf5", "read_hdf5"):
        wrap(sys.modules["kipoi_veff.utils.generic"], name, _with_numpy_in_deepdish)
    return True


def _deepdish_numpy() -> dict:
    warning = getattr(np, "exceptions", np).ComplexWarning
    return {"object": object, "unicode_": np.str_, "string_": np.bytes_, "ComplexWarning": warning}


def _with_numpy_in_deepdish(function, *args, **kwargs):
    numpy = NumpyWith(**_deepdish_numpy())
    if "deepdish" not in sys.modules:
        import_with_numpy("deepdish", numpy, after=("pandas", "scipy.sparse", "tables"))
    from deepdish.io import hdf5io

    before, hdf5io.np = hdf5io.np, numpy
    try:
        return function(*args, **kwargs)
    finally:
        hdf5io.np = before


def stack_letters_from_generators(tool) -> bool:
    """Let the module that draws letters hand a generator to ``np.vstack``, which numpy no longer takes: else no plot."""
    if _PLOTTING in sys.modules or _vstack_takes_generators():
        return False
    numpy = NumpyWith(vstack=lambda arrays: np.vstack(list(arrays)))
    import_with_numpy(_PLOTTING, numpy, after=("shapely.wkt", "kipoi_veff.external.concise.seqplotting_letters"))
    return True


def _vstack_takes_generators() -> bool:
    with warnings.catch_warnings(), contextlib.suppress(TypeError):
        warnings.simplefilter("ignore")
        np.vstack(row for row in [np.zeros(1)])
        return True
    return False


def draw_letters_without_descartes(tool) -> bool:
    """Draw letters from their corners: descartes cannot read shapely 2's rings."""
    import shapely

    if int(shapely.__version__.split(".")[0]) < 2 or not _importable(_PLOTTING):
        return False
    plot = sys.modules.get("kipoi_veff.utils.plot")
    for module in filter(None, (sys.modules[_PLOTTING], plot)):
        wrap(module, "add_letter_to_axis", _add_letter)
    return True


def _importable(name: str) -> bool:
    import importlib

    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _add_letter(add, ax, let, col, x, y, height):
    from matplotlib.patches import Polygon

    for polygon, color in zip(let, [col, "white"][: len(let)], strict=True):
        corners = np.asarray(polygon.exterior.coords) * [1, height] + [x, y]
        ax.add_patch(Polygon(corners, closed=True, edgecolor=color, facecolor=color))


def join_values_of_info_fields(tool) -> bool:
    """Copy INFO fields with several values (AC, AF of several ALTs) and flags as VCF has them: else the run stops."""
    wrap(sys.modules["kipoi_veff.utils.io"], "convert_record", _convert_record)
    return True


class _RecordWithInfo:
    """A cyvcf2 record whose INFO holds values as VCF writes them, and that has no FORMAT."""

    FORMAT = None  # the samples' columns are not copied: see `leave_out_samples`

    def __init__(self, record):
        self._record = record
        self.INFO = [(key, _vcf_text(value)) for key, value in record.INFO]

    def __getattr__(self, name):
        return getattr(self._record, name)


def _vcf_text(value):
    return ",".join("." if one is None else str(one) for one in value) if isinstance(value, tuple) else value


def _convert_record(convert, record, reader):
    return convert(_RecordWithInfo(record), reader)


def leave_out_samples(tool) -> bool:
    """Write no FORMAT and sample columns: kipoi_veff fills FORMAT, but no sample, which makes the file no VCF."""
    wrap(sys.modules["kipoi_veff.utils.io"].VcfWriter, "__init__", _init_writer_without_samples)
    return True


def _init_writer_without_samples(init, self, *args, **kwargs):
    init(self, *args, **kwargs)
    self.vcf_reader.samples = []
    self.vcf_reader._column_headers = self.vcf_reader._column_headers[:8]


def keep_contig_names_whole(tool) -> bool:
    """Write the contigs of the windows with ``chr`` in front, as kipoi_veff means to, but no letter lost.

    Its ``strip("chr")`` takes every c, h and r from both ends: ``scaffold_c`` became ``chrscaffold_``.
    """
    wrap(sys.modules["kipoi_veff.utils.io"].BedWriter, "append_interval", _append_interval)
    return True


def _append_interval(append, self, chrom, start, end, id):
    self.ofh.write(f"chr{str(chrom).removeprefix('chr')}\t{int(start) - 1}\t{end}\t{id}\n")


def keep_windows_at_a_contigs_start(tool) -> bool:
    """Write a window that would begin before its contig as the shorter interval around the same middle, which is BED.

    Its start was negative, and the whole run stopped there. Our dataloader takes the window around the middle, with zeros
    beyond the contig.
    """
    wrap(sys.modules["kipoi_veff.utils.io"].BedWriter, "append_interval", _append_from_the_start)
    return True


def _append_from_the_start(append, self, chrom, start, end, id):
    before = min(int(start) - 1, 0)
    return append(self, chrom, int(start) - before, int(end) + before, id)


def find_regions_with_or_without_chr(tool) -> bool:
    """Find a BED file's regions also where it writes no ``chr``, which the windows always have: else the run stops."""
    wrap(sys.modules["kipoi_veff.mutation_map"], "_overlap_bedtools_region", _overlap_by_the_files_names)
    return True


def _overlap_by_the_files_names(overlap, bedtools_obj, regions):
    known = set(bedtools_obj.tabix_contigs())
    same_name = sys.modules["kipoi_veff.snv_predict"].homogenise_seqname
    return overlap(bedtools_obj, {**regions, "chr": [same_name(name, known) or name for name in regions["chr"]]})


def start_windows_of_regions_at_the_region(tool) -> bool:
    """Make a region's windows as long as the model's: they were 1 bp longer, as a 0-based start was taken as 1-based."""
    wrap(sys.modules["kipoi_veff.utils.generic"].BedOverlappingRg, "__call__", _one_based_starts)
    return True


def _one_based_starts(call, self, bed_entry):
    regions = call(self, bed_entry)
    return {**regions, "start": [start + 1 for start in regions["start"]]}


def predict_alleles_of_our_models_together(tool) -> bool:
    """Hand both alleles of a variant to our models in one batch, and put the strands of a reversed window in place.

    kipoi_veff predicts all references of a batch, then all alternatives: the pairs that share nearly all of
    their computation never meet. Of the reverse complement it does not know that tracks have a strand: the
    columns of partners change places.
    """
    together = []
    for name in ("kipoi_veff.snv_predict", "kipoi_veff.mutation_map", "kipoi_veff"):
        module = sys.modules[name]
        if not together:
            together = [module.analyse_model_preds, None]
            wrap(module, "analyse_model_preds", _analyse_together)
            together[1] = module.analyse_model_preds
        else:
            module.analyse_model_preds = together[1]
    before, after = together
    prediction = sys.modules["kipoi_veff.snv_predict"]
    maps = sys.modules["kipoi_veff.mutation_map"]
    for function in (prediction.predict_snvs, maps._generate_mutation_map, maps.MutationMap._generate_mutation_map):
        function.__defaults__ = tuple(after if value is before else value for value in function.__defaults__)
    return True


def _analyse_together(
    analyse, model, ref, alt, diff_types, output_reshaper, output_filter=None, ref_rc=None, alt_rc=None, **kwargs
):
    effects = getattr(model, "postprocessing", {}).get("variant_effects")
    if isinstance(effects, VariantEffects):
        model = _AllelePairs(model, (ref, alt), (ref_rc, alt_rc))
    return analyse(model, ref, alt, diff_types, output_reshaper, output_filter, ref_rc, alt_rc, **kwargs)


class _AllelePairs:
    """Answers kipoi_veff's four requests for predictions from two passes over the variants' pairs."""

    CHUNK_BYTES = 2**26

    def __init__(self, model, forward, reverse):
        self.model = model
        self.source_dir = model.source_dir
        self._forward, self._reverse = forward, reverse
        self._answers = {}

    def predict_on_batch(self, x):
        for pair, reversed_strand in ((self._forward, False), (self._reverse, True)):
            for position, allele in enumerate(pair):
                if x is allele:
                    return self._answer(pair, reversed_strand)[position]
        return self.model.predict_on_batch(x)

    def _answer(self, pair, reversed_strand):
        if reversed_strand not in self._answers:
            both = predict_pairs(self.model.predict_on_batch, *pair, self.CHUNK_BYTES)
            if reversed_strand:
                both = [predictions[:, self.model.tracks.strand_pair] for predictions in both]
            self._answers[reversed_strand] = both
        return self._answers[reversed_strand]


def predict_pairs(predict, ref, alt, chunk_bytes):
    """Predict the alleles of variants with those of one variant beside each other; equal neighbours once.

    Parameters
    ----------
    predict : callable
        From (n, seq_length, 4) to (n, columns).
    ref, alt : (variants, seq_length, 4)
    chunk_bytes : int
        About so much of input is handed over at a time.

    Returns
    -------
    two (variants, columns) arrays
    """
    variants = max(1, chunk_bytes // (2 * max(1, ref[0].nbytes)))
    refs, alts = [], []
    for start in range(0, len(ref), variants):
        rows, places = [], []
        for index in range(start, min(start + variants, len(ref))):
            if not rows or not np.array_equal(ref[index], ref[index - 1]):
                place = len(rows)
                rows.append(ref[index])
            places.append((place, len(rows)))
            rows.append(alt[index])
        predictions = predict(np.stack(rows))
        refs.append(predictions[[first for first, _ in places]])
        alts.append(predictions[[second for _, second in places]])
    return [np.concatenate(refs), np.concatenate(alts)]


FIXES_OF_VERSIONS = (
    supply_removed_numpy_names,
    give_info_fields_their_type_code,
    save_maps_with_current_numpy,
    stack_letters_from_generators,
    draw_letters_without_descartes,
)
FIXES_OF_FAULTS = (
    join_values_of_info_fields,
    leave_out_samples,
    keep_contig_names_whole,
    keep_windows_at_a_contigs_start,
    find_regions_with_or_without_chr,
    start_windows_of_regions_at_the_region,
)
BRIDGE = (predict_alleles_of_our_models_together,)
FIXES = FIXES_OF_VERSIONS + FIXES_OF_FAULTS + BRIDGE
