"""Readers of files from elsewhere, a sound file for each, and seeded damage: only this package's errors, or success, may follow."""

import json
import logging
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from kipoi_borzoi.errors import KipoiBorzoiError

HANG_S = 20
TOKENS = (
    b"-1", b"0", b"nan", b"inf", b"1e400", b"99999999999999999999", b"-0.5", b"\x00", b"\xff\xfe", b"\t", b"\n", b"\r\n", b" ", b",", b'"',
    b"'", b"#", b"=", b";", b":", b"\xc3\xa9", b"\xef\xbb\xbf", b"{{", b"[", b"]", b"}", b"..", b"/", b"None", b"NA", b"*", b"&a", b"!!python/name:os.system ",
)  # fmt: skip
VALUES = (None, True, -1, 0, 1, 1.5, float("nan"), 1e400, 10**30, "", "x", [], {}, [1], {"a": 1}, "a" * 300, 2**31, -(2**63), ["x"] * 3)


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    make : callable
        Makes a folder (that exists) hold sound files; returns those to damage.
    read : callable
        Reads all of the folder.
    structure : str
        ``json`` or ``yaml`` where values of the first file are replaced, too.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    structure: str = ""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some of them changed, lost, doubled, moved or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 40, 400))
        match rng.randrange(8):
            case 0:
                if place < len(data):
                    data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case 3:
                data[place:place] = rng.choice(TOKENS)
            case 4:
                token = rng.choice(TOKENS)
                data[place : place + len(token)] = token
            case 5:
                data[place : place + length] = bytes([rng.choice((0, 255, 127, 32))]) * length
            case 6:
                data[place : place + 8] = struct.pack("<q", rng.choice((-1, 0, 1, 2**31, 2**40, 2**63 - 1, len(data))))
            case 7:
                del data[place:]
    return bytes(data)


