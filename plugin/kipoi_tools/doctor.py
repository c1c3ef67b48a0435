"""Says what is installed, which of Kipoi's tools work here and by which fixes, what is missing and how to mend it.

It is run where something is wrong, so nothing here may fail: each part that does is reported as a line, and
what may crash or hang (imports of compiled packages, drivers) runs in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.kipoi_tools.findings import BROKEN, MISSING, NOTE, OK, WRONG, Finding, guarded
from kipoi_borzoi.kipoi_tools.places import look_at_places

PROCESS_TIMEOUT_S = 180.0
DISTRIBUTION = "kipoi-borzoi"


@dataclass(frozen=True)
class Section:
    """A heading with its lines.

    Attributes
    ----------
    title : str
    findings : list of Finding
    required : bool
        Whether the package cannot be used while something here is missing, wrong or broken.
    """

    title: str
    findings: list[Finding]
    required: bool = False

    @property
    def is_well(self) -> bool:
        """Whether nothing needs mending."""
        return all(finding.status in (OK, NOTE) for finding in self.findings)


def examine() -> list[Section]:
    """Look at packages, tools, machine and places; takes as long as importing TensorFlow and the tools does."""
    return [
        Section("Needed packages", guarded(_needed), required=True),
        Section("Extras", guarded(_extras)),
        Section("Kipoi and its tools", guarded(_tools)),
        Section("This machine", guarded(_machine)),
        Section("Places", guarded(look_at_places)),
    ]


def format_report(sections: list[Section]) -> str:
    """The report as text; a remedy stands below what it mends."""
    place = Path(__file__).resolve().parents[1]
    lines = [
        f"kipoi-borzoi {__version__} ({place}), Python {platform.python_version()} ({sys.executable}), {platform.platform()}"
    ]
    for section in sections:
        lines += ["", section.title]
        for finding in section.findings:
            lines.append(f"  {finding.status:<8} {finding.text}")
            if finding.remedy:
                lines.append(f"           -> {finding.remedy}")
    return "\n".join(lines)


def _requirements() -> list:
    from packaging.requirements import Requirement

    return [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]


def _needed() -> list[Finding]:
    try:
        requirements = _requirements()
    except importlib.metadata.PackageNotFoundError:
        return [Finding(BROKEN, f"{DISTRIBUTION} is not installed as a package", "pip install . in its folder")]
    return [_version_of(one) for one in requirements if one.marker is None]


def _extras() -> list[Finding]:
    names = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    findings = []
    for extra in names:
        absent = [one for one in _versions_of_extra(extra) if one.status != OK]
        if not absent:
            findings.append(Finding(OK, extra))
            continue
        found = "; ".join(f"{one.text} {one.status}" for one in absent)
        findings.append(Finding(NOTE, f"{extra}: {found}", f"pip install 'kipoi-borzoi[{extra}]'"))
    return findings


def _versions_of_extra(extra: str) -> list[Finding]:
    parts = [one for one in _requirements() if one.marker is not None and one.marker.evaluate({"extra": extra})]
    return [_version_of(one) for one in parts]


def _version_of(requirement) -> Finding:
    wanted = f"{requirement.name}{requirement.specifier}"
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(MISSING, requirement.name, f"pip install '{wanted}'")
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(WRONG, f"{requirement.name} {found}", f"pip install '{wanted}'")
    return Finding(OK, f"{requirement.name} {found}")


_KIPOIS_OWN = ("kipoi_utils", "kipoi_conda", "related", "attrs")
_PROBE = """
import importlib, json, logging, sys
logging.disable(logging.CRITICAL)
tool = sys.argv[1]
importlib.import_module(tool)
from kipoi_borzoi import kipoi_compat
if tool == "kipoi":
    fixes = kipoi_compat.apply()
elif tool == "kipoi_veff2":
    from kipoi_borzoi import veff2
    fixes = veff2.GROUPS
else:
    kipoi_compat.mend_loaded_tools()
    fixes = kipoi_compat.applied_fixes().get(tool, [])
