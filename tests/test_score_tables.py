"""Tables of scores hold, in every format, exactly the numbers that scoring gave, and no allele less."""

import gzip
import json
import re
import subprocess

import h5py
import numpy as np
import pandas as pd
import pysam
import pytest
from score_tables import (
    COLUMNS,
    GENE_SCORERS,
    KEY,
    PROVENANCE,
    SCORERS,
    Scorer,
    allele,
    chunks_from,
    genes_of,
    make_chunk,
)

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.variants import writers
from kipoi_borzoi.variants.header import Header, describe_scorers
from kipoi_borzoi.variants.output import write_scores
from kipoi_borzoi.variants.results import SCORED, Column
from kipoi_borzoi.variants.tidy import to_frame
from kipoi_borzoi.variants.writers import vcf

N = 25


def write(path, n=N, columns=COLUMNS, scorers=SCORERS, gene_scorers=GENE_SCORERS, provenance=PROVENANCE, chunks=None, **options):
    profiles, ensemble = options.get("profiles", ()), options.pop("ensemble", True)
    stream = chunks or chunks_from(
        n, columns=columns, scorers=scorers, gene_scorers=gene_scorers, profiles=profiles, ensemble=ensemble
    )
    return write_scores(stream, path, columns, scorers, gene_scorers, provenance, KEY, n_alleles=n, **options)


def expected(n=N, columns=COLUMNS, scorers=SCORERS, gene_scorers=GENE_SCORERS):
    """Tidy rows, one by one: (number, gene, track, scorer, mean, sd, quantile); None for nothing."""
    chunk = make_chunk(0, n, columns, scorers, gene_scorers)
    rows = []
    for number, row in enumerate(chunk.alleles):
        genes = [i for i, gene in enumerate(chunk.genes) if gene.allele == number]
        if row.status != SCORED or not (scorers or genes):
            rows.append((number, None, None, None, None, None, None))
            continue
        kinds = [(None, number, scorers, chunk.scores)] if scorers else []
        kinds += [(chunk.genes[i].gene_id, i, gene_scorers, chunk.gene_scores) for i in genes]
        for gene, place, known, scores in kinds:
            for column, track in enumerate(columns):
                for scorer in known:
                    m = scores[scorer.name]
                    numbers = (m.mean[place, column], m.sd[place, column], m.quantile[place, column])
                    rows.append((number, gene, track.name, scorer.name, *numbers))
    return rows


def check_tidy(table, rows):
    assert len(table) == len(rows)
    for (_, found), (number, gene, track, scorer, *numbers) in zip(table.iterrows(), rows, strict=True):
        row = allele(number)
        assert (found.variant_id, found.chrom, found.pos) == (row.variant_id, row.chrom, row.pos)
        assert (found.ref, found.alt, found.id, found.status) == (row.ref, row.alt, row.id, row.status)
        assert found.detail == row.detail if row.detail else pd.isna(found.detail) or found.detail == ""
        assert found.covered == 1 / (1 + row.number) if gene else pd.isna(found.covered)
        assert found.padded == row.padded or (pd.isna(found.padded) and np.isnan(row.padded))
        for value, wanted in zip((found.gene_id, found.track, found.scorer), (gene, track, scorer), strict=True):
            assert value == wanted or (wanted is None and pd.isna(value))
        for value, wanted in zip((found.score, found.sd, found["quantile"]), numbers, strict=True):
            assert np.float32(value) == wanted or (pd.isna(value) and wanted is None)


