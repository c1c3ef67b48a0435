"""Regenerates tables, dataloaders and examples of model_zoo/Borzoi and model_zoo/BorzoiMini (templates and params stay).

Run from the repository: ``python scripts/make_groups.py``. The same code gives the same files.
"""

import shutil
import sys
from pathlib import Path

from kipoi_borzoi.zoo.describe import describe_dataloader
from kipoi_borzoi.zoo.example import write_example
from kipoi_borzoi.zoo.names import VIEWS
from kipoi_borzoi.zoo.yaml_text import dump_yaml

MODEL_ZOO = Path(__file__).resolve().parents[1] / "model_zoo"

# Tracks of each head, and sha256 of its table at the commit of github.com/calico/borzoi that the template names.
SPECIES = {
    "human": ("model0", 7611, "cb0c1d4baf514f44de458364b2ae0b85f722a80b72cbe66c56bd700faa481785"),
    "mouse": ("model1", 2608, "b751060f82aa4ffe3cf818b49f9f066c37822cb86b88f8d736fc9a640ff5f854"),
}
REPLICATES = {f"rep{number}": f"f{number}" for number in range(4)} | {"ensemble": "f0,f1,f2,f3"}

# Of Calico's mini collection. The window is that of its mini architecture, stated here because Kipoi's
# dataloader must know it before the params are there; the loaded model refuses any other.
MINI = [
    {
        "collection": "k562_rna",
        "fold": fold,
        "network": "model0",
        "genome": "hg38",
        "species": "human",
        "transform": "new",
        "window": 393216,
        "megabytes": 124,
        "title": "K562 RNA-seq",
    }
    for fold in ("f0", "f1")
]


def main() -> int:
    """Write the files anew."""
    write_table("Borzoi", borzoi_rows())
    write_table("BorzoiMini", mini_rows())
    for group, window in (("Borzoi", 524288), ("BorzoiMini", 393216)):
        folder = MODEL_ZOO / group
        shutil.rmtree(folder / "example", ignore_errors=True)
        write_example(folder / "example")
        description = describe_dataloader(window, "example/genome.fa.gz", "example/regions.bed")
        (folder / "dataloader.yaml").write_text(dump_yaml(description), encoding="utf-8")
    return 0


def borzoi_rows() -> list[dict]:
    """Every species, replicate and view."""
    return [
        {
            "model": f"{species}/{name}/{view}",
            "species": species,
            "network": network,
            "replicates": replicates,
            "view": view,
            "tracks": tracks,
            "targets_sha256": sha256,
        }
        for species, (network, tracks, sha256) in SPECIES.items()
        for name, replicates in REPLICATES.items()
        for view in VIEWS
    ]


def mini_rows() -> list[dict]:
    """Every network and view."""
    return [
        {"model": f"{row['collection']}/{row['fold']}/{view}", "view": view, **row} for row in MINI for view in VIEWS
    ]


def write_table(group: str, rows: list[dict]) -> None:
    """Write a group's ``models.tsv``."""
    lines = ["\t".join(rows[0])] + ["\t".join(str(value) for value in row.values()) for row in rows]
    (MODEL_ZOO / group / "models.tsv").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
