"""What the code location shows: every asset described, versioned, and partitioned as the studies say."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from evsim_assets.code_location import defs
from evsim_assets.definitions import build_definitions
from evsim_assets.specs.project import Project
from evsim_resources.compute import Compute

ROOT = Path(__file__).resolve().parents[1]


def specs() -> Iterator[dg.AssetSpec]:
    for asset in defs.assets or []:
        yield from [asset] if isinstance(asset, dg.AssetSpec) else asset.specs  # type: ignore[union-attr]


@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert spec.description and spec.group_name and spec.owners and spec.kinds
    observed = spec.key.path[-1] in ("wave_file", "adapter_spec")
    assert bool(spec.code_version) != observed
    assert bool(spec.automation_condition) != observed


def test_whatever_shows_simulated_answers_says_so() -> None:
    for spec in specs():
        if spec.key.path[0] in ("ev_shift", "ev_shift_llama2"):
            assert "simulated" in (spec.description or "").lower(), spec.key


def test_the_papers_study_lists_its_partitions() -> None:
    by_key = {spec.key: spec for spec in specs()}
    adapters = by_key[dg.AssetKey(["ev_shift_llama2", "adapter_checkpoint"])].partitions_def
    generations = by_key[dg.AssetKey(["ev_shift_llama2", "generations"])].partitions_def
    assert adapters is not None and generations is not None
    keys = adapters.get_partition_keys()
    assert len(keys) == 19
    for wanted in ("70b~qlora", "7b~lora", "7b~qlora~digit~alpha-0.5~d-10", "7b~qlora~fraction-0.1~trial-3"):
        assert wanted in keys
    assert len(generations.get_partition_keys()) == 19 * 11
    study = Project(ROOT).study("ev_shift_llama2")
    epochs = {spec.key: spec.training.epochs for spec in study.adapter_specs if spec.training}
    assert (epochs["7b~qlora"], epochs["7b~qlora~fraction-0.5~trial-1"]) == (3, 6)
    assert epochs["7b~qlora~fraction-0.1~trial-1"] == 30
    assert study.adapter("70b~qlora").training.learning_rate == 1e-4  # type: ignore[union-attr]


def test_a_resource_can_be_given_in_place_of_the_projects_own() -> None:
    other = Compute(threads=3)
    built = build_definitions(Project(ROOT), studies=["ev_shift"], resource_overrides={"compute": other})
    assert built.resources is not None
    assert built.resources["compute"] is other
    assert {
        spec.key.path[0] for asset in built.assets or [] for spec in getattr(asset, "specs", [asset])
    } == {"ev_shift"}


@pytest.mark.slow
def test_the_webserver_loads_the_workspace(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "dagster.yaml").write_text((ROOT / "evsim_assets" / "instance.yaml").read_text())
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-p", str(port)],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = _asset_nodes(port)
    finally:
        server.terminate()
        server.wait(30)
    assert "ev_shift/adapter_checkpoint" in found
    assert "us_policy/quarantine" in found


def _asset_nodes(port: int) -> set[str]:
    """The assets that the running webserver shows, asked through GraphQL until it answers."""
    query = json.dumps({"query": "{assetNodes{assetKey{path}}}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", data=query, headers={"Content-Type": "application/json"}
    )
    until = time.monotonic() + 90
    while True:
        try:
            answer: dict[str, Any] = json.load(urllib.request.urlopen(request, timeout=10))
            if answer["data"]["assetNodes"]:
                return {"/".join(node["assetKey"]["path"]) for node in answer["data"]["assetNodes"]}
        except OSError:
            pass
        assert time.monotonic() < until, "the webserver did not come up"
        time.sleep(0.5)
