"""Pictures: letters as high as their numbers, the right places, and files that appear whole or not at all."""

import importlib.util

import numpy as np
import pytest
from explain_cases import dna

from kipoi_borzoi import cli
from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret import pictures
from kipoi_borzoi.interpret.attribution import Attribution
from kipoi_borzoi.interpret.attribution_file import write_attributions
from kipoi_borzoi.interpret.logo import COLOURS, draw_logo, new_figure
from kipoi_borzoi.interpret.parts import Explained
from kipoi_borzoi.interpret.pictures import Mark, MotifRow, Stretch, check_picture, draw_motifs, draw_stretch, strongest
from kipoi_borzoi.interpret.portrait import draw_target
from kipoi_borzoi.interpret.pwm import Motif, write_meme
from kipoi_borzoi.interpret.targets import Skipped


def boxes(ax):
    """(letter, left, right, bottom, top) of every letter drawn."""
    from matplotlib.colors import to_hex

    letter_of = {to_hex(colour): letter for letter, colour in COLOURS.items()}
    found = []
    for patch in ax.patches:
        path = patch.get_path()
        starts = np.flatnonzero(path.codes == 1)
        corners = [
            part[path.codes[start : start + len(part)] != 79]
            for start, part in zip(starts, np.split(path.vertices, starts[1:]), strict=True)
        ]
        letter = letter_of[to_hex(patch.get_facecolor())]
        found += [
            (letter, *part[:, 0][[part[:, 0].argmin(), part[:, 0].argmax()]], part[:, 1].min(), part[:, 1].max())
            for part in corners
        ]
    return found


def test_letters_are_as_high_as_their_numbers_and_stacked_from_zero():
    heights = np.array([[0, 2.0, 0.5, 0], [0, 0, 0, -1.5], [0, 0, 0, 0]])
    with new_figure(4, 2) as figure:
        ax = figure.subplots()
        draw_logo(ax, heights, start=10)
        drawn = {
            (letter, round(left, 2)): (round(bottom, 6), round(top, 6))
            for letter, left, _, bottom, top in boxes(ax)
            if letter != "A"
        }
        assert (
            drawn[("G", 10.03)] == (0, 0.5) and drawn[("C", 10.03)] == (0.5, 2.5) and drawn[("T", 11.03)] == (-1.5, 0)
        )
        assert ax.get_xlim() == (10, 13) and ax.get_ylim()[0] < -1.5 and ax.get_ylim()[1] > 2.5


def test_the_strongest_places_are_apart_and_in_order():
    values = np.zeros(100)
    values[[10, 12, 50, 51, 90]] = [1, -3, 2, 2, 0.5]
    starts = strongest(values, 5, 3)
    assert starts == sorted(starts) and all(b - a >= 5 for a, b in zip(starts, starts[1:], strict=False))
    covered = [any(start <= at < start + 5 for start in starts) for at in (10, 12, 50, 51, 90)]
    assert all(covered)
    assert strongest(values, 5, 10)[:3] == starts[:3] and len(strongest(np.zeros(50), 5, 3)) == 0
    assert strongest(np.ones(3), 80, 3) == [0]


def stretch(length, seed=0):
    random = np.random.default_rng(seed)
    return Stretch(
        "GENE", "chr1", 1000, random.integers(0, 5, length).astype(np.uint8), random.normal(size=length), "log2 change"
    )


GENES = (
    Gene("G1", "one", "chr1", "+", ((1010, 1030), (1100, 1400))),
    Gene("G2", "", "chr1", "-", ((900, 1020),)),
    Gene("far", "", "chr1", ".", ((9, 10),)),
)
MARKS = (Mark("m", 1020, 1030, "+"), Mark("n", 1025, 1033, "-"), Mark("o", 5000, 5010, "."))


