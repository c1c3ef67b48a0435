"""Uses of kipoi_veff, run in a process of its own (its import rewires logging): each fix, then whole runs on a small model."""

import json
import sys
from pathlib import Path

import numpy as np

LENGTH = 512


def use_supply_removed_numpy_names(folder):
    from kipoi_veff.utils.dna_reshapers import ReshapeDna
    from kipoi_veff.utils.mutators import _modify_bases

    x = np.eye(4)[None, [0, 1, 2, 3]].copy()
    _modify_bases(x, np.array([0]), np.array([1]), np.array(["T"]), np.array([False]))
    return [int(ReshapeDna((8, 4)).get_seq_len()), x[0].argmax(axis=1).tolist()]


def use_give_info_fields_their_type_code(folder):
    from kipoi_veff.utils.io import VcfWriter

    field = VcfWriter._generate_info_field("X", None, "String", "text", None, None)
    return [field.id, field.type, field.desc]


def use_save_maps_with_current_numpy(folder):
    from kipoi_veff import MutationMapPlotter

    entry = {"mutation_map": np.arange(8.0).reshape(4, 2), "ref_seq": "AC", "ovlp_var": {"id": []}, "region": {"chr": "c"}}
    MutationMapPlotter(mutation_map=[{"seq": entry}]).save_to_file(str(folder / "map.h5"))
    found = MutationMapPlotter(fname=str(folder / "map.h5")).mutation_map[0]["seq"]
    return [found["mutation_map"].tolist(), str(found["ref_seq"]), str(found["region"]["chr"])]


def use_stack_letters_from_generators(folder):
    from kipoi_veff.external.concise.seqplotting_deps import encodeDNA, letter_polygons

    return [sorted(set(letter_polygons) & set("ACGT")), encodeDNA(["GA"])[0].tolist()]


def use_draw_letters_without_descartes(folder):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from kipoi_veff.external.concise.seqplotting_deps import add_letter_to_axis, letter_polygons

    axes = plt.subplot()
    add_letter_to_axis(axes, letter_polygons["A"], "green", 3.0, 1.0, 2.0)
    outer, hole = (patch.get_path().vertices for patch in axes.patches)
    box = [*outer.min(axis=0), *outer.max(axis=0)]
    return [np.round(box, 6).tolist(), bool(hole[:, 0].min() > 3), matplotlib.colors.to_hex(axes.patches[1].get_facecolor())]