def read_tsv(path):
    dtypes = dict.fromkeys(("score", "sd", "quantile"), np.float32)
    return pd.read_csv(path, sep="\t", skiprows=1, dtype=dtypes, float_precision="round_trip")


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".parquet"])
def test_tidy_tables_hold_every_number(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    summary = write(path)
    assert str(summary) == "25 alleles: 20 scored, 5 skipped (REF_MISMATCH 3, ALT_STAR 2)"
    table = pd.read_parquet(path) if suffix == ".parquet" else read_tsv(path)
    assert list(table) == [
        "variant_id", "chrom", "pos", "ref", "alt", "id", "status", "detail", "padded", "gene_id", "gene_name", "strand",
        "covered", "track", "scorer", "score", "sd", "quantile",
    ]  # fmt: skip
    check_tidy(table, expected())
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_frame_equals_the_tidy_table():
    chunks = [make_chunk(0, 7), make_chunk(7, N)]
    header = Header(COLUMNS, describe_scorers(SCORERS), describe_scorers(GENE_SCORERS))
    check_tidy(to_frame(chunks, header), expected())
    assert list(to_frame([], header))[:2] == ["variant_id", "chrom"]


def test_tables_without_genes_and_of_one_model_have_fewer_fields(tmp_path):
    write(tmp_path / "x.tsv", gene_scorers=(), ensemble=False)
    names = (tmp_path / "x.tsv").read_text().splitlines()[1].split("\t")
    assert names == [
        "variant_id", "chrom", "pos", "ref", "alt", "id", "status", "detail", "padded", "track", "scorer", "score"
    ]  # fmt: skip


def test_of_gene_scores_alone_an_allele_without_genes_keeps_a_row(tmp_path):
    write(tmp_path / "x.tsv", scorers=())
    table = read_tsv(tmp_path / "x.tsv")
    check_tidy(table, expected(scorers=()))
    bare = table[table.gene_id.isna()]
    assert set(bare.pos) == {allele(number).pos for number in range(N) if not genes_of(number)}
    assert bare.score.isna().all() and (bare.status == SCORED).any()


def test_text_numbers_are_read_back_as_the_same_float32(tmp_path):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 3000, dtype=np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, 1e-45, 3.4028235e38, np.inf, -np.inf, 0.1, 16777216.0], np.float32)
    values = np.concatenate([bits[~np.isnan(bits)], special])
    columns = tuple(Column(f"t{i}") for i in range(len(values)))
    chunk = make_chunk(0, 1, columns, SCORERS[:1], (), ensemble=False)
    chunk.scores["SUM"].mean[0] = values
    for suffix in (".tsv", ".vcf.gz"):
        write(tmp_path / f"x{suffix}", 1, columns, SCORERS[:1], (), chunks=lambda *_: iter([chunk]))
    table = read_tsv(tmp_path / "x.tsv")
    np.testing.assert_array_equal(table.score.to_numpy().view(np.uint32), values.view(np.uint32))
    record = next(pysam.VariantFile(tmp_path / "x.vcf.gz"))
    found = np.array([record.info[f"KB_SUM_t{i}"][0] for i in range(len(values))], np.float32)
    np.testing.assert_array_equal(found, values)


def test_text_of_the_input_cannot_break_a_line(tmp_path):
    chunk = make_chunk(0, 1, gene_scorers=())
    odd = chunk.alleles[0].__class__(0, "chr1", 5, "A", "C", detail="one\ttwo\nthree\r", padded=0.0)
    chunk = chunk.__class__((odd,), chunk.scores)
    write(tmp_path / "x.tsv", 1, gene_scorers=(), chunks=lambda *_: iter([chunk]))
    assert set(read_tsv(tmp_path / "x.tsv").detail) == {"one two three "}


def test_calico_layout(tmp_path):
    write(tmp_path / "x.h5", gene_scorers=())
    chunk = make_chunk(0, N, gene_scorers=())
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file) == {
            "snp", "chr", "pos", "ref_allele", "alt_allele", "target_ids", "target_labels", "status", "detail", "padded",
            "SUM", "SUM_sd", "SUM_quantile", "D2", "D2_sd", "D2_quantile",
        }  # fmt: skip
        assert file["snp"].dtype.kind == "S" and file["pos"].dtype == np.uint32 and file["SUM"].dtype == np.float32
        rows = chunk.alleles
        assert file["snp"][()].tolist()[:3] == [b"rs1", b"chr1:107:A:G", b"rs2;odd,id=1"]
        for name, field in (("chr", "chrom"), ("ref_allele", "ref"), ("alt_allele", "alt"), ("status", "status")):
            assert [value.decode() for value in file[name]] == [getattr(row, field) for row in rows]
        assert file["pos"][()].tolist() == [row.pos for row in rows]
        assert [value.decode() for value in file["target_ids"]] == ["ENCFF1", "CAGE+", "treated-control"]
        assert [value.decode() for value in file["target_labels"]] == [column.description for column in COLUMNS]
        for name in ("SUM", "D2"):
            np.testing.assert_array_equal(file[name][()], chunk.scores[name].mean)
            np.testing.assert_array_equal(file[f"{name}_sd"][()], chunk.scores[name].sd)
        skipped = [row.status != SCORED for row in rows]
        np.testing.assert_array_equal(np.isnan(file["SUM"][()]).all(axis=1), skipped)
        assert json.loads(file.attrs["provenance"]) == PROVENANCE and file.attrs["complete"]


