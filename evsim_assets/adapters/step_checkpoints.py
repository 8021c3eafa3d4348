"""Step checkpoints that survive a kill at any moment, and what a training that finds them goes on from.

Belongs here: when a checkpoint counts, which are kept, whose they are. Not here: what Trainer writes into
one (`trainer.py`), what a training follows from (`identity.py`), where the folder is and who holds it
(`evsim_resources/work.py`).

A checkpoint is a folder `checkpoint-<step>` that Trainer fills. It counts once `complete.json` is there,
written last, with the SHA-256 of every file. `identity.json` says what training they are of.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evsim_assets.adapters.identity import changes
from evsim_assets.durable import fingerprints, sync_files, write_durably

MARK, IDENTITY, STATE = "complete.json", "identity.json", "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")
NEVER_READ = "training_args.bin"
"""A pickle that Trainer writes beside the weights."""


def begin(work: Path, identity: Mapping[str, Any], say: Callable[[str], None]) -> Path | None:
    """The checkpoint from which training goes on, or None where it begins anew.

    Checkpoints of another training are removed, and it is said what changed; so are those that a kill
    left half written, and those that are damaged, in favour of the one before.
    """
    work.mkdir(parents=True, exist_ok=True)
    before = _json(work / IDENTITY)
    if before != identity:
        changed = changes(before, identity) if before is not None else []
        if before is None and _checkpoints(work):
            say("training starts anew: nothing readable says whose the step checkpoints are that were found")
        for checkpoint in _checkpoints(work):
            _remove(checkpoint)
        if changed:
            say(f"training starts anew, since what it follows from has changed: {'; '.join(changed)}")
        write_durably(work / IDENTITY, json.dumps(identity, indent=1, sort_keys=True).encode())
    for checkpoint in _checkpoints(work):
        if not is_whole(checkpoint):
            if (checkpoint / MARK).exists():
                say(f"the step checkpoint of step {step_of(checkpoint)} is damaged and was left out")
            _remove(checkpoint)
    whole = _checkpoints(work)
    while whole and not _best(whole[-1]).exists():  # its best step was damaged
        _remove(whole.pop())
    prune(work)
    return whole[-1] if whole else None


def seal(checkpoint: Path) -> None:
    """Make a checkpoint count: all its files on the disk, then their list."""
    (checkpoint / NEVER_READ).unlink(missing_ok=True)
    (checkpoint / MARK).unlink(missing_ok=True)
    sync_files(checkpoint)
    files = fingerprints(checkpoint)
    write_durably(checkpoint / MARK, json.dumps({"files": files}, indent=1, sort_keys=True).encode())


def prune(work: Path) -> None:
    """Keep the last two checkpoints that count and the best steps that these tell of: at most four."""
    whole = [checkpoint for checkpoint in _checkpoints(work) if (checkpoint / MARK).exists()]
    last = whole[-2:]
    kept = {*last, *(_best(checkpoint) for checkpoint in last)}
    for checkpoint in whole:
        if checkpoint not in kept:
            _remove(checkpoint)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is what was sealed, and there is no other."""
    told = _json(checkpoint / MARK)
    if told is None:
        return False
    found = fingerprints(checkpoint)
    found.pop(MARK, None)
    return bool(found == told.get("files"))


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which it was written."""
    found = NAME.fullmatch(checkpoint.name)
    assert found is not None
    return int(found[1])


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; a kill in between leaves none that seems to count."""
    (checkpoint / MARK).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _best(checkpoint: Path) -> Path:
    """The checkpoint of the best step at the time; itself where no step was evaluated yet."""
    best = (_json(checkpoint / STATE) or {}).get("best_global_step")
    return checkpoint.with_name(f"checkpoint-{best}") if best else checkpoint


def _checkpoints(work: Path) -> list[Path]:
    """Folders of checkpoints, whole or not, by step."""
    found = [path for path in work.glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