def altered(value, rng: random.Random):
    """A JSON value with one of its parts replaced, removed or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        value, key = dict(value), rng.choice(list(value))
        match rng.randrange(6):
            case 0:
                del value[key]
            case 1:
                value[rng.choice(("x", key + "_", ""))] = value.pop(key)
            case _:
                value[key] = altered(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        value, place = list(value), rng.randrange(len(value))
        match rng.randrange(5):
            case 0:
                del value[place]
            case 1:
                value.insert(place, value[place])
            case _:
                value[place] = altered(value[place], rng)
        return value
    return rng.choice(VALUES)


def damage(target: Target, files: list[Path], rng: random.Random) -> None:
    """Damage one of the files."""
    if target.structure and rng.random() < 0.6:
        text = files[0].read_text()
        loaded = json.loads(text) if target.structure == "json" else yaml.safe_load(text)
        changed = altered(loaded, rng)
        files[0].write_text(json.dumps(changed) if target.structure == "json" else yaml.safe_dump(changed))
    else:
        path = rng.choice(files)
        path.write_bytes(damaged(path.read_bytes(), rng))


def fuzz(name: str, target: Target, seed: int, seconds: float, cases: int = 10**9) -> tuple[int, list[dict]]:
    """Damage and read until the time or the cases are over; how many, and what else than success or an error of ours came.

    Every case runs in a forked process that does many, since C libraries may crash; the next one goes on behind the crash.
    """
    failures, done = [], 0
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound")
        sound.mkdir()
        target.make(sound)
        target.read(sound)  # imports what is needed, which is not to count as time of a case
        end = time.monotonic() + seconds
        while done < cases and time.monotonic() < end:
            work = Path(folder, "work")
            child = os.fork()
            if child == 0:
                _run(name, target, seed, done, min(cases, done + 4000), end, sound, work)
            code = _wait(child, Path(f"{work}.log"))
            last, *found = [json.loads(line) for line in Path(f"{work}.log").read_text().splitlines()][::-1]
            failures += [failure for failure in found if "error" in failure]
            done = last["case"] + 1
            status = os.waitstatus_to_exitcode(code)
            if status:
                failures.append({"case": last["case"], "error": f"the process ended with status {status}"})
    return done, failures


def _wait(child: int, log: Path) -> int:
    """Wait for a process, and end it when a case takes so long that its own alarm cannot reach it, as within a C library."""
    while True:
        found, code = os.waitpid(child, os.WNOHANG)
        if found:
            return code
        if log.exists() and time.time() - log.stat().st_mtime > HANG_S + 10:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def _run(name, target, seed, first, last, end, sound, work):
    """In the forked process: write a line before each case, and one for each failure."""
    logging.disable(logging.CRITICAL)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1), os.dup2(devnull, 2)
    with open(f"{work}.log", "w", buffering=1) as log:
        for case in range(first, last):
            if case > first and time.monotonic() > end:
                break
            log.write(json.dumps({"case": case}) + "\n")
            error = one(name, target, seed, case, sound, work)
            if error is not None:
                log.write(json.dumps({"case": case, "error": error}) + "\n")
                log.write(json.dumps({"case": case}) + "\n")
    os._exit(0)


def one(name: str, target: Target, seed: int, case: int, sound: Path, work: Path) -> str | None:
    """Read one damaged folder; what is wrong about the outcome, or None."""
    rng = random.Random(f"{seed} {name} {case}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work)
    damage(target, [work / path.relative_to(sound) for path in _files(target, sound)], rng)
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(HANG_S)
    try:
        target.read(work)
    except KipoiBorzoiError:
        return None
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(sys.exc_info()[2]) if "kipoi_borzoi" in frame.filename or "wt" in frame.filename]
        places = "; ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:])
        return f"{type(error).__name__}: {str(error)[:200]} ({places})"
    finally:
        signal.alarm(0)
    return None


_KNOWN: dict = {}


def _files(target: Target, sound: Path) -> list[Path]:
    """What `Target.make` returned for this folder."""
    if _KNOWN.get("sound") != sound:
        with tempfile.TemporaryDirectory() as folder:
            _KNOWN.update(sound=sound, files=[sound / path.relative_to(folder) for path in target.make(Path(folder))])
    return _KNOWN["files"]


def _hang(*_):
    raise TimeoutError(f"longer than {HANG_S} s")


# The readers


def _text(name: str, content: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_text(content)
        return [folder / name]

    return make


def _bgzip(name: str, content: str):
    def make(folder: Path) -> list[Path]:
        import pysam

        (folder / "plain").write_text(content)
        pysam.tabix_compress(str(folder / "plain"), str(folder / name), force=True)
        (folder / "plain").unlink()
        return [folder / name]

    return make


VCF = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=2600>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
chr1\t101\trs1\tA\tC\t.\tPASS\tDP=3
chr1\t150\t.\tACG\tA,<DEL>,*\t10\tq10\t.
chr2\t7\tx;y\tN\tG[chr1:5[\t.\t.\tA=1;B
"""
BED = "track x\n#c\nchr1\t10\t200\ta\t0\t+\nchr1\t300\t400\tb\t0\t-\nchr2\t0\t5\tc\t0\t.\n"
GTF = """#!genome
chr1\tx\tgene\t101\t900\t.\t+\t.\tgene_id "G1"; gene_name "A; b";
chr1\tx\texon\t101\t300\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; exon_number 1; gene_name "A; b";
chr1\tx\texon\t500\t900\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; exon_number 2;
chr2\tx\texon\t5\t60\t.\t-\t.\tgene_id "G2"; transcript_id "T2";
"""
TRACKS = """\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription
0\ta+\ta.w5\t384\t320\t0.3\tsum_sqrt\t1\tRNA:liver
1\ta-\tb.w5\t384\t320\t0.3\tsum_sqrt\t0\tRNA:liver
2\tc\tc.w5\t64\t32\t1.0\tmean\t2\tDNASE:"x
"""
CONTRASTS = "name\ttrack\tweight\ntreated\ta\t1\ntreated\tc\t-0.5\nother\tc\t2e-1\n"
DE_GENES = "gene_id,log2FoldChange,padj\nG1,1.5,0.001\nG2,-2,1e-30\nG3,0.1,NA\n"
MEME = """MEME version 4

ALPHABET= ACGT

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF M1 first
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
0.7 0.1 0.1 0.1
0.25 0.25 0.25 0.25
0 0 1 0
"""
RUN = {
    "method": "locon", "seed": 1, "batch_size": 2, "learning_rate": 0.001, "settings": {"lora_rank": 2, "conv_select": 2}, "train": ["fold0", "fold1"],
    "valid": ["fold3"], "epochs_max": 30, "dropout": True, "augment_shift": 3, "weight_range": 5.0,
}  # fmt: skip