def test_one_long_allele_does_not_make_a_file_of_padding(tmp_path):
    rows = [allele(number) for number in range(N)]
    rows[8] = rows[8].__class__(**{**vars(rows[8]), "ref": "ACGT" * 50_000, "status": "TOO_LONG"})
    chunk = make_chunk(0, N, gene_scorers=())
    write(tmp_path / "x.h5", gene_scorers=(), chunks=lambda *_: iter([chunk.__class__(tuple(rows), chunk.scores)]))
    assert (tmp_path / "x.h5").stat().st_size < 200_000  # of 10 MB of padding
    with h5py.File(tmp_path / "x.h5") as file:
        assert [value.decode() for value in file["ref_allele"]] == [row.ref for row in rows]


def test_calico_layout_equals_the_recorded_one(tmp_path, shared_data):
    """Dataset by dataset, kind, width of shape and type class as in a file of Calico's own program."""
    write(tmp_path / "x.h5", gene_scorers=())
    with h5py.File(tmp_path / "x.h5") as ours, h5py.File(
        shared_data / "reference" / "variants" / "eqtl_all.scores.h5"
    ) as theirs:
        for name in ("snp", "chr", "pos", "ref_allele", "alt_allele", "target_ids", "target_labels", "SUM", "D2"):
            assert ours[name].dtype.kind == theirs[name].dtype.kind, name
            assert ours[name].ndim == theirs[name].ndim, name
        assert ours["SUM"].shape == (len(ours["snp"]), len(ours["target_ids"]))


def gene_groups(group, chunk, names):
    """Compare every statistic/allele/gene dataset with the chunk's row; return how many there are."""
    count = 0
    for scorer in GENE_SCORERS:
        assert set(group[scorer.name]) == {name.replace("/", "%2F") for name in names}
        for row, gene in enumerate(chunk.genes):
            found = group[scorer.name][names[gene.allele].replace("/", "%2F")][gene.gene_id]
            np.testing.assert_array_equal(found[()], chunk.gene_scores[scorer.name].mean[row])
            count += 1
        assert sum(len(alleles) for alleles in group[scorer.name].values()) == len(chunk.genes)
    return count


@pytest.mark.parametrize("with_alleles", [False, True])
def test_calico_layout_of_genes(tmp_path, with_alleles):
    write(tmp_path / "x.h5", scorers=SCORERS if with_alleles else ())
    chunk = make_chunk(0, N)
    with h5py.File(tmp_path / "x.h5") as file:
        names = [value.decode() for value in file["snp"]]
        assert names[0] == "rs1" and names[5] == "chr1:135:A:T" and len(set(names)) == N  # both have the ID rs1
        group = file["genes"] if with_alleles else file
        assert gene_groups(group, chunk, names) > 30
        assert group["gene"][()].tolist() == [b"ENSG1.1", b"ENSG2", b"ENSG3"]
        assert isinstance(file["SUM"], h5py.Dataset) == with_alleles


def test_alleles_of_one_id_keep_their_own_gene_scores(tmp_path, caplog):
    rows = [allele(number).__class__(**{**vars(allele(number)), "id": "a/b"}) for number in range(N)]
    chunk = make_chunk(0, N)
    chunk = chunk.__class__(tuple(rows), chunk.scores, chunk.genes, chunk.gene_scores)
    write(tmp_path / "x.h5", scorers=(), chunks=lambda *_: iter([chunk.__class__(chunk.alleles, {}, chunk.genes, chunk.gene_scores)]))
    with h5py.File(tmp_path / "x.h5") as file:
        names = [value.decode() for value in file["snp"]]
        gene_groups(file, chunk, names)
    assert names[0] == "a/b" and names[2] == "chr1:114:A:T"
    assert "another allele has the same ID" in caplog.text