def write_vcf(path, records, contigs, header=(), samples=()):
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name},length={length}>" for name, length in contigs.items())]
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO".split("\t") + (["FORMAT", *samples] if samples else [])
    lines += [*header, "\t".join(columns), *("\t".join(map(str, record)) for record in records)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


HEADER = [
    '##INFO=<ID=AC,Number=A,Type=Integer,Description="count">',
    '##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">',
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="known">',
    '##INFO=<ID=SRC,Number=1,Type=String,Description="source">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
]


def annotated(folder, name, samples=()):
    """Columns and INFO of a record that went through kipoi_veff's writer."""
    import types

    import cyvcf2
    import pandas as pd
    from kipoi_veff.utils.io import VcfWriter

    record = ["c", 5, "v", "A", "C,G", ".", "PASS", "AC=1,2;AF=0.25,0.5;DB;SRC=x"] + (["GT", "0/1"] if samples else [])
    path = write_vcf(folder / f"{name}.vcf", [record], {"c": 100}, HEADER, samples)
    model = types.SimpleNamespace(name="m", source_name="s")
    writer = VcfWriter(model, path, str(folder / f"{name}_out.vcf"))
    records = list(cyvcf2.VCF(path))
    writer({"diff": pd.DataFrame([[1.5]], columns=["t"])}, records, np.array(["r"]))
    writer.vcf_writer.stream.flush()
    lines = (folder / f"{name}_out.vcf").read_text().splitlines()
    columns = [len(line.split("\t")) for line in lines if not line.startswith("##")]
    return columns, lines[-1].split("\t")[7].split(";")


def use_join_values_of_info_fields(folder):
    return annotated(folder, "info")[1]


def use_leave_out_samples(folder):
    return annotated(folder, "samples", ["s1"])[0]


def use_keep_contig_names_whole(folder):
    from kipoi_veff.utils.io import BedWriter

    with BedWriter(str(folder / "windows.bed")) as writer:
        for name in ("chr1", "7", "scaffold_c"):
            writer.append_interval(name, 11, 20, "id")
    return (folder / "windows.bed").read_text().splitlines()


def use_keep_windows_at_a_contigs_start(folder):
    from kipoi_veff.utils.io import BedWriter

    with BedWriter(str(folder / "windows.bed")) as writer:
        for pos in (1, 4, 5, 300):  # as kipoi_veff does for SNVs, windows of 8 bp
            writer.append_interval("chr1", pos - 3, pos + 4, "id")
    return [[int(value) for value in line.split("\t")[1:3]] for line in (folder / "windows.bed").read_text().splitlines()]


def use_find_regions_with_or_without_chr(folder):
    from kipoi_veff import mutation_map
    from pybedtools import BedTool

    (folder / "regions.bed").write_text("scaffold\t10\t20\n")
    regions = {"chr": np.array(["chrscaffold"]), "start": np.array([5]), "end": np.array([25])}
    found, lines = mutation_map._overlap_bedtools_region(BedTool(str(folder / "regions.bed")).tabix(force=True), regions)
    return [[str(region).strip() for region in found], lines]


def use_start_windows_of_regions_at_the_region(folder):
    import types

    from kipoi_veff import BedOverlappingRg
    from kipoi_veff.utils.io import BedWriter

    model_info = types.SimpleNamespace(get_seq_len=lambda: 10)
    regions = BedOverlappingRg(model_info)(types.SimpleNamespace(chrom="chr1", start=100, end=120, name="n"))
    with BedWriter(str(folder / "overlapping.bed")) as writer:
        for index in range(2):
            writer.append_interval(**{key: value[index] for key, value in regions.items()})
    return [line.split("\t")[1:3] for line in (folder / "overlapping.bed").read_text().splitlines()]


def use_predict_alleles_of_our_models_together(folder):
    """Batches that a model gets: letters of each row at the variant."""
    import types

    from kipoi_veff import snv_predict

    from kipoi_borzoi.kipoi_compat.veff import VariantEffects

    batches = []

    def predict(x):
        batches.append("".join("ACGT"[base] for base in x[:, 2].argmax(axis=1)))
        return x[:, 2] @ np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])

    model = types.SimpleNamespace(
        predict_on_batch=predict,
        source_dir=str(folder),
        postprocessing={"variant_effects": VariantEffects("sum")},
        tracks=types.SimpleNamespace(strand_pair=np.array([1, 0])),
    )
    one_hot = {letter: np.eye(4)[[0, 0, "ACGT".index(letter), 0]] for letter in "ACGT"}
    stack = {name: np.stack([one_hot[letter] for letter in letters]) for name, letters in
             {"ref": "AAC", "alt": "CGT", "ref_rc": "TTG", "alt_rc": "GCA"}.items()}  # fmt: skip
    reshaper = types.SimpleNamespace(flatten=lambda predictions: (predictions, np.array(["+", "-"])))
    kept = {}
    analyse = snv_predict.predict_snvs.__defaults__[4]
    assert analyse.__name__ == "analyse_model_preds"
    analyse(model, diff_types={"all": lambda **found: kept.update(found) or found["ref"]}, output_reshaper=reshaper, **stack)
    return [batches, {name: values.tolist() for name, values in sorted(kept.items())}]


