"""Waves from a server that speaks S3: a real one, on this machine, with real credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.surveys.landing import add_wave, look_around
from tests.automation.watched import Watched, answers

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, with all that a client needs to know in the environment."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'evsim[s3]'")
    server_module = pytest.importorskip(
        "moto.server", reason="needs an S3 server: pip install 'moto[server]'"
    )
    import boto3
    import s3fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        boto3.client("s3").create_bucket(Bucket="uploads")
        yield "s3://uploads/snacks"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def test_waves_of_a_bucket_are_taken_when_listed_and_stored_as_they_are(bucket: str, tmp_path: Path) -> None:
    watched = Watched(tmp_path, f"waves: {bucket}")
    watched.put("w2.csv", answers(2))
    assert watched.look() == ["w2"]
    watched.put("w1.csv", answers(1))  # late
    watched.put("w2.csv", answers(2))  # again, unchanged: the same ETag
    watched.put("w3.csv.part", answers(3))
    watched.put("old/w0.csv", answers(3))
    assert watched.look() == ["w1"] and watched.look() == [] and "w3.csv.part" in watched.said
    watched.put("w2.csv", answers(5))
    assert watched.look() == ["w2"] and watched.waves == ["w1", "w2"]
    assert watched.run(["raw_wave"], "w2").success
    (kept,) = Path(watched.lake.root).rglob("w2.csv")
    assert kept.read_bytes() == answers(5)
    (watched.place / "w1.csv").unlink()
    assert watched.look() == [] and "wave w1 is gone" in watched.said
    watched.cursor = None
    assert watched.look() == []


def test_a_file_is_added_to_a_bucket_and_other_content_is_not_replaced_unasked(
    bucket: str, tmp_path: Path
) -> None:
    survey = Watched(tmp_path, f"waves: {bucket}").survey
    source = tmp_path / "W1.csv"
    source.write_bytes(answers(1))
    added = add_wave(survey, source)
    assert str(added.path) == f"{bucket}/w1.csv" and added.path.read_bytes() == answers(1)
    source.write_bytes(answers(2))
    with pytest.raises(BadInput, match="already there"):
        add_wave(survey, source)
    add_wave(survey, source, replace=True)
    assert added.path.read_bytes() == answers(2)
    copied = look_around(survey).waves[0].fetched(tmp_path)
    assert copied.parent == tmp_path and copied.read_bytes() == answers(2)


def test_a_bucket_that_cannot_be_reached_is_an_error_that_says_where_credentials_belong(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(tmp_path, f"waves: {bucket}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput, match="cannot be read") as caught:
        look_around(watched.survey)
    assert caught.value.file == bucket and "environment" in str(caught.value.remedy)