def test_profiles_are_kept_in_h5_only(tmp_path):
    write(tmp_path / "x.h5", gene_scorers=(), profiles=("REF", "ALT"))
    chunk = make_chunk(0, N, gene_scorers=(), profiles=("REF", "ALT"))
    with h5py.File(tmp_path / "x.h5") as file:
        for name in ("REF", "ALT"):
            np.testing.assert_array_equal(file[name][()], chunk.profiles[name])
    with pytest.raises(InputError, match="REF and ALT are coverage by bin, which only .h5 can hold"):
        write(tmp_path / "x.tsv", profiles=("REF", "ALT"))
    assert not (tmp_path / "x.tsv.parts").exists()


def test_anndata(tmp_path):
    anndata = pytest.importorskip("anndata")
    write(tmp_path / "x.h5ad", gene_scorers=())
    data = anndata.read_h5ad(tmp_path / "x.h5ad")
    chunk = make_chunk(0, N, gene_scorers=())
    assert data.shape == (N, 3) and set(data.layers) == {f"{s}{m}" for s in ("SUM", "D2") for m in ("", "_sd", "_quantile")}
    for name in ("SUM", "D2"):
        np.testing.assert_array_equal(data.layers[name], chunk.scores[name].mean)
        np.testing.assert_array_equal(data.layers[f"{name}_sd"], chunk.scores[name].sd)
    assert list(data.obs_names) == [row.variant_id for row in chunk.alleles]
    for name in ("chrom", "pos", "ref", "alt", "id", "status", "detail"):
        assert list(data.obs[name]) == [getattr(row, name) for row in chunk.alleles]
    np.testing.assert_array_equal(data.obs["padded"], [row.padded for row in chunk.alleles])
    assert list(data.var_names) == ["ENCFF1", "CAGE+", "treated-control"]
    assert list(data.var["tracks"]) == ["ENCFF1+,ENCFF1-", "CAGE+", "T,C"] and set(data.var["kind"]) == {"track", "contrast"}
    assert json.loads(data.uns["provenance"]) == PROVENANCE
    data[data.obs.status == SCORED].copy().write_h5ad(tmp_path / "y.h5ad")  # anndata can take it on


def test_anndata_with_genes_has_an_observation_for_each(tmp_path):
    anndata = pytest.importorskip("anndata")
    write(tmp_path / "x.h5ad")
    data = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert data.n_obs == N + sum(len(genes_of(number)) for number in range(N))
    assert data.obs_names.is_unique and list(data.obs_names)[1:4] == ["chr1:107:A:G", "chr1:107:A:G:ENSG2", "chr1:114:A:T"]
    for number, gene, track, scorer, mean, sd, _ in expected():
        row = data[(data.obs.variant_id == allele(number).variant_id) & (data.obs.gene_id == (gene or ""))]
        assert row.n_obs == 1
        if track is None:
            assert np.isnan(row.layers["SUM"]).all()
            continue
        assert row[:, track].layers[scorer].item() == mean and row[:, track].layers[f"{scorer}_sd"].item() == sd
        assert np.isnan(row.layers["D2"]).all() == (gene is not None)