def report_fixes(folder):
    """For every fix in turn: what its use does before it, whether it says it was needed, and what its use does after."""
    import kipoi_veff

    from kipoi_borzoi.kipoi_compat import veff

    outcomes = {}
    for fix in veff.FIXES:
        use, outcome = globals()[f"use_{fix.__name__}"], []
        for moment in ("before", "after"):
            place = folder / fix.__name__ / moment
            place.mkdir(parents=True)
            needed = fix(kipoi_veff) if moment == "after" else None
            try:
                outcome.append(["ok", use(place)])
            except Exception as error:
                outcome.append([type(error).__name__, str(error)])
        outcomes[fix.__name__] = [*outcome, needed]
    return outcomes


def report_runs(folder):
    """Whole runs on ``lab/mine`` of the zoo registered in ``folder``; numbers by hand beside kipoi_veff's."""
    import logging

    import kipoi
    import kipoi_veff
    import pandas as pd
    from genome_files import one_hot_by_letter, reverse_complement_text, window
    from kipoi import writers
    from kipoi_veff.utils.io import SyncBatchWriter

    import kipoi_borzoi.kipoi_compat as compat

    contigs = json.loads((folder / "contigs.json").read_text())
    fasta = {"fasta_file": str(folder / "genome.fa")}
    model = kipoi.get_model("lab/mine/sum", source="borzoi")
    found = {"fixes": compat.applied_fixes()["kipoi_veff"], "disabled": logging.getLogger("kipoi_borzoi").disabled}

    def letters(chrom, pos):
        ref = contigs[chrom][pos - 1].upper()
        return ref, "CGTA"["ACGT".index(ref)]

    def text(chrom, pos, allele):
        sequence = contigs[chrom].upper()
        return window(sequence[: pos - 1] + allele + sequence[pos:], pos - LENGTH // 2, pos + LENGTH // 2)

    def predict(sequence):
        return model.predict_on_batch(one_hot_by_letter(sequence)[np.newaxis])[0]

    places = [("chr1", 1500), ("chr1", 1800), ("chr1", 2990), ("scaffold_c", 30)]
    records = [[chrom, pos, f"v{pos}", *letters(chrom, pos), ".", ".", "AC=1;DB"] for chrom, pos in places]
    ref = contigs["chr1"][1599].upper()
    several = ["chr1", 1600, "several", ref, ",".join(base for base in "ACGT" if base != ref), ".", ".", "AC=1,2,3"]
    deletion = ["chr1", 1700, "deletion", contigs["chr1"][1699:1702].upper(), contigs["chr1"][1699].upper(), ".", ".", "."]
    records = [records[0], several, deletion, *records[1:]]
    scored = [records[0], several, *records[3:]]
    vcf = write_vcf(folder / "in.vcf", records, {name: len(bases) for name, bases in contigs.items()}, HEADER)

    def run(scores=("diff",), name="out", **options):
        return kipoi_veff.score_variants(
            model, dict(fasta), vcf, str(folder / f"{name}.vcf"), scores=list(scores), return_predictions=True, **options
        )

    def by_hand(record):
        chrom, pos, _, ref, alt = record[:5]
        return predict(text(chrom, pos, ref)), predict(text(chrom, pos, alt.split(",")[0]))

    pairs = [by_hand(record) for record in scored]
    result = run(["diff", "ref", "alt", "logSED"])
    found["scores"] = {name: table.values.tolist() for name, table in result.items()}
    found["columns"] = list(result["diff"].columns)
    found["by hand"] = {"ref": [pair[0].tolist() for pair in pairs], "alt": [pair[1].tolist() for pair in pairs]}
    lines = (folder / "out.vcf").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    found["vcf"] = [[*row[:5], dict(item.partition("=")[::2] for item in row[7].split(";"))] for row in rows]
    chosen = run(model_outputs=["human4", "human1"])["diff"]
    found["chosen"] = [list(chosen.columns), chosen.values.tolist()]
    found["chosen by number"] = run(model_outputs=[1, 4])["diff"].values.tolist()

    class Ratio:
        __name__ = "ratio"

        def __call__(self, ref, alt, ref_rc=None, alt_rc=None):
            return alt / ref

    found["ratio"] = run([Ratio()])["ratio"].values.tolist()
    for suffix in ("tsv", "h5"):
        writer = SyncBatchWriter(writers.get_writer(str(folder / f"extra.{suffix}"), metadata_schema=None))
        kipoi_veff.score_variants(model, dict(fasta), vcf, output_writers=[writer], scores=["diff"], batch_size=2)
    table = pd.read_csv(folder / "extra.tsv", sep="\t")
    found["tsv"] = table[[f"preds/diff/{track}" for track in range(6)]].values.tolist()
    import h5py

    with h5py.File(folder / "extra.h5") as file:
        found["h5"] = file["preds/diff"][:].tolist()
    (folder / "restriction.bed").write_text("chr1\t1200\t1900\nscaffold_c\t0\t100\n")
    found["restricted"] = list(run(restriction_bed=str(folder / "restriction.bed"))["diff"].index)
    model.postprocessing["variant_effects"].use_rc = True
    reverse = run(["diff", "alt"])
    model.postprocessing["variant_effects"].use_rc = False
    pair = model.tracks.strand_pair
    swapped = []
    for record in scored:
        chrom, pos, _, ref, alt = record[:5]
        both = [predict(reverse_complement_text(text(chrom, pos, one)))[pair] for one in (ref, alt.split(",")[0])]
        swapped.append(both)
    found["rc"] = {name: values.values.tolist() for name, values in reverse.items()}
    found["rc by hand"] = {
        "diff": [((a - r + c - b) / 2).tolist() for (r, a), (b, c) in zip(pairs, swapped, strict=True)],
        "alt": [((a + c) / 2).tolist() for (_, a), (_, c) in zip(pairs, swapped, strict=True)],
    }
    found["maps"] = report_maps(folder, model, fasta)
    return found


def report_maps(folder, model, fasta):
    """kipoi_veff's map of a whole window, ours of its middle, and both drawn."""
    import kipoi_veff

    from kipoi_borzoi.genome import Interval
    from kipoi_borzoi.kipoi_tools.veff import draw_map, mutation_map, write_map

    whole = kipoi_veff.MutationMap(model, model.default_dataloader, dict(fasta))
    plotter = whole.query_region("chr1", 1000, 1000 + LENGTH, scores=["diff"], batch_size=64)
    plotter.save_to_file(str(folder / "whole.h5"))
    theirs = kipoi_veff.MutationMapPlotter(fname=str(folder / "whole.h5")).mutation_map[0]["seq"]["diff"]["human2"]
    region = Interval("chr1", 1000 + LENGTH // 2 - 4, 1000 + LENGTH // 2 + 4)
    ours = mutation_map(model, fasta["fasta_file"], region, ["diff"], ["human2", "human0"])
    write_map(ours, folder / "part.h5")
    part = kipoi_veff.MutationMapPlotter(fname=str(folder / "part.h5"))
    draw_map(part, folder / "part.png", "diff", "human2")
    entry = part.mutation_map[0]["seq"]["diff"]["human2"]
    model.postprocessing["variant_effects"].use_rc = True
    both = mutation_map(model, fasta["fasta_file"], region, ["alt"], ["human0"]).mutation_map[0]["seq"]["alt"]["human0"]
    model.postprocessing["variant_effects"].use_rc = False
    return {
        "theirs": theirs["mutation_map"].tolist(),
        "their letters": str(theirs["ref_seq"]),
        "ours": entry["mutation_map"].tolist(),
        "our letters": str(entry["ref_seq"]),
        "both strands": both["mutation_map"].tolist(),
        "picture": (folder / "part.png").stat().st_size,
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    work = {"fixes": report_fixes, "runs": report_runs}[sys.argv[1]]
    print("REPORT " + json.dumps(work(Path(sys.argv[2])), default=str))
