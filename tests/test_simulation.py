"""The simulated genome: what is written follows from the sequence by the rule, is the same every time, and its truth is true."""

import hashlib
import json
import math
import os

import numpy as np
import pytest
from simulation_by_hand import coverage as coverage_by_hand
from simulation_by_hand import exons_of, flipped, hits

from kipoi_borzoi.cli import main
from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.simulation.draw import Draw, pow2
from kipoi_borzoi.simulation.genome import MARGIN, WINDOW
from kipoi_borzoi.simulation.motifs import FACTORS, STRUCTURE, find
from kipoi_borzoi.simulation.rule import REACH, find_transcripts
from kipoi_borzoi.simulation.simulate import SimulationOptions, make_simulation, simulate
from kipoi_borzoi.tracks import read_tracks

SMALL = dict(seed=5, genes=30, genome_length=11 * WINDOW, factors=6, pretrain_cells=2, transfer_cells=1, variants=60)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A simulation without noise: (folder, Simulation)."""
    folder = tmp_path_factory.mktemp("simulation") / "exact"
    return folder, simulate(folder, SimulationOptions(**SMALL, noise=0, replicates=1))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The same with noise, and two replicates."""
    folder = tmp_path_factory.mktemp("simulation") / "noisy"
    return folder, simulate(folder, SimulationOptions(**SMALL))


def table(path):
    """Rows of a TSV file as dicts."""
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def window_text(folder, chrom, start, end):
    with FastaReader(folder / "genome.fa.gz") as fasta:
        return fasta.fetch(Interval(chrom, start, end))


def consensus_of_factors(folder):
    return [row["consensus"] for row in table(folder / "truth" / "factors.tsv")]


def activities(folder):
    names = [row["factor"] for row in table(folder / "truth" / "factors.tsv")]
    rows = table(folder / "truth" / "activities.tsv")
    return {f"{row['cell_type']}.{row['condition']}": [float(row[name]) for name in names] for row in rows}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_bigwigs_hold_what_the_rule_says_computed_letter_by_letter(exact):
    import pyBigWig

    folder, simulation = exact
    window = next(
        w
        for w in simulation.genome.windows
        if sum(w.start <= g.transcript.tss < w.end for g in simulation.genome.genes) >= 3
    )
    text = window_text(folder, window.chrom, window.start, window.end)
    activity = activities(folder)["unseen1.treated"]
    expected = coverage_by_hand(text, consensus_of_factors(folder), activity)
    for strand, name in (("+", "plus"), ("-", "minus")):
        with pyBigWig.open(str(folder / f"coverage/unseen1.treated.rep1.{name}.bw")) as file:
            values = np.nan_to_num(file.values(window.chrom, window.start, window.end, numpy=True))
        assert (values > 0).sum() > 200
        # Enhancers of the neighbours reach 48 bp into a window; 2^E is rounded to 1/4096 in E: 1.2e-4; BigWig is float32.
        np.testing.assert_allclose(values[48:-48], expected[strand][48:-48], rtol=2e-4)


def test_annotation_is_what_the_walk_by_hand_finds(exact):
    folder, simulation = exact
    annotated = set()
    for line in (folder / "genes.gtf").read_text().splitlines():
        columns = line.split("\t")
        if columns[2] == "exon":
            annotated.add((columns[0], columns[6], int(columns[3]) - 1, int(columns[4])))
    found = set()
    some = simulation.genome.windows[:4]
    for window in some:
        text = window_text(folder, window.chrom, window.start, window.end)
        for strand, oriented in (("+", text), ("-", flipped(text))):
            for start in hits(oriented, "TATAAAAGgcGCGCcg", 400):
                for begin, end in exons_of(oriented, start + 32):
                    place = (begin, end) if strand == "+" else (WINDOW - end, WINDOW - begin)
                    found.add((window.chrom, strand, window.start + place[0], window.start + place[1]))
    assert len(found) > 10 and found == {exon for exon in annotated if exon[2] < some[-1].end}


