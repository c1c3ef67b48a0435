"""The picture of a variant shows the tracks that change most, where the variant is, and the genes around it."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.variants import plot
from kipoi_borzoi.variants.plot import gene_lanes, most_changed, plot_variant
from kipoi_borzoi.variants.results import Column

pytest.importorskip("matplotlib")

COLUMNS = tuple(Column(f"T{i}", "contrast" if i == 2 else "track", f"RNA:tissue {i}") for i in range(4))
START, BIN, BINS = 1_000_000, 32, 400
POSITION = START + BIN * BINS // 2 + 1


@dataclass(frozen=True)
class Gene:
    name: str
    exons: tuple
    strand: str = "+"
    gene_id: str = "ENSG1"


GENES = [
    Gene("ALPHA", ((START - 500, START + 200), (START + 900, START + 1500))),
    Gene("", ((START + 1000, START + 4000),), "-"),
    Gene("OMEGA", ((START + 9000, START + 9050), (START + 12_000, START + 12_040)), "-"),
    Gene("FARAWAY", ((START + 50_000, START + 51_000),)),
]


def coverage():
    """REF, and ALT in which track 3 changes most, then 1, by their logarithm, although track 0 changes most by count."""
    ref = np.random.default_rng(0).gamma(1, 1, (BINS, 4))
    ref[:, 0] += 5000
    alt = ref.copy()
    alt[200, 0] += 90
    alt[190:210, 1] *= 2
    alt[180:230, 3] *= 0.2
    return ref, alt


def draw(path, **options):
    ref, alt = coverage()
    return plot_variant(ref, alt, COLUMNS, BIN, START, "chr7", POSITION, GENES, path, **options)


def texts(path):
    return [re.sub("&gt;", ">", text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())]


def test_tracks_come_by_their_change(tmp_path):
    ref, alt = coverage()
    assert most_changed(ref, alt) == [3, 1, 0, 2]
    assert draw(tmp_path / "x.svg", max_tracks=3) == ["T3", "T1", "T0"]
    shown = texts(tmp_path / "x.svg")
    assert {"T3", "T1", "T0"} <= set(shown) and "T2 (contrast)" not in shown
    assert "3 of 4 tracks, the most changed first" in shown


def test_names_of_variant_model_genes_and_tracks_are_written(tmp_path):
    draw(tmp_path / "x.svg", alleles=("A", "GT"), title="my model")
    shown = texts(tmp_path / "x.svg")
    for text in ("chr7:1,006,401 A>GT", "my model", "RNA: tissue 2", "T2 (contrast)", "ALPHA →", "← ENSG1", "← OMEGA",
                 "position on chr7 (bp)", "GT (ALT) above A (REF)"):  # fmt: skip
        assert text in shown, text
    assert not any("FARAWAY" in text for text in shown)


@pytest.mark.parametrize("suffix, magic", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_suffix_names_the_format_and_equal_input_gives_equal_bytes(tmp_path, suffix, magic):
    for name in ("a", "b"):
        draw(tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first.startswith(magic) and first == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_zoom_shows_the_bins_around_the_variant(tmp_path):
    ref, alt = coverage()
    alt[:100, 2] *= 50  # a change far from the variant
    for zoom, first in ((None, "T2"), (64 * BIN, "T3")):
        shown = plot_variant(ref, alt, COLUMNS, BIN, START, "chr7", POSITION, GENES, tmp_path / "x.svg", zoom=zoom)
        assert shown[0] == first
    assert plot._view(BINS, BIN, START, POSITION, 64 * BIN) == (168, 232)
    assert plot._view(BINS, BIN, START, POSITION, 10**9) == (0, BINS)
    assert plot._view(BINS, BIN, START, POSITION, 1) == (200, 201)
    assert plot._view(BINS, BIN, START, START + 1, 20 * BIN) == (0, 10)
    with pytest.raises(InputError, match="position 900 is not in the predicted 1000001-1012800"):
        plot._view(BINS, BIN, START, 900, 100)


def test_genes_that_would_touch_get_lines_of_their_own():
    lanes = gene_lanes(GENES, START, START + BIN * BINS)
    assert [[gene.name for gene in lane] for lane in lanes] == [["ALPHA", "OMEGA"], [""]]
    assert gene_lanes([], 0, 10) == []
    close = [Gene("LONGNAME", ((100 * i, 100 * i + 5),)) for i in range(3)]  # short, but their names are not
    assert len(gene_lanes(close, 0, 10_000)) == 3


def test_many_genes_are_counted_when_they_do_not_fit(tmp_path):
    many = [Gene(f"G{i}", ((START + i, START + 9000),)) for i in range(12)]
    ref, alt = coverage()
    plot_variant(ref, alt, COLUMNS, BIN, START, "chr7", POSITION, many, tmp_path / "x.svg")
    assert "4 more genes" in texts(tmp_path / "x.svg")
    plot_variant(ref, alt, COLUMNS, BIN, START, "chr7", POSITION, [], tmp_path / "x.svg")
    assert "no annotated genes in view" in texts(tmp_path / "x.svg")


def test_equal_alleles_and_tracks_without_coverage_are_drawn(tmp_path):
    nothing = np.zeros((BINS, 4), np.float32)
    plot_variant(nothing, nothing, COLUMNS, BIN, START, "chr7", POSITION, GENES, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_what_cannot_be_drawn_is_refused(tmp_path):
    ref, alt = coverage()
    draw_other = lambda a, b, name="x.png", **options: plot_variant(  # noqa: E731
        a, b, COLUMNS, BIN, START, "chr7", POSITION, [], tmp_path / name, **options
    )
    for arguments, options, message in (
        ((ref, alt[:-1]), {}, r"expected \(bins, 4\)"),
        ((ref, np.full_like(alt, np.nan)), {}, "coverage is not finite: was the variant scored"),
        ((ref, alt, "x.gif"), {}, "its suffix names no picture; known: .png, .svg, .pdf"),
        ((ref, alt), {"max_tracks": 0}, "max_tracks is 0"),
        ((ref, alt), {"zoom": 0}, "zoom is 0"),
    ):
        with pytest.raises(InputError, match=message):
            draw_other(*arguments, **options)
    with pytest.raises(KipoiBorzoiError, match="cannot be written"):
        draw_other(ref, alt, "none/x.png")
    assert list(tmp_path.iterdir()) == []
