"""Base models by the names a study gives them.

Belongs here: finding a model's files on this machine and saying what is missing. Not here:
loading weights (`evsim_assets/adapters`). Nothing is downloaded behind anybody's back.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ModelSpec

WHOLE_FILE_BYTES = 64 * 2**20
"""Files up to this size are hashed whole; larger ones by size and both ends."""
TOKENIZER_FILES = ("*token*", "vocab*", "merges.txt", "*.model", "chat_template*", "*.jinja")
"""Names of the files that decide how a model's tokenizer and chat template write a text."""


class ModelHub(dg.ConfigurableResource):
    """Finds the files of base models: local folders below `root`, or the Hugging Face cache."""

    root: str

    def folder(self, name: str, spec: ModelSpec) -> Path:
        """The local folder of a model.

        Raises:
            BadInput: the model is not on this machine; says what is missing and how to get it.
        """
        found = self._find(spec)
        if found is None:
            raise BadInput(
                "the base model is not on this machine",
                field=f"models.{name}",
                value=spec.path or spec.hub,
                remedy=_how_to_get(spec),
            )
        return found

    def require(self, models: Mapping[str, ModelSpec]) -> None:
        """Refuse a study whose models are not all here, naming every missing one.

        Raises:
            BadInput: as above.
        """
        missing = {name: spec for name, spec in models.items() if self._find(spec) is None}
        if missing:
            listed = ", ".join(f"{name} ({spec.path or spec.hub})" for name, spec in missing.items())
            raise BadInput(
                f"{len(missing)} of {len(models)} base models are not on this machine: {listed}",
                field="models",
                remedy="\n    ".join(["get them:", *(_how_to_get(s) for s in missing.values())]),
            )

    def digest(self, spec: ModelSpec) -> str:
        """A hash of the model's files, so that other weights are another model; 'absent' if not here."""
        return self._digest(spec, lambda path: path.suffix != ".md")

    def tokenizer_digest(self, spec: ModelSpec) -> str:
        """A hash of the tokenizer's files and chat template alone; 'absent' if the model is not here."""
        return self._digest(spec, lambda path: any(path.match(name) for name in TOKENIZER_FILES))

    def tokenizer(self, name: str, spec: ModelSpec) -> Any:
        """The model's tokenizer. Raises BadInput when the model is not on this machine."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            str(self.folder(name, spec)), local_files_only=True, trust_remote_code=spec.trust_remote_code
        )

    def context_length(self, name: str, spec: ModelSpec) -> int | None:
        """How many tokens the model can read, as its configuration says; None where it says nothing."""
        config = json.loads((self.folder(name, spec) / "config.json").read_text(encoding="utf-8"))
        said = config.get("max_position_embeddings") or config.get("text_config", {}).get(
            "max_position_embeddings"
        )
        return int(said) if said else None

    def _digest(self, spec: ModelSpec, counts: Callable[[Path], bool]) -> str:
        folder = self._find(spec)
        if folder is None:
            return "absent"
        digest = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and counts(p)):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
            with path.open("rb") as file:
                if size <= WHOLE_FILE_BYTES:
                    digest.update(file.read())
                else:
                    digest.update(file.read(2**20))
                    file.seek(size - 2**20)
                    digest.update(file.read())
        return digest.hexdigest()

    def _find(self, spec: ModelSpec) -> Path | None:
        if spec.path is not None:
            return _if_whole(Path(self.root, spec.path).resolve())
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            cached = snapshot_download(str(spec.hub), revision=spec.revision, local_files_only=True)
        except LocalEntryNotFoundError:
            return None
        except HFValidationError:
            raise BadInput(
                "no model on the hub can have this name",
                field="models",
                value=spec.hub,
                remedy="write it as OWNER/NAME, or write `path:` for a folder",
            ) from None
        return _if_whole(Path(cached))


def _if_whole(folder: Path) -> Path | None:
    """The folder if it holds a model: a configuration and weights."""
    whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if whole else None


def _how_to_get(spec: ModelSpec) -> str:
    if spec.path is not None:
        return f"put a model folder with config.json and safetensors weights at {spec.path}"
    revision = f" --revision {spec.revision}" if spec.revision else ""
    return (
        f"hf download {spec.hub}{revision} --exclude '*.bin'"
        f"  (first accept its licence at https://huggingface.co/{spec.hub} and run hf auth login)"
    )