@pytest.mark.parametrize("suffix, magic", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
@pytest.mark.parametrize("length", [60, 600])
def test_stretches_are_drawn_in_every_format(tmp_path, suffix, magic, length):
    path = tmp_path / f"x{suffix}"
    draw_stretch(path, stretch(length), GENES, MARKS)
    assert path.read_bytes().startswith(magic) and [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if suffix == ".svg":
        first = path.read_bytes()
        draw_stretch(path, stretch(length), GENES, MARKS)
        assert path.read_bytes() == first


def test_a_page_of_motifs_is_drawn(tmp_path):
    motif = Motif("m", np.random.default_rng(0).dirichlet([0.5] * 4, 8))
    rows = [MotifRow(motif, "words", {"changed": np.ones(3), "unchanged": np.zeros(0)})] * 2
    draw_motifs(tmp_path / "m.svg", rows, "title", "axis")
    assert (tmp_path / "m.svg").stat().st_size > 2000


def test_every_row_of_the_page_shows_all_its_points(tmp_path, monkeypatch):
    motif = Motif("m", np.array([[0.7, 0.1, 0.1, 0.1]]))
    rows = [MotifRow(motif, "c", {"changed": np.array([low, high])}) for low, high in ((0, 1), (-5, 0), (0, 20))]
    seen = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: seen.extend(ax.get_xlim() for ax in figure.axes[1::2]))
    draw_motifs(tmp_path / "m.svg", rows, "title", "axis")
    assert len(seen) == 3
    assert all(low <= -5 and high >= 20 for low, high in seen)


@pytest.fixture
def attributions(tmp_path):
    """Two explained genes and a skipped one."""
    path = tmp_path / "a.h5"
    results = []
    for number, name in enumerate(("G1", "G2")):
        x = dna(400, number) > 0
        values = np.random.default_rng(number).normal(size=(400, 4)).astype(np.float32)
        one = Attribution(x, values, np.full(400, np.nan, np.float32), 1.0, float("nan"), 1)
        results.append(
            Explained(name, f"name{number}", "chr1", 5000 * number - 100, 5000 * number + 300, "+", (0, 400), one)
        )
    provenance = {"models": [], "quantity": {"contrast": None}, "method": {}}
    write_attributions(path, 400, [*results, Skipped("G3", "NO_EXON", "far")], provenance, {})
    return path


def test_targets_are_drawn_by_name_and_region(attributions, tmp_path, capsys):
    (tmp_path / "g.gtf").write_text('1\tx\texon\t5001\t5100\t.\t-\t.\tgene_id "G2";\n')
    write_meme(tmp_path / "m.meme", [Motif.of_sequence("ACGT")])
    words = ["logo", str(attributions), "--out", str(tmp_path / "x.png"), "--target", "name1", "--genes", str(tmp_path / "g.gtf"),
             "--motifs", str(tmp_path / "m.meme")]  # fmt: skip
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{tmp_path}/x.png: G2 name1, chr1:4901-5300\n"
    drawn = draw_target(attributions, tmp_path / "y.svg", target="G2", region="chr1:5,001-5,050")
    assert (drawn.start, drawn.end, len(drawn.codes)) == (5000, 5050, 50) and (tmp_path / "y.svg").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "2 targets, name one .--target.: G1, G2"),
        ({"target": "G9"}, "no target 'G9' in it; there is G1, G2"),
        ({"target": "G3"}, "no target 'G3' in it; it was skipped .NO_EXON."),
        (
            {"target": "G1", "region": "chr1:301-400"},
            "chr1:300-400 does not lie in the explained stretch chr1:-100-300",
        ),
        ({"target": "G1", "region": "chr2:1-40"}, "lies on chr1"),
        ({"target": "G1", "region": "here"}, "expected chrom:start-end"),
        ({"target": "G1", "region": "chr1:0-9"}, "start must be 1 or more"),
        ({"target": "G1", "out": "x.gif"}, "pictures are written as"),
        ({"target": "G1", "out": "no/x.png"}, "does not exist"),
    ],
)
def test_what_cannot_be_drawn_is_refused(attributions, tmp_path, options, message):
    out = tmp_path / options.pop("out", "x.png")
    with pytest.raises(InputError, match=message):
        draw_target(attributions, out, **options)
    assert not out.exists()


def test_a_missing_matplotlib_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else real(name))
    with pytest.raises(InputError, match=r"pip install 'kipoi-borzoi\[plot\]'"):
        check_picture(tmp_path / "x.png")
