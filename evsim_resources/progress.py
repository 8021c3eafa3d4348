"""How a long step says how far it is: to the log, and to whoever watches the run's folder.

Belongs here: passing a fraction on. Not here: showing it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "EVSIM_PROGRESS"
"""Environment variable: the folder in which each working process keeps a file of how far it is."""
NODE = "EVSIM_NODE"
"""Environment variable: what the process is working on, for whoever watches."""
LOG_SECONDS = 15.0

Report = Callable[[float, str], None]


def reporter(log: Any) -> Report:
    """A function (fraction in [0, 1], words) that logs every 15 s and updates the process's file."""
    folder, node = os.environ.get(FOLDER), os.environ.get(NODE, "")
    said = time.monotonic()

    def report(fraction: float, message: str) -> None:
        nonlocal said
        if folder:
            path = Path(folder, f"{os.getpid()}.json")
            temporary = path.with_suffix(".tmp")
            # Nobody's work fails because it could not be watched: a full disk, a folder swept away.
            with contextlib.suppress(OSError):
                temporary.write_text(json.dumps({"node": node, "fraction": fraction, "message": message}))
                os.replace(temporary, path)
        if time.monotonic() - said >= LOG_SECONDS:
            said = time.monotonic()
            log.info(f"{fraction:.0%} {message}")

    return report
