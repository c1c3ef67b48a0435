"""The option ``--cluster``, which several commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def add_cluster(group) -> None:
    """Add ``--cluster``."""
    group.add_argument(
        "--cluster", metavar="WHERE",
        help="share the work between Dask workers: local[:N] (processes here; default: one per GPU), tcp://HOST:PORT (a"
        " scheduler), or a .yaml file (jobs of Slurm, PBS, SGE or LSF); see docs/cluster.md",
    )  # fmt: skip


@contextlib.contextmanager
def client_of(args) -> Iterator:
    """The Dask client that ``--cluster`` asks for; None without."""
    if args.cluster is None:
        yield None
        return
    from kipoi_borzoi.cluster.connect import connect

    with connect(args.cluster) as client:
        yield client