def _read_vcf(name):
    def read(folder: Path):
        from kipoi_borzoi.dataloaders.vcf import VcfReader

        return list(VcfReader(folder / name))

    return read


def _read(module: str, function: str, name: str, *more):
    def read(folder: Path):
        import importlib

        return getattr(importlib.import_module(f"kipoi_borzoi.{module}"), function)(folder / name, *more)

    return read


def _make_fasta(bgzip: bool):
    def make(folder: Path) -> list[Path]:
        from genome_files import random_sequence, write_fasta

        from kipoi_borzoi.dataloaders.fasta import FastaReader

        path = folder / "g.fa"
        write_fasta(path, {"chr1": random_sequence(2600, 1, "ACGTNacgt"), "chr2": random_sequence(300, 2)})
        if not bgzip:
            FastaReader(path)
            return [path, folder / "g.fa.fai"]
        import pysam

        pysam.tabix_compress(str(path), str(folder / "g.fa.gz"), force=True)
        path.unlink()
        FastaReader(folder / "g.fa.gz")
        return [folder / name for name in ("g.fa.gz", "g.fa.gz.fai", "g.fa.gz.gzi")]

    return make


def _read_fasta(name: str):
    def read(folder: Path):
        from kipoi_borzoi.dataloaders.fasta import FastaReader
        from kipoi_borzoi.genome import Interval

        for path in folder.iterdir():  # as if the index were not older than what was damaged
            os.utime(path, (1e9, 1e9))
        reader = FastaReader(folder / name)
        for contig, length in reader.contigs.items():
            reader.fetch_one_hot(Interval(contig, 0, min(length, 500)))
            reader.fetch_one_hot(Interval(contig, max(0, length - 100), length + 30))

    return read


def _small_config():
    from network_cases import borzoi_like

    return borzoi_like(seq_length=128, head={"name": "final", "units": 3, "activation": "softplus"})


def _make_params(folder: Path) -> list[Path]:
    (folder / "params.json").write_text(json.dumps(_small_config()))
    return [folder / "params.json"]


def _read_params(folder: Path):
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.schema import weight_shapes

    config = NetworkConfig.from_params(folder / "params.json")
    if config.seq_length < 10**6:
        weight_shapes(config)
        return config.layout
    return None


def _make_run(folder: Path) -> list[Path]:
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    return [folder / "run.yaml"]


def _make_weights(name: str):
    def make(folder: Path) -> list[Path]:
        from kipoi_borzoi.network.calico_h5 import write_calico_h5
        from kipoi_borzoi.network.config import NetworkConfig
        from kipoi_borzoi.network.schema import weight_shapes
        from kipoi_borzoi.network.weights import save_safetensors

        config = NetworkConfig.from_params(_small_config())
        tensors = {key: np.full(shape, 0.1, np.float32) for key, shape in weight_shapes(config).items()}
        if name.endswith(".h5"):
            write_calico_h5(folder / name, tensors, config)
        else:
            save_safetensors(folder / name, tensors)
        return [folder / name]

    return make


def _read_weights(name: str):
    def read(folder: Path):
        from kipoi_borzoi.network.config import NetworkConfig
        from kipoi_borzoi.network.weights import read_weights

        return dict(read_weights(folder / name, NetworkConfig.from_params(_small_config())))

    return read


def _make_adapter(folder: Path) -> list[Path]:
    from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
    from kipoi_borzoi.adapters.directory import save_adapter
    from kipoi_borzoi.adapters.lora import Lora
    from kipoi_borzoi.network.config import NetworkConfig

    scheme = Scheme(Lora(rank=2), with_head(NetworkConfig.from_params(_small_config()), tracks=3))
    adapter = Adapter(scheme, {name: np.zeros(shape, np.float32) for name, shape in scheme.shapes().items()})
    (folder / "tracks.txt").write_text(TRACKS)
    save_adapter(folder / "a", adapter, folder / "tracks.txt", "base", "0" * 64, "new", {"epochs": 3}, replace=(folder / "a").exists())
    return [folder / "a" / name for name in ("adapter_config.json", "adapter_model.safetensors", "targets.txt")]


