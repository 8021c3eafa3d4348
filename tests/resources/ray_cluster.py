"""A real Ray cluster of this machine, with GPUs that are only counted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


@contextmanager
def cluster(gpus: int, *, within: tuple[str, ...] = ()) -> Iterator[str]:
    """The address of a cluster with that many GPUs; `within`: a command in which its node is started."""
    place = tempfile.mkdtemp(prefix="ray")  # short: sockets' paths have at most 107 characters
    address = f"127.0.0.1:{free_port()}"
    command = [
        *within,
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={address.rpartition(':')[2]}",
        "--num-cpus=4",
        f"--num-gpus={gpus}",
        "--object-store-memory=100000000",
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--temp-dir={place}",
    ]
    with open(Path(place, "said"), "w") as said:
        node = subprocess.Popen(
            command,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while "Ray runtime started" not in Path(place, "said").read_text():
            assert node.poll() is None and time.monotonic() < until, Path(place, "said").read_text()
            time.sleep(0.2)
        yield address
    finally:
        node.send_signal(signal.SIGTERM)  # it ends the processes that it has started
        try:
            node.wait(30)
        finally:
            with_group(node.pid)
        shutil.rmtree(place, ignore_errors=True)


def with_group(leader: int) -> None:
    """End what is left of the processes of a session."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