def test_effects_of_variants_are_those_of_the_edited_sequence_by_hand(exact):
    """One variant of every kind; the edited window is read from scratch."""
    folder, simulation = exact
    rows = table(folder / "truth" / "variant_gene_effects.tsv")
    totals = {row["id"]: row for row in table(folder / "truth" / "variant_window_effects.tsv")}
    factors, states = consensus_of_factors(folder), activities(folder)
    genes = {gene.gene_id: gene.transcript for gene in simulation.genome.genes}
    chosen = {}
    for row in rows:  # the one with the largest effect of each kind
        size = max(abs(float(row[state])) for state in states)
        if size >= chosen.get(row["kind"], (-1,))[0]:
            chosen[row["kind"]] = (size, row)
    assert {"site_loss", "site_gain", "site_indel", "core", "donor", "acceptor", "background_snv"} <= chosen.keys()
    state = "cell1.control"
    checked = 0
    for kind, (size, row) in chosen.items():
        start = int(row["pos"]) // WINDOW * WINDOW
        text = window_text(folder, row["chrom"], start, start + WINDOW)
        at, ref, alt = int(row["pos"]) - 1 - start, row["ref"], row["alt"]
        assert text[at : at + len(ref)] == ref
        edited = text[:at] + alt + text[at + len(ref) :]
        before, after = (coverage_by_hand(letters, factors, states[state]) for letters in (text, edited))
        transcript = genes[row["gene_id"]]
        bases = [place - start for begin, end in transcript.exons for place in range(begin, end)]
        moved = [
            place + (len(alt) - len(ref) if place > at + len(ref) - 1 else 0)
            for place in bases
            if not at < place < at + len(ref)
        ]
        strand = transcript.strand
        sums = sum(before[strand][place] for place in bases), sum(after[strand][place] for place in moved)
        by_hand = math.log2(1 + sums[1]) - math.log2(1 + sums[0])
        assert float(row[state]) == pytest.approx(by_hand, abs=5e-4), kind
        whole = [math.log2(1 + math.fsum(side["+"] + side["-"])) for side in (before, after)]
        assert float(totals[row["id"]][state]) == pytest.approx(whole[1] - whole[0], abs=5e-4), kind
        checked += size > 0.1
    assert checked >= 6


def test_variants_name_the_bases_of_the_genome_and_are_left_aligned(noisy):
    folder, simulation = noisy
    lines = [line.split("\t") for line in (folder / "variants.vcf").read_text().splitlines() if line[0] != "#"]
    assert len(lines) == len(simulation.variants) > 50
    keys = [(line[0], int(line[1]), line[3], line[4]) for line in lines]
    assert len(set(keys)) == len(keys) and keys == sorted(keys, key=lambda key: (int(key[0][3:]), *key[1:]))
    indels = 0
    for chrom, pos, ref, alt in keys:
        text = window_text(folder, chrom, pos - 2, pos - 1 + len(ref))
        assert text[1:] == ref
        if len(ref) != len(alt):
            indels += 1
            # An indel could be written further left exactly where both alleles end in the same base.
            assert ref[0] == alt[0] and ref[-1] != alt[-1]
    assert indels >= 5


def test_some_variants_do_something_in_some_cells_only_and_some_nothing(noisy):
    folder, _ = noisy
    rows, states = table(folder / "truth" / "variant_gene_effects.tsv"), list(activities(folder))
    effects = np.array([[float(row[state]) for state in states] for row in rows])
    assert (np.abs(effects) < 1e-9).all(axis=1).sum() > 10
    strong = np.abs(effects).max(axis=1) > 0.3
    assert strong.sum() > 10
    assert ((np.abs(effects).min(axis=1) < 1e-9) & strong).sum() > 3
    silent = [row for row in rows if row["kind"] == "silent_site"]
    assert all(abs(float(row[state])) < 1e-9 for row in silent for state in states)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(noisy, tmp_path):
    folder, _ = noisy
    simulate(tmp_path / "again", SimulationOptions(**SMALL))
    assert digests(tmp_path / "again") == digests(folder)
    other = make_simulation(SimulationOptions(**{**SMALL, "seed": 6}))
    assert other.genome.text("sim1") != make_simulation(SimulationOptions(**SMALL)).genome.text("sim1")


def test_noise_and_depth_leave_genome_and_truth_alone(exact, noisy):
    ours, theirs = digests(exact[0]), digests(noisy[0])
    same = [name for name in ours if ours[name] == theirs.get(name)]
    assert {"genome.fa.gz", "genes.gtf", "sequences.bed", "variants.vcf", "truth/expression.tsv", "truth/sites.tsv",
            "truth/variant_gene_effects.tsv"} <= set(same)  # fmt: skip