def test_vcf_has_one_value_for_each_alt(tmp_path):
    path = tmp_path / "x.vcf.gz"
    write(path, contigs={"chr1": 248956422})
    chunk = make_chunk(0, N)
    with pysam.VariantFile(path) as file:
        assert file.header.contigs["chr1"].length == 248956422
        for name in ("KB_SUM_ENCFF1", "KB_D2_CAGE_plus", "KB_SUM_treated_control_SD", "KB_PADDED"):
            assert (file.header.info[name].number, file.header.info[name].type) == ("A", "Float")
        assert 'RNA:liver \\"adult\\"' in file.header.info["KB_SUM_ENCFF1"].description
        assert f"##kipoi_borzoi_provenance={json.dumps(PROVENANCE, sort_keys=True)}" in str(file.header)
        records = list(file)
    assert len(records) == N - 1 and records[10].alts == ("G", "T")
    number = 0
    for record in records:
        for place, alt in enumerate(record.alts):
            row = chunk.alleles[number]
            assert (record.chrom, record.pos, record.ref, alt, record.id or ".") == (row.chrom, row.pos, row.ref, row.alt, row.id)
            assert record.info["KB_STATUS"][place] == row.status
            if row.status == SCORED:
                for column, name in enumerate(("ENCFF1", "CAGE_plus", "treated_control")):
                    assert np.float32(record.info[f"KB_SUM_{name}"][place]) == chunk.scores["SUM"].mean[number, column]
                    sd = record.info[f"KB_D2_{name}_SD"][place]
                    assert np.float32(sd) == chunk.scores["D2"].sd[number, column]
                genes = [i for i, gene in enumerate(chunk.genes) if gene.allele == number]
                if genes:
                    assert record.info["KB_GENE"][place].split("&") == [chunk.genes[i].gene_id for i in genes]
                    covered = [float(text) for text in record.info["KB_GENE_COVERED"][place].split("&")]
                    assert covered == [chunk.genes[i].covered for i in genes]
                    found = np.array(record.info["KB_GENE_logSED_ENCFF1"][place].split("&"), np.float32)
                    np.testing.assert_array_equal(found, chunk.gene_scores["logSED"].mean[genes, 0])
            else:
                assert "KB_SUM_ENCFF1" not in record.info
            number += 1
    assert number == N
    assert records[3].info["KB_DETAIL"] == ("REF%20is%20T%3B%2050%25%20of%20it%2C%20they%20say",)


def test_vcf_is_indexed_and_passes_tabix(tmp_path):
    write(tmp_path / "x.vcf.gz")
    with pysam.TabixFile(str(tmp_path / "x.vcf.gz")) as file:
        assert file.contigs == ["chr1", "chr2"]
        assert [line.split("\t")[1] for line in file.fetch("chr1", 113, 121)] == ["114", "121"]
    assert (tmp_path / "x.vcf.gz.tbi").stat().st_mtime >= (tmp_path / "x.vcf.gz").stat().st_mtime
    assert {path.name for path in tmp_path.iterdir()} == {"x.vcf.gz", "x.vcf.gz.tbi"}
    checked = subprocess.run(["gzip", "-t", tmp_path / "x.vcf.gz"], capture_output=True)
    assert checked.returncode == 0


def unsorted(n, order):
    """Chunks of alleles whose places are those of ``order``, numbered as they come."""
    def chunks(start, stop):
        for number in range(start, n):
            source = make_chunk(order[number], order[number] + 1, gene_scorers=())
            row = source.alleles[0].__class__(**{**vars(source.alleles[0]), "number": number, "record": number})
            yield source.__class__((row,), source.scores)
    return chunks


def test_vcf_of_an_unsorted_input_is_sorted(tmp_path, caplog, monkeypatch):
    order = np.random.default_rng(1).permutation(N).tolist()
    monkeypatch.setattr(vcf, "_RUN_BYTES", 3000)  # several runs on disk
    write(tmp_path / "x.vcf.gz", gene_scorers=(), chunks=unsorted(N, order))
    assert "the input is not sorted" in caplog.text
    with pysam.VariantFile(tmp_path / "x.vcf.gz") as file:
        found = [(record.chrom, record.pos, record.alts[0]) for record in file]
    contigs = list(dict.fromkeys(allele(number).chrom for number in order))
    wanted = [(allele(n).chrom, allele(n).pos, allele(n).alt) for n in order]
    assert found == sorted(wanted, key=lambda row: (contigs.index(row[0]), row[1]))
    write(tmp_path / "x.tsv", gene_scorers=(), chunks=unsorted(N, order))
    rows = read_tsv(tmp_path / "x.tsv")
    assert list(dict.fromkeys(rows.variant_id)) == [allele(number).variant_id for number in order]


def test_positions_beyond_tbi_get_a_csi_index(tmp_path):
    row = allele(0).__class__(0, "chr1", 700_000_000, "A", "C", padded=0.0)
    chunk = make_chunk(0, 1, gene_scorers=())
    write(tmp_path / "x.vcf.gz", 1, gene_scorers=(), chunks=lambda *_: iter([chunk.__class__((row,), chunk.scores)]))
    assert {path.name for path in tmp_path.iterdir()} == {"x.vcf.gz", "x.vcf.gz.csi"}
    with pysam.VariantFile(tmp_path / "x.vcf.gz") as file:
        assert [record.pos for record in file.fetch("chr1", 699_999_990, 700_000_001)] == [700_000_000]