def _make_group(folder: Path) -> list[Path]:
    (folder / "g").mkdir(exist_ok=True)
    (folder / "g" / "model-template.yaml").write_text(
        "defined_as: kipoi_borzoi.model.BorzoiModel\nargs: {view: {{ view }}, params: ../p.json, weights: {{ weights }}, targets: ../t.txt}\n"
        "schema: {inputs: {shape: '(128, 4)'}, targets: {shape: '(3,)'}}\n"
    )
    (folder / "g" / "models.tsv").write_text("model\tview\tweights\na/sum\tsum\t../w.h5\nb\tcoverage\thttps://example.org/w.h5\n")
    (folder / "e").mkdir(exist_ok=True)
    (folder / "e" / "model.yaml").write_text(
        "defined_as: kipoi_borzoi.model.BorzoiModel\nargs: {params: p, weights: w, targets: t, checksums: {w: " + "ab" * 32 + "}}\n"
        "schema: {inputs: {shape: '(8, 4)'}, targets: {shape: [3], column_labels: [a, b, c]}}\n"
    )
    return [folder / "e" / "model.yaml", folder / "g" / "models.tsv", folder / "g" / "model-template.yaml"]


def _read_zoo(folder: Path):
    from kipoi_borzoi.zoo import zoo_ls
    from kipoi_borzoi.zoo.entries import read_zoo

    zoo_ls(folder)
    for entry in read_zoo(folder):
        try:
            entry.files()
            entry.shape("targets")
        except KipoiBorzoiError:
            continue


def _make_store(folder: Path) -> list[Path]:
    from test_store import some_layout, some_values, write

    layout = some_layout()
    write(folder / "store", layout, *some_values(layout), **({"replace": True} if (folder / "store").exists() else {}))
    return [folder / "store" / "store.h5"]


def _read_store(folder: Path):
    from kipoi_borzoi.training.store import Store

    store = Store.open(folder / "store")
    for number in range(len(store)):
        store.sequence(number)
        store.targets(number)
        store.interval(number)


def _make_w5(folder: Path) -> list[Path]:
    from coverage_files import write_w5

    write_w5(folder / "x.w5", {"chr1": np.arange(3000) % 7.0, "chr2": np.ones(500)})
    return [folder / "x.w5"]


def _make_bigwig(folder: Path) -> list[Path]:
    from coverage_files import write_bigwig

    write_bigwig(folder / "x.bw", {"chr1": 3000, "chr2": 500}, {"chr1": np.arange(3000) % 7.0, "chr2": np.ones(500)})
    return [folder / "x.bw"]


def _read_coverage(name: str):
    def read(folder: Path):
        from kipoi_borzoi.dataloaders.coverage import open_coverage
        from kipoi_borzoi.genome import Interval

        with open_coverage(folder / name) as reader:
            reader.resolve("chr1", 3000)
            reader.read(Interval("chr1", 0, 3000))
            reader.read(Interval("chr2", 100, 400))

    return read


def _make_tfrecords(folder: Path) -> list[Path]:
    """Written with the standard library: TensorFlow must not run before a fork."""
    import zlib

    record = b"\x0a\x1e\x0a\x1c\x0a\x08sequence\x12\x10\x0a\x0e\x0a\x0c" + bytes(range(12))
    framed = struct.pack("<Q", len(record)) + struct.pack("<I", _masked(struct.pack("<Q", len(record)))) + record + struct.pack("<I", _masked(record))
    (folder / "x.tfr").write_bytes(zlib.compress(framed * 3))
    (folder / "plain").write_bytes(record)
    return [folder / "x.tfr", folder / "plain"]


