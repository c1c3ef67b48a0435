"""The arrows between the package's parts point down only, heavy packages stay where they belong, and import is light."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = {"kipoi_borzoi": "plugin", "kipoi_borzoi.dataloaders": "dataloaders", "kipoi_borzoi.model_zoo": "model_zoo"}

# A part may import its own level and those before it. `dataloaders` stands beside the network's branch:
# it imports the first three levels, and is imported from the scorers' level on.
LEVELS = [
    {"_version", "errors"},
    {"genome", "files", "sealed", "work_folder", "target_table", "kipoi_compat", "machine"},
    {"sequence", "tracks"},
    {"network"},
    {"adapters"},
    {"inference"},
    {"variants", "training", "evaluation", "interpret"},
    {"model", "model_group", "zoo"},
    {"provenance", "cluster"},
    {"demo", "simulation", "scoring", "attributing", "kipoi_tools"},
    {"estimating", "veff2", "drivers", "motif_discovery", "motif_editing"},
    {"cli"},
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
UNDER_DATALOADERS, OVER_DATALOADERS = 2, LEVEL["variants"]

KIPOI = {"kipoi", "kipoiseq", "kipoi_utils", "kipoi_conda", "kipoi_veff", "kipoi_veff2", "kipoi_interpret"}
KERAS = {"keras", "tensorflow", "jax", "torch"}
WITHOUT_KERAS = {"config", "span", "layout", "schema", "calico_h5", "weights", "sites"}  # modules of network/


def modules():
    """(dotted name, path) of every module of the package."""
    for package, folder in FOLDERS.items():
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


MODULES = dict(modules())


def imports(path):
    """Dotted names that a module imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(name):
    """Part of the package that a dotted name belongs to: ``kipoi_borzoi.network.span`` to ``network``."""
    return name.split(".")[1] if "." in name else None


def allowed(importer, imported):
    """Whether the part ``importer`` may import from the part ``imported``."""
    if importer == imported:
        return True
    if importer == "dataloaders":
        return LEVEL.get(imported, 99) <= UNDER_DATALOADERS
    if imported == "dataloaders":
        return LEVEL[importer] >= OVER_DATALOADERS
    return imported in LEVEL and LEVEL[imported] <= LEVEL[importer]


def test_the_rules_tell_right_from_wrong():
    assert allowed("zoo", "network") and allowed("dataloaders", "genome") and allowed("variants", "dataloaders")
    assert not allowed("network", "inference") and not allowed("dataloaders", "network")
    assert (
        not allowed("network", "dataloaders") and not allowed("genome", "sequence") and not allowed("errors", "genome")
    )
    assert len(MODULES) > 40 and "kipoi_borzoi.network.span" in MODULES and "kipoi_borzoi.dataloaders.bed" in MODULES
    found = set(imports(MODULES["kipoi_borzoi.network.layers"]))
    assert {"keras", "keras.ops", "kipoi_borzoi.network.ops.activate"} <= found


def test_every_part_has_its_level():
    parts = {part_of(name) for name in MODULES} - {None, "dataloaders", "model_zoo"}
    assert parts <= LEVEL.keys(), "say in LEVELS where the new part stands"


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) not in (None, "model_zoo")])
def test_arrows_point_down(name):
    for imported in imports(MODULES[name]):
        top, part = imported.split(".")[0], part_of(imported)
        if top == "kipoi_borzoi":
            assert part == "__version__" or allowed(part_of(name), part), f"{name} may not import {imported}"
        if top in KIPOI:
            bridge = any(part.startswith("kipoi_") for part in name.split(".")[1:])
            assert bridge or part_of(name) in ("model", "zoo"), f"{name} may not import {imported}"
        if top in KERAS:
            light = part_of(name) == "network" and name.rsplit(".", 1)[-1] in WITHOUT_KERAS
            low = part_of(name) == "dataloaders" or LEVEL.get(part_of(name), 99) <= UNDER_DATALOADERS
            assert not (light or low), f"{name} may not import {imported}"


def run(program):
    """Run a program in a fresh interpreter; return what it prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


IMPORT = """
import json, sys, time
before, start = set(sys.modules), time.perf_counter()
import kipoi_borzoi
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""


def test_importing_the_package_is_light_and_fast():
    results = [run(IMPORT) for _ in range(3)]
    loaded = {name.split(".")[0] for name in results[0][1]}
    assert not loaded & {*KIPOI, *KERAS, "numpy", "pandas", "h5py", "pysam", "safetensors"}
    assert min(seconds for seconds, _ in results) < 0.3


def test_reading_params_genomes_and_weights_needs_no_keras():
    modules = ["network", *(f"network.{name}" for name in sorted(WITHOUT_KERAS)), "dataloaders.bed",
               "dataloaders.fasta", "sequence", "tracks", "genome", "files"]  # fmt: skip
    lines = [f"import kipoi_borzoi.{name}" for name in modules]
    loaded = run("\n".join([*lines, "import json, sys", "print(json.dumps(sorted(sys.modules)))"]))
    assert "kipoi_borzoi.network.schema" in loaded
    assert not {*KERAS, *KIPOI} & set(loaded)


def test_parts_are_reached_from_the_top_level_name():
    program = """
import json, kipoi_borzoi
found = kipoi_borzoi.network.NetworkConfig.__name__, kipoi_borzoi.genome.__name__
try:
    kipoi_borzoi.nothing
except AttributeError as error:
    print(json.dumps([*found, str(error), "network" in dir(kipoi_borzoi)]))
"""
    assert run(program) == [
        "NetworkConfig", "kipoi_borzoi.genome", "module 'kipoi_borzoi' has no attribute 'nothing'", True
    ]  # fmt: skip