def test_info_keys_are_valid_and_distinct(tmp_path):
    columns = tuple(Column(name) for name in ("a+", "a-", "a_plus", "a b", "a_b", "x", "x_SD", "7"))
    write(tmp_path / "x.vcf.gz", 2, columns, gene_scorers=())
    chunk = make_chunk(0, 2, columns, gene_scorers=())
    with pysam.VariantFile(tmp_path / "x.vcf.gz") as file:
        keys = [key for key in file.header.info if key.startswith("KB_SUM")]
        record = next(file)
    assert len(keys) == 3 * len(columns) and "KB_SUM_a_plus_2" in keys
    assert np.float32(record.info["KB_SUM_x_SD"][0]) == chunk.scores["SUM"].sd[0, 5]
    assert np.float32(record.info["KB_SUM_x_SD_2"][0]) == chunk.scores["SUM"].mean[0, 6]


def test_records_of_an_unknown_number_are_told_by_place_ref_and_id(tmp_path):
    same = [allele(0).__class__(i, "chr1", 5, "A", alt, id=name) for i, (alt, name) in enumerate([("C", "a"), ("G", "a"), ("T", "b")])]
    chunk = make_chunk(0, 3, gene_scorers=())
    write(tmp_path / "x.vcf.gz", 3, gene_scorers=(), chunks=lambda *_: iter([chunk.__class__(tuple(same), chunk.scores)]))
    with pysam.VariantFile(tmp_path / "x.vcf.gz") as file:
        assert [record.alts for record in file] == [("C", "G"), ("T",)]


def test_parquet_carries_provenance_and_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "x.parquet")
    schema = parquet.read_schema(tmp_path / "x.parquet")
    assert json.loads(schema.metadata[b"provenance"]) == PROVENANCE
    assert str(schema.field("score").type) == "float" and str(schema.field("pos").type) == "int64"


