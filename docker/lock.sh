#!/bin/sh
# Writes the lock files of the container recipe anew, from the dependency ranges of setup.py: run it in the repository's root.
# Needs uv (pip install uv). The hashes are those of the files on the package index.
set -eu
compile() {
    out="$1"
    shift
    uv pip compile "$@" --extra plot --extra parquet --extra anndata --extra motifs --extra dask --generate-hashes --upgrade \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "docker/lock.sh" -o "docker/$out"
}
compile requirements-cpu.txt setup.py
compile requirements-gpu.txt setup.py docker/gpu.in