def test_random_numbers_are_those_of_every_machine():
    """Recorded values: whoever changes them changes every simulation."""
    draw = Draw(1, "test")
    assert draw.uniform(2).tolist() == RECORDED_UNIFORM
    assert [draw.integer(1, 6) for _ in range(8)] == RECORDED_DICE
    normal = Draw(2, "test").normal(20_000)
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    assert (Draw(1, "test").uniform(5) != Draw(1, "other").uniform(5)).all()


RECORDED_UNIFORM = [0.17112918503994268, 0.4540300079483486]
RECORDED_DICE = [5, 3, 4, 4, 5, 5, 4, 6]


@pytest.mark.parametrize("x", [0, 1, -3, 0.5, 7.25, -0.123, 2.99999, 11.7])
def test_power_of_two(x):
    assert pow2(x) == pytest.approx(2**x, rel=math.log(2) / 8192 + 1e-12)
    if float(x).is_integer():
        assert pow2(x) == 2.0**x


def test_genes_and_all_that_acts_on_them_lie_within_their_window(noisy):
    _, simulation = noisy
    for gene in simulation.genome.genes:
        start = gene.transcript.tss // WINDOW * WINDOW
        assert start + REACH < gene.transcript.tss < start + WINDOW - REACH
        assert start + MARGIN <= gene.transcript.start and gene.transcript.end <= start + WINDOW - MARGIN
        assert all(start <= site.start and site.end <= start + WINDOW for site in gene.sites)
    by_strand = sorted(
        (g.chrom, g.transcript.strand, g.transcript.start, g.transcript.end) for g in simulation.genome.genes
    )
    for before, after in zip(by_strand, by_strand[1:], strict=False):
        assert before[:2] != after[:2] or before[3] <= after[2]


def test_motifs_of_genes_stand_only_where_they_were_put(noisy):
    _, simulation = noisy
    for chrom, codes in simulation.genome.contigs.items():
        planted = {
            (item.start, item.motif.name)
            for item in simulation.genome.planted
            if item.chrom == chrom and item.strand == "+"
        }
        for motif in STRUCTURE:
            for start, _ in find(codes, motif):
                assert (start, motif.name) in planted


def test_folds_are_whole_windows_side_by_side(noisy):
    folder, simulation = noisy
    lines = [line.split("\t") for line in (folder / "sequences.bed").read_text().splitlines()]
    assert len(read_bed(folder / "sequences.bed")) == len(lines) == 11
    assert {line[3] for line in lines} == {"train", "valid", "test"}
    assert [int(line[2]) - int(line[1]) for line in lines] == [WINDOW] * 11
    assert [int(line[1]) for line in lines] == [i * WINDOW for i in range(11)]


def test_tables_and_params_are_what_the_package_reads(noisy):
    folder, simulation = noisy
    for group, cells in (("pretrain", 2), ("transfer", 1)):
        tracks = read_tracks(folder / f"targets_{group}.txt")
        assert len(tracks) == cells * 2 * 2 * 2
        assert all((folder / file).is_file() for file in tracks.files)
        pairs = [tracks.identifiers[pair] for pair in tracks.strand_pair]
        assert [name[:-1] for name in pairs] == [name[:-1] for name in tracks.identifiers]
        assert all({a[-1], b[-1]} == {"+", "-"} for a, b in zip(pairs, tracks.identifiers, strict=True))
        config = NetworkConfig.from_params(folder / f"params_{group}.json")
        assert config.seq_length == WINDOW and config.bin_size == 32 and config.heads[0].units == len(tracks)
        assert config.crop * config.bin_size == MARGIN


def test_treatments_switch_their_driver_only(noisy):
    folder, _ = noisy
    states = activities(folder)
    names = [row["factor"] for row in table(folder / "truth" / "factors.tsv")]
    rows = table(folder / "truth" / "contrasts.tsv")
    assert [row["driver"] for row in rows].count("none") == 6
    for row in rows:
        if row["driver"] != "none":
            treated, control = (states[f"{row['cell_type']}.{what}"] for what in ("treated", "control"))
            changed = {name: a - b for name, a, b in zip(names, treated, control, strict=True) if a != b}
            assert changed == {row["driver"]: float(row["activity_change"])}
    controls = [tuple(states[state]) for state in states if state.endswith("control")]
    assert len(set(controls)) == len(controls) == 3
    first = [state for state in states if state.startswith("cell") and state.endswith("control")]
    switchable = [
        row["factor"] for row in table(folder / "truth" / "factors.tsv") if row["role"] in ("activator", "repressor")
    ]
    for name in switchable:  # each can be learned from the cell types for pre-training
        assert any(states[state][names.index(name)] for state in first)


