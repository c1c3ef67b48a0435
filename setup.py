"""Maps the repository's folders to import names and states what the package needs.

``plugin/`` is ``kipoi_borzoi``, ``dataloaders/`` is ``kipoi_borzoi.dataloaders`` and ``model_zoo/``
is ``kipoi_borzoi.model_zoo`` (data only).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "plugin" / "_version.py").read_text()).group(1)

setup(
    name="kipoi-borzoi",
    version=VERSION,
    description="Borzoi and its parameter-efficiently fine-tuned variants as Kipoi models",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    package_dir={
        "kipoi_borzoi": "plugin",
        "kipoi_borzoi.dataloaders": "dataloaders",
        "kipoi_borzoi.model_zoo": "model_zoo",
    },
    packages=(
        ["kipoi_borzoi", "kipoi_borzoi.dataloaders", "kipoi_borzoi.model_zoo"]
        + [f"kipoi_borzoi.{name}" for name in find_packages("plugin")]
        + [f"kipoi_borzoi.dataloaders.{name}" for name in find_packages("dataloaders")]
    ),
    package_data={"kipoi_borzoi.model_zoo": ["**/*"]},
    install_requires=[
        "kipoi>=0.8.6,<0.9",  # 0.8.6 is the last release; the compatibility fixes are written against it
        "kipoiseq>=0.7.1,<0.8",  # what Kipoi's scoring plugins and other entries of a zoo expect beside kipoi
        "setuptools<81",  # kipoi imports pkg_resources, which later releases dropped
        "tensorflow>=2.16.1,<2.22",
        "keras>=3.3,<4",
        "numpy>=1.26,<3",
        "pandas>=2.2,<4",  # tables; kipoi's TSV writer
        "h5py>=3.10,<4",  # Calico's weights files; kipoi's HDF5 writer
        "safetensors>=0.4.3,<1",  # our weights files
        "pysam>=0.22,<1",  # FASTA, BCF, tabix
        "pybigwig>=0.3.22,<1",  # coverage
        "pyyaml>=6.0,<7",
        "jinja2>=3.0,<4",  # Kipoi's group templates, rendered in a sandbox
        "pooch>=1.8,<2",  # where the cache lies
        "requests>=2.28,<3",  # downloads: checked redirects, resumed transfers
        "tqdm>=4.62,<5",
    ],
    extras_require={
        "plot": ["matplotlib>=3.8,<4"],
        "parquet": ["pyarrow>=15"],
        "zarr": ["zarr>=2.16,<3"],  # kipoi's zarr writer knows only version 2
        "anndata": ["anndata>=0.10.9,<0.13"],  # to read variant scores written as .h5ad
        "dask": ["dask>=2024.8", "distributed>=2024.8", "dask-jobqueue>=0.8.5,<1"],  # --cluster
        "motifs": ["modisco-lite>=3,<4", "matplotlib>=3.8,<4"],
        # What kipoi_veff needs, in versions that install; then: pip install --no-deps kipoi_veff==0.3.1
        "veff": [
            "PyVCF3>=1.0.4,<2",
            "cyvcf2>=0.35,<1",
            "pybedtools>=0.12,<1",
            "intervaltree>=2.1,<3",
            "deepdish>=0.3.7,<0.4",
            "shapely>=2.0,<3",
            "descartes>=1.1,<2",
            "seaborn>=0.13,<1",
            "matplotlib>=3.8,<4",
        ],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5,<4",
            "scipy>=1.11",
            "build>=1",
            "matplotlib>=3.8,<4",
            "pyarrow>=15",
            "zarr>=2.16,<3",
            "anndata>=0.10.9,<0.13",
            "dask>=2024.8",
            "distributed>=2024.8",
            "dask-jobqueue>=0.8.5,<1",
        ],
    },
    entry_points={"console_scripts": ["kipoi-borzoi = kipoi_borzoi.cli:main"]},
)