def _masked(data: bytes) -> int:
    """TFRecord's checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _read_tfrecords(folder: Path):
    from kipoi_borzoi.training.tfrecords import parse_example, read_tfrecords

    try:
        for number, record in enumerate(read_tfrecords(folder / "x.tfr")):
            parse_example(record, f"x.tfr, record {number}")
    finally:
        parse_example((folder / "plain").read_bytes(), "plain")


def _make_parts(folder: Path) -> list[Path]:
    from score_tables import make_chunk

    from kipoi_borzoi.variants.parts import pack

    (folder / "part").write_bytes(pack(make_chunk(0, 6)))
    return [folder / "part"]


def _read_parts(folder: Path):
    from kipoi_borzoi.variants.parts import unpack

    unpack((folder / "part").read_bytes(), "part")


def _make_shards(folder: Path) -> list[Path]:
    from test_score_runs import write

    for number in (1, 2):
        (folder / f"{number}.shard").unlink(missing_ok=True)
        write(folder / f"{number}.shard", n=9, shard=(number, 2))
    return [folder / "1.shard", folder / "2.shard"]


def _read_shards(folder: Path):
    from kipoi_borzoi.variants.output import merge_shards

    merge_shards([folder / "1.shard", folder / "2.shard"], folder / "out.tsv")


def _make_background(folder: Path) -> list[Path]:
    from score_tables import COLUMNS, GENE_SCORERS, KEY, PROVENANCE, SCORERS, chunks_from

    from kipoi_borzoi.variants.background import build_background

    build_background(chunks_from(25)(0, 25), folder / "b.h5", COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY, True)
    return [folder / "b.h5"]


def _read_background(folder: Path):
    from score_tables import COLUMNS, GENE_SCORERS, KEY, SCORERS

    from kipoi_borzoi.variants.background import load_background

    load_background(folder / "b.h5", KEY, COLUMNS, SCORERS, GENE_SCORERS)


def _make_attributions(folder: Path) -> list[Path]:
    from kipoi_borzoi.interpret.attribution import Attribution
    from kipoi_borzoi.interpret.attribution_file import write_attributions
    from kipoi_borzoi.interpret.parts import Explained
    from kipoi_borzoi.interpret.targets import Skipped

    results = []
    for name in ("G1", "G2"):
        values = np.full((60, 4), 0.25, np.float32)
        one = Attribution(np.eye(4, dtype=bool)[np.arange(60) % 4], values, np.full(60, np.nan, np.float32), 1.0, float("nan"), 1)
        results.append(Explained(name, name.lower(), "chr1", 500, 560, "+", (0, 60), one))
    provenance = {"models": [], "quantity": {"contrast": None}, "method": {}}
    write_attributions(folder / "a.h5", 60, [*results, Skipped("G3", "NO_EXON", "far")], provenance, {"chr1": 1000})
    return [folder / "a.h5"]


def _read_attributions(folder: Path):
    from kipoi_borzoi.interpret.attribution_file import AttributionFile

    with AttributionFile(folder / "a.h5") as file:
        for row in range(len(file)):
            file.sequence(row), file.contributions(row), file.sd(row), file.hypothetical(row)


TARGETS = {
    "vcf": Target(_text("x.vcf", VCF), _read_vcf("x.vcf")),
    "vcf.gz": Target(_bgzip("x.vcf.gz", VCF), _read_vcf("x.vcf.gz")),
    "bed": Target(_text("x.bed", BED), _read("dataloaders.bed", "read_bed_records", "x.bed")),
    "gtf": Target(_text("x.gtf", GTF), _read("dataloaders.gtf", "read_gtf", "x.gtf")),
    "fasta": Target(_make_fasta(False), _read_fasta("g.fa")),
    "fasta.gz": Target(_make_fasta(True), _read_fasta("g.fa.gz")),
    "tracks": Target(_text("t.txt", TRACKS), _read("tracks", "read_tracks", "t.txt", 3)),
    "contrasts": Target(_text("c.tsv", CONTRASTS), _read("variants.columns", "read_contrasts", "c.tsv")),
    "de_genes": Target(_text("d.csv", DE_GENES), _read("interpret.de_genes", "read_de_genes", "d.csv")),
    "meme": Target(_text("m.meme", MEME), _read("interpret.pwm", "read_meme", "m.meme")),
    "params": Target(_make_params, _read_params, "json"),
    "run config": Target(_make_run, _read("training.config", "read_config", "run.yaml"), "yaml"),
    "safetensors": Target(_make_weights("w.safetensors"), _read_weights("w.safetensors")),
    "h5": Target(_make_weights("w.h5"), _read_weights("w.h5")),
    "adapter": Target(_make_adapter, _read("adapters.directory", "load_adapter", "a"), "json"),
    "zoo": Target(_make_group, _read_zoo, "yaml"),
    "store": Target(_make_store, _read_store),
    "w5": Target(_make_w5, _read_coverage("x.w5")),
    "bigwig": Target(_make_bigwig, _read_coverage("x.bw")),
    "tfrecords": Target(_make_tfrecords, _read_tfrecords),
    "parts": Target(_make_parts, _read_parts),
    "shards": Target(_make_shards, _read_shards),
    "background": Target(_make_background, _read_background),
    "attributions": Target(_make_attributions, _read_attributions),
}
