"""The folder of a trained adapter: PEFT's layout, or a whole model's, and nothing that differs between
machines or runs.

Belongs here: which files there are and that their weights are finite. Not here: what the card says
(`model_card.py`), versions and manifests (`evsim_resources/versions.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from evsim_assets.adapters.step_checkpoints import NEVER_READ
from evsim_assets.specs.errors import BadInput

ADAPTER_CONFIG = "adapter_config.json"


def save_weights(trainer: Any, out_dir: Path, base_model: str) -> None:
    """The trainer's model in `out_dir`: adapter_model.safetensors and its config, or, where all weights were
    trained, model.safetensors and config.json. Called in every process; one writes.

    Args:
        base_model: the base model's name in adapter_config.json.

    Raises:
        BadInput: a weight that is no finite number; then nothing is saved.
    """
    made = not out_dir.exists()
    trainer.save_model(str(out_dir))  # gathers weights that are spread over processes
    if not trainer.is_world_process_zero():
        return
    (out_dir / NEVER_READ).unlink(missing_ok=True)
    try:
        _require_finite(out_dir)
    except BadInput:
        if made:
            shutil.rmtree(out_dir)
        raise
    config_file = out_dir / ADAPTER_CONFIG
    if config_file.exists():
        config = json.loads(config_file.read_text())
        config["base_model_name_or_path"] = base_model
        config["target_modules"] = sorted(config["target_modules"])  # was a set, in any order
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _require_finite(folder: Path) -> None:
    """Every weight that was written."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a mapping
                if not torch.isfinite(weights.get_tensor(name)).all():
                    raise BadInput(
                        "a trained weight is not a finite number; nothing is saved",
                        value=name,
                        remedy="lower training.learning_rate",
                    )