print("FOUND " + json.dumps(fixes))
"""


def _tools() -> list[Finding]:
    from kipoi_borzoi.kipoi_tools import interpret, veff, veff2

    return [
        _tool("kipoi", "0.8.6", "pip install 'kipoi>=0.8.6,<0.9'", "mended"),
        Finding(NOTE, f"of Kipoi: {', '.join(map(_name_and_version, _KIPOIS_OWN))}"),
        *_veff(veff.INSTALL),
        _tool("kipoi_veff2", "0.1.0", veff2.INSTALL, "knows the groups"),
        _tool("kipoi_interpret", "0.1.2", interpret.INSTALL, "mended"),
    ]


def _veff(install: str) -> list[Finding]:
    tool = _tool("kipoi_veff", "0.3.1", install, "mended")
    if tool.status == MISSING:
        return [tool]
    parts, findings = _versions_of_extra("veff"), [tool]
    for status in (MISSING, WRONG):
        found = [one for one in parts if one.status == status]
        if found:
            wanted = " ".join(one.remedy.removeprefix("pip install ") for one in found)
            findings.append(Finding(status, _for_veff(one.text for one in found), f"pip install {wanted}"))
    there = [one.text for one in parts if one.status == OK]
    programs = {name: shutil.which(name) for name in ("bedtools", "tabix")}
    there += [f"{name} ({_first_line(_run([name, '--version'])[1])})" for name, path in programs.items() if path]
    if there:
        findings.append(Finding(OK, _for_veff(there)))
    absent = [name for name, path in programs.items() if path is None]
    if absent:
        remedy = f"apt-get install {' '.join(absent)}, or conda install -c bioconda"
        findings.append(Finding(MISSING, _for_veff(absent), remedy))
    return findings


def _for_veff(names) -> str:
    return f"for kipoi_veff: {', '.join(names)}"


def _name_and_version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} missing"


def _tool(name: str, tested: str, install: str, what: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(MISSING, name, install)
    code, output, errors = _run([sys.executable, "-c", _PROBE, name])
    marked = [line for line in output.splitlines() if line.startswith("FOUND ")]
    if code != 0 or not marked:
        return Finding(BROKEN, f"{name} {version} cannot be imported: {_last_line(errors) or f'exit status {code}'}", install)
    items = json.loads(marked[-1].removeprefix("FOUND "))
    text = f"{name} {version}, {what}: {', '.join(items) or 'nothing needed'}"
    if version != tested:
        return Finding(WRONG, f"{text}; tested with {tested}", install)
    return Finding(OK, text)


def _run(command: list[str]) -> tuple[int, str, str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PROCESS_TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {PROCESS_TIMEOUT_S:.0f} s"
    except OSError as error:
        return 127, "", str(error)
    return done.returncode, done.stdout, done.stderr


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _machine() -> list[Finding]:
    findings = []
    for look in (_cpu, _memory, _gpu, _tensorflow, _settings):
        findings += guarded(look)
    return findings


def _cpu() -> list[Finding]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    bf16 = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = fields.get("model name") or platform.processor() or "unknown processor"
    support = f"yes ({', '.join(bf16)})" if bf16 else "no: mixed_bfloat16 will not be faster on this CPU"
    return [
        Finding(NOTE, f"{model}, {usable} of {os.cpu_count()} cores usable"),
        Finding(NOTE, f"bfloat16 in the CPU: {support}"),
    ]


def _memory() -> list[Finding]:
    info = Path("/proc/meminfo")
    if not info.exists():
        return [Finding(NOTE, "memory: unknown")]
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    total, free = (int(fields[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    bound = f", limited to {int(text) / 2**30:.1f} GiB for this process" if text.isdecimal() else ""
    return [Finding(NOTE, f"memory {total:.1f} GiB, {free:.1f} GiB available{bound}")]


def _gpu() -> list[Finding]:
    if shutil.which("nvidia-smi") is None:
        return [Finding(NOTE, "GPU: none (no nvidia-smi)")]
    query = "--query-gpu=name,memory.total,compute_cap,driver_version"
    code, output, errors = _run(["nvidia-smi", query, "--format=csv,noheader"])
    if code != 0:
        reason = _last_line(errors) or _last_line(output) or f"exit status {code}"
        return [Finding(BROKEN, f"GPU: nvidia-smi fails: {reason}", "look at the driver's installation")]
    findings = []
    for line in output.splitlines():
        name, memory, capability, driver = ([part.strip() for part in line.split(",")] + [""] * 4)[:4]
        bf16 = "yes" if capability.split(".")[0].isdecimal() and int(capability.split(".")[0]) >= 8 else "no"
        findings.append(Finding(NOTE, f"GPU: {name}, {memory}, bfloat16: {bf16}, driver {driver}"))
    return findings or [Finding(NOTE, "GPU: none (nvidia-smi lists none)")]


def _tensorflow() -> list[Finding]:
    program = (
        "import tensorflow as tf, keras; gpus = tf.config.list_physical_devices('GPU');"
        "print('FOUND', len(gpus), keras.backend.backend(), tf.test.is_built_with_cuda())"
    )
    code, output, errors = _run([sys.executable, "-c", program])
    marked = [line.split() for line in output.splitlines() if line.startswith("FOUND ")]
    if code != 0 or not marked:
        return [Finding(BROKEN, f"TensorFlow does not start: {_last_line(errors) or f'exit status {code}'}")]
    _, gpus, backend, cuda = marked[-1]
    finding = Finding(NOTE, f"Keras on {backend}; TensorFlow sees {gpus} GPUs")
    if gpus == "0" and shutil.which("nvidia-smi") is not None:
        finding = Finding(BROKEN, finding.text + " though there is one", "pip install 'tensorflow[and-cuda]'")
    return [finding]


def _settings() -> list[Finding]:
    starts = ("KIPOI_BORZOI_", "KERAS_", "TF_CPP", "TF_ENABLE", "TF_FORCE", "TF_GPU", "TF_XLA", "CUDA_VISIBLE", "OMP_NUM")
    names = sorted(name for name in os.environ if name.startswith(starts))
    return [Finding(NOTE, f"environment: {', '.join(f'{name}={os.environ[name]}' for name in names) or 'nothing set'}")]
