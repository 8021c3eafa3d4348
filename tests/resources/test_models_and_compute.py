"""Base models and devices: what is missing is refused at once, all of it, with how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import ComputeSpec, ModelSpec
from evsim_resources.compute import Compute, failure
from evsim_resources.models import WHOLE_FILE_BYTES, ModelHub
from evsim_resources.outputs import refusing


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def model(folder: Path) -> ModelSpec:
    (folder / "here").mkdir()
    (folder / "here" / "config.json").write_text("{}")
    (folder / "here" / "model.safetensors").write_bytes(bytes(1000))
    return ModelSpec(path="here")


def test_a_local_model_is_found(tmp_path: Path) -> None:
    spec, hub = model(tmp_path), ModelHub(root=str(tmp_path))
    assert hub.folder("s", spec) == tmp_path / "here"
    hub.require({"s": spec})


def test_every_missing_model_is_named_in_one_error_with_how_to_get_it(tmp_path: Path) -> None:
    models = {
        "s": model(tmp_path),
        "m": ModelSpec(path="models/m"),
        "7b": ModelSpec(hub="meta-llama/Llama-2-7b-chat-hf"),
        "13b": ModelSpec(hub="o/n", revision="abc"),
    }
    with pytest.raises(BadInput) as caught:
        ModelHub(root=str(tmp_path)).require(models)
    message = str(caught.value)
    assert "3 of 4" in message and "m (models/m)" in message and caught.value.field == "models"
    assert "hf download meta-llama/Llama-2-7b-chat-hf" in message
    assert "hf download o/n --revision abc" in message
    assert "put a model folder" in message and "s (here)" not in message


def test_a_missing_model_is_named_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        ModelHub(root=str(tmp_path)).folder("7b", ModelSpec(hub="o/n"))
    assert (caught.value.field, caught.value.value) == ("models.7b", "o/n")
    assert "hf download o/n" in str(caught.value.remedy)


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_a_model_without_configuration_or_weights_is_not_there(tmp_path: Path, gone: str) -> None:
    spec, hub = model(tmp_path), ModelHub(root=str(tmp_path))
    (tmp_path / "here" / gone).unlink()
    with pytest.raises(BadInput, match="not on this machine"):
        hub.folder("s", spec)
    assert hub.digest(spec) == "absent"


def test_a_name_that_no_hub_model_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can have this name") as caught:
        ModelHub(root=str(tmp_path)).require({"x": ModelSpec(hub="a/b/c d")})
    assert caught.value.value == "a/b/c d" and "OWNER/NAME" in str(caught.value.remedy)


def test_the_digest_follows_every_byte_and_name_and_no_readme(tmp_path: Path) -> None:
    spec, hub = model(tmp_path), ModelHub(root=str(tmp_path))
    weights, before = tmp_path / "here" / "model.safetensors", hub.digest(spec)
    weights.write_bytes(bytes(999) + b"\x01")
    flipped = hub.digest(spec)
    weights.write_bytes(bytes(1000))
    (tmp_path / "here" / "README.md").write_text("about")
    assert hub.digest(spec) == before != flipped
    weights.rename(tmp_path / "here" / "other.safetensors")
    assert hub.digest(spec) not in (before, flipped)


def test_the_tokenizer_s_digest_follows_the_tokenizer_alone(tmp_path: Path) -> None:
    spec, hub = model(tmp_path), ModelHub(root=str(tmp_path))
    digests = [hub.tokenizer_digest(spec)]
    (tmp_path / "here" / "model.safetensors").write_bytes(b"other weights")
    assert hub.tokenizer_digest(spec) == digests[0]
    for name in ("tokenizer.json", "tokenizer.model", "special_tokens_map.json", "chat_template.jinja"):
        (tmp_path / "here" / name).write_text("{}")
        digests.append(hub.tokenizer_digest(spec))
    assert len(set(digests)) == 5
    assert hub.tokenizer_digest(ModelSpec(path="nowhere")) == "absent"


def test_a_large_file_counts_by_its_size_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, hub, digests = model(tmp_path), ModelHub(root=str(tmp_path)), []
    monkeypatch.setattr("evsim_resources.models.WHOLE_FILE_BYTES", 10)
    size, weights = 3 * 2**20, tmp_path / "here" / "model.safetensors"
    for position in (0, size - 1, None):
        content = bytearray(size)
        if position is not None:
            content[position] = 1
        weights.write_bytes(content)
        digests.append(hub.digest(spec))
    weights.write_bytes(bytes(size + 1))
    assert len({*digests, hub.digest(spec)}) == 4
    assert WHOLE_FILE_BYTES > 2**21


def test_a_missing_gpu_is_refused_and_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="wants a GPU") as caught:
        Compute().require(ComputeSpec(device="cuda", precision="bf16"))
    assert (caught.value.field, caught.value.value) == ("compute.device", "cuda")
    assert "compute.device: cpu" in str(caught.value.remedy)
    Compute().require(ComputeSpec(device="cpu"))


def test_a_precision_that_the_gpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(BadInput, match="no bfloat16") as caught:
        Compute().require(ComputeSpec(device="cuda", precision="bf16"))
    assert caught.value.field == "compute.precision"
    Compute().require(ComputeSpec(device="cuda", precision="fp32"))


def test_a_job_runs_here_with_its_arguments() -> None:
    assert Compute().run(lambda a, b: a - b, 5, b=2) == 3


def test_a_bad_input_is_a_failure_that_is_never_retried() -> None:
    error = BadInput("off", file="f.csv", line=3, field="x", value=7, remedy="mend it")
    made = failure(error)
    assert made.description == str(error) and made.allow_retries is False
    shown = {name: entry.value for name, entry in made.metadata.items()}
    assert shown == {"file": "f.csv", "line": 3, "field": "x", "value": "7", "remedy": "mend it"}

    def refuse() -> None:
        raise error

    with pytest.raises(type(made), match=r"f\.csv:3"):
        refusing(refuse)