def test_long_provenance_does_not_fit_an_attribute_but_is_kept(tmp_path):
    long = {"tracks": [f"track{number}" for number in range(10_000)]}
    for suffix in (".h5", ".tsv", ".vcf.gz"):
        write(tmp_path / f"x{suffix}", provenance=long, gene_scorers=())
    with h5py.File(tmp_path / "x.h5") as file:
        assert json.loads(file["provenance"][()]) == long
    first = (tmp_path / "x.tsv").read_text().splitlines()[0]
    assert json.loads(first.removeprefix("##provenance=")) == long


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_bytes_do_not_depend_on_how_chunks_are_cut(tmp_path, suffix):
    contents = set()
    for size in (1, 4, 30):
        path = tmp_path / f"{size}{suffix}"
        write(path, chunks=chunks_from(N, size))
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_bytes_do_not_depend_on_cuts_where_a_table_takes_many_blocks(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("kipoi_borzoi.variants.output._BLOCK_VALUES", 40)
    contents = set()
    for size in (1, 5):
        path = tmp_path / f"{size}{suffix}"
        write(path, chunks=chunks_from(N, size))
        contents.add(path.read_bytes())
    assert len(contents) == 1
    if suffix == ".parquet":
        check_tidy(pd.read_parquet(path), expected())
    if suffix == ".tsv.gz":
        check_tidy(read_tsv(path), expected())


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_of_an_input_without_alleles_there_is_an_empty_table(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    assert str(write(path, 0)) == "0 alleles: 0 scored, 0 skipped"
    if suffix == ".vcf.gz":
        assert list(pysam.VariantFile(path)) == []
    elif suffix == ".parquet":
        assert len(pd.read_parquet(path)) == 0
    elif suffix.startswith(".tsv"):
        text = gzip.decompress(path.read_bytes()).decode() if suffix.endswith("gz") else path.read_text()
        assert len(text.splitlines()) == 2
    else:
        with h5py.File(path) as file:
            assert file["SUM" if suffix == ".h5" else "layers/SUM"].shape == (0, 3)


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_where_all_are_skipped_each_still_has_its_row(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    rows = tuple(allele(n).__class__(n, "chr1", n + 1, "A", "C", status="REF_MISMATCH") for n in range(3))
    summary = write(path, 3, chunks=lambda *_: iter([make_chunk(0, 0).__class__(rows)]))
    assert summary.scored == 0 and summary.skipped == {"REF_MISMATCH": 3}
    if suffix.startswith(".tsv"):
        assert list(read_tsv(path).status) == ["REF_MISMATCH"] * 3
    elif suffix == ".parquet":
        assert list(pd.read_parquet(path).status) == ["REF_MISMATCH"] * 3
    elif suffix == ".vcf.gz":
        assert [record.info["KB_STATUS"] for record in pysam.VariantFile(path)] == [("REF_MISMATCH",)] * 3
    else:
        with h5py.File(path) as file:
            status = file["status" if suffix == ".h5" else "obs/status"][()].tolist()
            assert status == [b"REF_MISMATCH"] * 3
            assert np.isnan(file["SUM" if suffix == ".h5" else "layers/SUM"][()]).all()


def test_names_and_limits_of_formats_are_checked_first(tmp_path, monkeypatch):
    for name, message in (
        ("x.csv", "its suffix names no format; known: .tsv, .tsv.gz, .parquet, .h5, .h5ad, .vcf.gz$"),
        ("x.vcf", "a VCF is written compressed and indexed: .vcf.gz"),
        (".tsv", "its suffix names no format"),
        ("none/x.tsv", "does not exist; make it first"),
    ):
        with pytest.raises(InputError, match=message):
            write(tmp_path / name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KipoiBorzoiError, match=r"pip install 'kipoi-borzoi\[parquet\]'"):
        write(tmp_path / "x.parquet")
    many = tuple(Column(f"t{number}") for number in range(6000))
    with pytest.raises(InputError, match="12000 INFO keys, more than 10000"):
        write(tmp_path / "x.vcf.gz", columns=many, gene_scorers=())
    with pytest.raises(InputError, match="'snp' has no place"):
        write(tmp_path / "x.h5", scorers=(Scorer("snp"),))
    with pytest.raises(InputError, match="column 'a' is there twice"):
        write(tmp_path / "x.h5", columns=(Column("a"), Column("a")))
    assert list(tmp_path.iterdir()) == []


def test_bcftools_reads_filters_and_splits_the_vcf(tmp_path):
    """As bundled with pysam: values by key, a filter on a score, and records split into one ALT each."""
    from pysam import bcftools

    path = str(tmp_path / "x.vcf.gz")
    write(path, contigs={"chr1": 1000, "chr2": 1000})
    chunk = make_chunk(0, N)
    mean = chunk.scores["SUM"].mean[:, 0]
    split = bcftools.norm("-m-any", path)
    (tmp_path / "split.vcf").write_text(split)
    rows = bcftools.query("-f", "%POS\t%ALT\t%INFO/KB_STATUS\t%INFO/KB_SUM_ENCFF1\n", str(tmp_path / "split.vcf")).splitlines()
    assert len(rows) == N
    for row, allele_row, score in zip(rows, chunk.alleles, mean, strict=True):
        pos, alt, status, value = row.split("\t")
        assert (int(pos), alt, status) == (allele_row.pos, allele_row.alt, allele_row.status)
        assert value == "." if np.isnan(score) else float(value) == pytest.approx(score, rel=1e-5)
    kept = bcftools.query("-i", "INFO/KB_SUM_ENCFF1 > 0.5", "-f", "%POS\n", str(tmp_path / "split.vcf")).split()
    assert [int(pos) for pos in kept] == [row.pos for row, score in zip(chunk.alleles, mean, strict=True) if score > 0.5]


def test_bcftools_annotates_another_vcf_with_scores(tmp_path):
    from pysam import bcftools

    path = str(tmp_path / "x.vcf.gz")
    write(path)
    own = tmp_path / "own.vcf"
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=chr1>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    own.write_text("\n".join([*lines, "chr1\t170\tmine\tA\tT,G\t.\t.\t."]) + "\n")
    text = bcftools.annotate("-a", path, "-c", "INFO/KB_SUM_ENCFF1", pysam.tabix_index(str(own), preset="vcf"))
    found = re.search(r"KB_SUM_ENCFF1=([^;\s]+)", text.splitlines()[-1])[1].split(",")
    mean = make_chunk(0, N).scores["SUM"].mean[:, 0]
    assert [float(value) for value in found] == pytest.approx([mean[11], mean[10]], rel=1e-5)  # in the order of its ALTs
