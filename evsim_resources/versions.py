"""Immutable versions of folders: raw waves, adapter checkpoints, reports.

A version is a folder whose `manifest.json` is written last and lists every file's size and
SHA-256; a one-line pointer, replaced last of all, says which version is current. So a reader sees
a whole version or none, and a byte that changed since is found out.

Belongs here: writing, resolving and verifying versions. Not here: what is in them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from evsim_assets.durable import fingerprint, fingerprints, sync_files
from evsim_assets.specs.errors import BadInput
from evsim_resources.lake import (
    UNFINISHED,
    Lake,
    is_local,
    local,
    run_again,
    storing,
    sweep,
    write_atomically,
    writer,
)

MANIFEST, POINTER = "manifest.json", "current"


@dataclass(frozen=True)
class Version:
    """A resolved version: its files lie in `folder` (local), what is known of it in `manifest`."""

    id: str
    folder: Path
    manifest: dict[str, Any]


class VersionedStore:
    """The versions of one asset partition in the lake."""

    def __init__(self, lake: Lake, key: Sequence[str], partition: Mapping[str, str] | None = None) -> None:
        self.folder = lake.folder(key, partition)
        self.name = "/".join([*key, *(partition or {}).values()])
        self.remedy = f"materialize it again: {run_again(key, partition)}"

    def write(self, fill: Callable[[Path], Mapping[str, Any]]) -> Version:
        """Store a new version and make it current.

        Args:
            fill: writes the files into the empty local folder it is given, and returns what the
                manifest shall say besides (JSON values).

        Raises:
            BadInput: the file system refuses; the current version stays the current one.
        """
        with storing(self.folder):
            return self._write(fill)

    def _write(self, fill: Callable[[Path], Mapping[str, Any]]) -> Version:
        self.folder.mkdir(parents=True, exist_ok=True)
        parent = local(self.folder) if is_local(self.folder) else Path(tempfile.gettempdir())
        sweep(parent, UNFINISHED)
        workplace = Path(tempfile.mkdtemp(prefix=f".writing-{writer()}-", dir=parent))
        try:
            said = dict(fill(workplace))
            manifest = {**said, "files": fingerprints(workplace)}
            text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
            version = _id(text.encode())
            self._publish(workplace, version, text)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
        write_atomically(self.folder / POINTER, f"{version}\n".encode())
        return self.resolve()

    def resolve(self, *, verify: bool = True) -> Version:
        """The current version, its files checked against the manifest.

        Raises:
            BadInput: nothing stored, a file missing, or a file that is not what was written.
        """
        pointer = self.folder / POINTER
        if not pointer.exists():
            raise BadInput(
                "nothing is stored for this partition",
                file=str(self.folder),
                value=self.name,
                remedy=self.remedy.removesuffix(" --again"),
            )
        version = pointer.read_bytes().decode("ascii", errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]{16}", version):
            raise BadInput(
                "the file does not name a version", file=str(pointer), value=version, remedy=self.remedy
            )
        manifest = self._manifest(version)
        folder = self._local(version, manifest)
        if verify:
            self._verify(version, folder, manifest["files"])
        return Version(version, folder, manifest)

    def is_whole(self) -> bool:
        """Whether there is a current version with all its files, by their sizes alone: cheap enough to
        ask of every partition. Changed bytes are found by `resolve`."""
        pointer = self.folder / POINTER
        if not pointer.exists():
            return False
        try:
            version = pointer.read_bytes().decode("ascii", errors="replace").strip()
            files = self._manifest(version)["files"]
            return all(
                (self.folder / version / name).stat().st_size == about["bytes"]
                for name, about in files.items()
            )
        except (BadInput, FileNotFoundError):
            return False

    def _manifest(self, version: str) -> dict[str, Any]:
        path = self.folder / version / MANIFEST
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise BadInput(
                "the current version has no manifest", file=str(path), remedy=self.remedy
            ) from None
        if _id(content) != version:
            raise BadInput(
                "the manifest is not what was stored",
                file=str(path),
                value=f"SHA-256 {_id(content)}…, not {version}…",
                remedy=self.remedy,
            )
        return dict(json.loads(content))

    def _publish(self, workplace: Path, version: str, manifest: str) -> None:
        target = self.folder / version
        if is_local(target) and not (target / MANIFEST).exists():
            (workplace / MANIFEST).write_text(manifest, encoding="utf-8")
            sync_files(workplace)  # before it is named, so that a crash leaves no empty file
            if target.exists():  # a folder without a manifest: what a killed process left
                shutil.rmtree(str(target))
            workplace.chmod(0o755)
            workplace.rename(str(target))
            return
        # An object store has no rename, so the manifest comes last. And where the same content was
        # stored before, its bytes may have rotted since, so they are replaced.
        for name in json.loads(manifest)["files"]:
            write_atomically(target / name, (workplace / name).read_bytes())
        write_atomically(target / MANIFEST, manifest.encode())

    def _local(self, version: str, manifest: Mapping[str, Any]) -> Path:
        """The version's folder on this machine; fetched once from a remote lake."""
        source = self.folder / version
        if is_local(source):
            return Path(str(source))
        target = Path(tempfile.gettempdir()) / "evsim-versions" / version
        for name, expected in manifest["files"].items():
            if not (target / name).is_file() or fingerprint(target / name) != expected:
                try:
                    content = (source / name).read_bytes()
                except FileNotFoundError:
                    raise self._gone(version, name) from None
                write_atomically(UPath(target / name), content)
        return target

    def _verify(self, version: str, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        for name, expected in files.items():
            if not (folder / name).is_file():
                raise self._gone(version, name)
            found = fingerprint(folder / name)
            if found != dict(expected):
                raise BadInput(
                    f"the file is not what was stored: expected {expected['bytes']} bytes with SHA-256"
                    f" {expected['sha256'][:12]}…",
                    file=str(self.folder / version / name),
                    value=f"{found['bytes']} bytes, {found['sha256'][:12]}…",
                    remedy=self.remedy,
                )

    def _gone(self, version: str, name: str) -> BadInput:
        return BadInput(
            "a file of the stored version is gone",
            file=str(self.folder / version / name),
            remedy=self.remedy,
        )


def _id(manifest: bytes) -> str:
    """A version's name: the beginning of its manifest's hash, so that the manifest is checked too."""
    return hashlib.sha256(manifest).hexdigest()[:16]
