"""Looks at the folders that the package reads and writes, for the doctor's report."""

from __future__ import annotations

import os
import shutil

from kipoi_borzoi.kipoi_tools.findings import BROKEN, MISSING, NOTE, OK, Finding, guarded


def look_at_places() -> list[Finding]:
    """Zoo, Kipoi's configuration and cache."""
    findings = []
    for look in (_zoo, _sources, _cache):
        findings += guarded(look)
    return findings


def _zoo() -> list[Finding]:
    from kipoi_borzoi.zoo.place import packaged_zoo, users_zoo

    own = users_zoo()
    if own is None:
        return [Finding(NOTE, f"zoo: the packaged one only, {packaged_zoo()}", "kipoi-borzoi zoo init")]
    if not own.is_dir():
        return [Finding(MISSING, f"zoo: {own}, registered with Kipoi, is not there", f"kipoi-borzoi zoo init {own}")]
    writable = "" if os.access(own, os.W_OK | os.X_OK) else ", read-only"
    return [Finding(OK, f"zoo: {own}{writable}; packaged: {packaged_zoo()}")]


def _sources() -> list[Finding]:
    from kipoi_borzoi.zoo.place import kipoi_directory
    from kipoi_borzoi.zoo.yaml_text import read_yaml

    path = kipoi_directory() / "config.yaml"
    if not path.exists():
        return [Finding(NOTE, f"Kipoi's configuration: none yet ({path})")]
    sources = read_yaml(path).get("model_sources") or {}
    listed = ", ".join(f"{name} ({(source or {}).get('local_path')})" for name, source in sources.items())
    return [Finding(OK, f"Kipoi's configuration: {path}: {listed or 'no sources'}")]


def _cache() -> list[Finding]:
    from kipoi_borzoi.zoo.cache import CACHE_VARIABLE, cache_dir

    place = cache_dir()
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
    held = sum(path.stat().st_size for path in files)
    there = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"cache: {place}, {held / 1e9:.1f} GB in {len(files)} files, {free / 1e9:.1f} GB free on its disk"
    if not os.access(there, os.W_OK):
        return [Finding(BROKEN, f"{text}, read-only", f"set {CACHE_VARIABLE} to a folder that you may write")]
    return [Finding(OK, text)]
