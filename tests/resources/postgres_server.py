"""A real Postgres server of its own, from the system's packages, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.resources.ray_cluster import free_port


def binaries() -> Path | None:
    """The folder of the server's programs, where it is installed."""
    found = shutil.which("initdb")
    installed = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].resolve().parent if installed else None


@contextmanager
def postgres(password: str) -> Iterator[str]:
    """The URL of an empty database."""
    programs = binaries()
    assert programs is not None
    # Postgres refuses to be root
    own: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    place = Path(tempfile.mkdtemp(prefix="postgres"))
    if own:
        shutil.chown(place, **own)
    secret = place / "secret"
    secret.write_text(password)
    secret.chmod(0o644)
    port, data = free_port(), str(place / "data")
    made = [programs / "initdb", "-D", data, "-U", "evsim", f"--pwfile={secret}", "--auth=scram-sha-256"]
    subprocess.run([*made, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=place, **own)
    # each process of a run keeps connections; all are on this machine
    options = ["-p", str(port), "-k", str(place), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with open(place.with_suffix(".log"), "w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=place, **own
        )
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        until = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None and time.monotonic() < until, place.with_suffix(".log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg2://evsim:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
        shutil.rmtree(place)
        place.with_suffix(".log").unlink()