def test_replicates_differ_by_noise_about_the_expected_coverage(exact, noisy):
    import pyBigWig

    expected, measured = [], [[], []]
    genes = [gene for gene in exact[1].genome.genes if gene.transcript.strand == "+"]
    for gene in genes:
        start, end = gene.transcript.exons[0]
        with pyBigWig.open(str(exact[0] / "coverage/cell1.control.rep1.plus.bw")) as file:
            expected.append(np.nansum(file.values(gene.chrom, start, end, numpy=True)))
        for number in (1, 2):
            with pyBigWig.open(str(noisy[0] / f"coverage/cell1.control.rep{number}.plus.bw")) as file:
                values = np.nan_to_num(file.values(gene.chrom, start, end, numpy=True))
            assert (values == np.round(values)).all() and (values >= 0).all()
            measured[number - 1].append(values.sum())
    off = np.log2(np.array(measured)) - np.log2(expected)
    assert np.abs(off).max() < 1.5 and 0.05 < off.std() < 0.4 and abs(off.mean()) < 0.15
    assert (off[0] != off[1]).all()


def test_matrices_are_written_as_meme(noisy):
    lines = (noisy[0] / "truth/motifs.meme").read_text().splitlines()
    assert lines[0] == "MEME version 4" and sum(line.startswith("MOTIF ") for line in lines) == 6
    at = lines.index("MOTIF factor1")
    rows = [[float(cell) for cell in line.split()] for line in lines[at + 2 : at + 14]]
    assert np.allclose(np.sum(rows, axis=1), 1, atol=2e-6)
    assert "".join("ACGT"[int(np.argmax(row))] for row in rows) == FACTORS[0].consensus.upper()


def test_readme_and_options_say_what_was_made(noisy):
    text = (noisy[0] / "README.md").read_text()
    assert "30 genes" in text and "## The rule" in text
    for path in noisy[0].rglob("*"):
        if path.is_file() and path.parent.name != "coverage" and path.name not in ("README.md", "options.json"):
            assert path.name in text or path.name in ("genome.fa.gz.fai", "genome.fa.gz.gzi"), path.name
    assert json.loads((noisy[0] / "options.json").read_text())["seed"] == 5


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"genes": 0}, "genes is 0, expected 1 to"),
        ({"genes": 1000, "genome_length": 10 * WINDOW}, "do not fit into 10 windows"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"factors": 4, "conditions": 4}, "only 2 of 4"),
        ({"factors": 13}, "expected 3 to 12"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_options_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        SimulationOptions(**wrong)


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        simulate(tmp_path, SimulationOptions(**SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(tracks):
        yield tracks[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "sim", SimulationOptions(**SMALL), stop)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_folder_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["simulate", "--out", "new/sim", "--genes", "12", "--genome-length", "90000", "--pretrain-cells", "1",
               "--transfer-cells", "1", "--replicates", "1", "--variants", "10"]  # fmt: skip
    assert main(command) == 0
    assert "12 genes in 22 windows" in capsys.readouterr().out
    assert sorted(os.listdir("new")) == ["sim"] and "README.md" in os.listdir("new/sim")
    assert main(command) == 1
    assert "not an empty folder" in capsys.readouterr().err


def test_reading_beyond_a_polyadenylation_site_and_past_a_lone_donor():
    """Hand-made gene: donor without acceptor is transcribed through; a second polyadenylation site is not reached."""
    rng = np.random.default_rng(3)
    letters = rng.integers(0, 4, 1500).astype(np.uint8)
    core, donor, _, polya = STRUCTURE
    for motif, at in ((core, 100), (donor, 300), (polya, 500), (polya, 700)):
        letters[at : at + len(motif)] = motif.codes
    (transcript,) = [found for found in find_transcripts(letters) if found.strand == "+"]
    assert transcript.tss == 132 and transcript.exons == ((132, 512),) and transcript.core == 1


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path):
    dead = tmp_path / ".tmp~nowhere~0~abcd~~sim"  # process 0 stands for nobody
    (dead / "coverage").mkdir(parents=True)
    options = SimulationOptions(genes=3, genome_length=10 * WINDOW, pretrain_cells=1, transfer_cells=1, replicates=1, variants=0)
    simulate(tmp_path / "sim", options)
    assert [path.name for path in tmp_path.iterdir()] == ["sim"]
    assert (tmp_path / "sim/variants.vcf").read_text().splitlines()[-1].startswith("#CHROM")
