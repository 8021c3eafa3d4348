import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from safetensors.torch import load_file, save_file

from evsim_assets.adapters.base_model import (
    four_bit_layers,
    load_base,
    load_with_adapter,
    storage_of,
    trainable,
)
from evsim_assets.specs.errors import BadInput
from tests.adapters.tiny_survey import adapter
from tests.token_tree.plain import gradients, tiny_llama, with_adapter

IDS = torch.tensor([[5, 9, 40, 7, 300, 21, 8, 1]])
WEIGHTS = "adapter_model.safetensors"


def _load(base: str, method: Any = "qlora", **given: Any) -> Any:
    return load_base(base, method=method, device="cpu", precision="fp32", **given)


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return gradients(model)


def _evaluated(model: Any) -> Any:
    """The model after the pass at which bitsandbytes would repack its weights."""
    model.eval()
    with torch.no_grad():
        model(input_ids=IDS)
    return model


def _relative_difference(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    assert found.keys() == wanted.keys()
    off = sum((found[name] - wanted[name]).square().sum() for name in wanted)
    return float((off / sum(wanted[name].square().sum() for name in wanted)) ** 0.5)


def _saved(folder: Path, seed: int = 0, **shape: Any) -> str:
    tiny_llama(seed, vocab_size=512, initializer_range=0.1, **shape).save_pretrained(folder)
    return str(folder)


ODD = {"hidden_size": 40, "intermediate_size": 50, "num_attention_heads": 2, "num_key_value_heads": 1}
"""Layers of 20, 40 and 50 outputs: no multiples of 32, nor are their weights whole blocks of 64."""


def test_4_bit_gradients_are_right_after_an_evaluation_pass(base: str) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack the weights here, and ruin the gradients."""
    resident = with_adapter(_load(base, resident=True))
    assert len(four_bit_layers(resident)) == 2 * 7
    before = _gradients(resident)
    after = _gradients(_evaluated(resident))
    assert len(before) == 2 * 7 * 2
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.skipif(not has_avx512bf16(), reason="needs a CPU with AVX512-BF16")
def test_without_the_guard_the_trap_is_there_and_the_test_above_would_see_it(tmp_path: Path) -> None:
    """Shapes that bitsandbytes repacks without an error; what comes out is a gradient of normal size."""
    source = _saved(tmp_path, hidden_size=64, intermediate_size=128, num_attention_heads=2)
    guarded, caught = with_adapter(_load(source, resident=True)), with_adapter(_load(source, resident=True))
    for layer in four_bit_layers(caught):
        layer.support_avx512bf16_for_cpu = True
    wanted = _gradients(guarded)
    assert _relative_difference(_gradients(_evaluated(caught)), wanted) > 0.1
    assert _relative_difference(_gradients(_evaluated(guarded)), wanted) == 0


@pytest.mark.parametrize("shape", [{}, ODD], ids=["blocks of 32", "no blocks of 32"])
def test_4_bit_weights_dequantized_once_give_the_same_gradients_exactly(
    tmp_path: Path, shape: dict[str, int]
) -> None:
    """Also where a layer's outputs are no multiple of 32, at which bitsandbytes' repacking stops with an
    assertion: evsim never repacks, before an evaluation pass or after it."""
    source = _saved(tmp_path, **shape)
    resident, once = with_adapter(_load(source, resident=True)), with_adapter(_load(source))
    assert storage_of(resident, "qlora", "fp32") == "nf4"
    assert storage_of(once, "qlora", "fp32") == "nf4, dequantized once to fp32"
    wanted = _gradients(once)
    assert wanted and max(float(g.abs().max()) for g in wanted.values()) > 1e-3
    for found in (_gradients(resident), _gradients(_evaluated(resident))):
        assert _relative_difference(found, wanted) == 0


def test_an_adapter_of_resident_4_bits_is_a_peft_folder_like_any_other(base: str, tmp_path: Path) -> None:
    """Tensors of the same names and shapes as LoRA's; on weights dequantized once it answers alike."""
    resident = with_adapter(_load(base, resident=True))
    resident.save_pretrained(str(tmp_path / "resident"), save_embedding_layers=False)
    with_adapter(_load(base, "lora")).save_pretrained(str(tmp_path / "lora"), save_embedding_layers=False)
    stored = {
        name: {key: tuple(t.shape) for key, t in load_file(tmp_path / name / WEIGHTS).items()}
        for name in ("resident", "lora")
    }
    assert stored["resident"] == stored["lora"] and len(stored["lora"]) == 2 * 7 * 2
    config = json.loads((tmp_path / "resident" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], len(config["target_modules"])) == ("LORA", 4, 2 * 7)
    read = load_with_adapter(base, tmp_path / "resident", method="qlora", device="cpu", precision="fp32")
    assert not four_bit_layers(read)
    assert torch.equal(read(input_ids=IDS).logits, resident.eval()(input_ids=IDS).logits)


def test_4_bit_weights_are_few_levels_a_block_and_near_the_originals(base: str) -> None:
    exact = _load(base, "lora").model.layers[0].mlp.up_proj.weight
    coarse = _load(base).model.layers[0].mlp.up_proj.weight
    blocks = coarse.reshape(-1, 64)  # NF4: blocks of 64 with one scale and 16 levels
    assert max(len(block.unique()) for block in blocks) <= 16
    assert 0 < (exact - coarse).norm() / exact.norm() < 0.15
    assert not coarse.requires_grad


def test_bf16_is_held_in_bf16(base: str) -> None:
    model = load_base(base, method="lora", device="cpu", precision="bf16")
    assert model.dtype == torch.bfloat16 and storage_of(model, "lora", "bf16") == "bf16"


def test_weights_that_are_not_safetensors_are_refused(base: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((Path(base) / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_base(str(tmp_path), method="lora", device="cpu", precision="fp32")


def test_full_trains_every_weight_and_lora_only_its_own(base: str) -> None:
    full = trainable(_load(base, "full"), adapter("full"))
    assert all(weight.requires_grad for weight in full.parameters())
    assert _gradients(full).keys() == dict(full.named_parameters()).keys()
    lora = trainable(_load(base, "lora"), adapter("lora"))
    assert {n for n, w in lora.named_parameters() if w.requires_grad} == set(_gradients(lora))
    assert len(_gradients(lora)) == 2 * 7 * 2 and all("lora_" in name for name in _gradients(lora))


def _trained_whole(base: str, folder: Path) -> Any:
    """A model of which every weight has changed, saved in `folder`."""
    model = trainable(_load(base, "full"), adapter("full"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    model.save_pretrained(str(folder))
    return model.eval()


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "head tied to the embedding"])
def test_a_full_checkpoint_is_read_back_without_its_base(tmp_path: Path, tied: bool) -> None:
    source = _saved(tmp_path / "base", tie_word_embeddings=tied)
    model, folder = _trained_whole(source, tmp_path / "checkpoint"), tmp_path / "checkpoint"
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors"}
    said = "".join(path.read_text() for path in folder.glob("*.json"))
    assert str(tmp_path) not in said and "evsim_tree" not in said
    read = load_with_adapter("nowhere", folder, method="full", device="cpu", precision="fp32")
    assert not read.training and storage_of(read, "full", "fp32") == "fp32"
    assert torch.equal(read(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert not torch.equal(read(input_ids=IDS).logits, _load(source, "full")(input_ids=IDS).logits)


def test_full_is_trained_in_fp32_and_read_in_the_precision_asked_for(base: str, tmp_path: Path) -> None:
    """A weight near 0.1 held in bf16 has steps of 5e-4: updates of 2e-4 would vanish."""
    model = load_base(base, method="full", device="cpu", precision="bf16")
    assert model.dtype == torch.float32 and storage_of(model, "full", "bf16") == "fp32"
    _trained_whole(base, tmp_path)
    read = load_with_adapter(base, tmp_path, method="full", device="cpu", precision="bf16")
    assert read.dtype == torch.bfloat16 and storage_of(read, "full", "bf16") == "bf16"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_checkpoint_whose_weights_are_pickled_is_not_read(base: str, tmp_path: Path, method: Any) -> None:
    """A pickle runs whatever code it was made with."""
    model = trainable(_load(base, method), adapter(method))
    model.save_pretrained(str(tmp_path))
    weights = next(tmp_path.glob("*.safetensors"))
    pickled = {"model.safetensors": "pytorch_model.bin", WEIGHTS: "adapter_model.bin"}[weights.name]
    torch.save(load_file(weights), tmp_path / pickled)
    weights.unlink()
    with pytest.raises(BadInput, match="no weights in safetensors") as caught:
        load_with_adapter(base, tmp_path, method=method, device="cpu", precision="fp32")
    assert caught.value.file == tmp_path


def test_weights_stored_in_4_bits_cannot_be_trained_whole(base: str, tmp_path: Path) -> None:
    _load(base, resident=True).save_pretrained(str(tmp_path))
    with pytest.raises(BadInput, match="stored quantized") as caught:
        _load(str(tmp_path), "full")
    assert (caught.value.field, caught.value.value) == ("method", "full")
    assert "qlora" in str(caught.value.remedy)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_weight_that_is_not_in_the_files_is_never_made_up(base: str, tmp_path: Path, method: Any) -> None:
    shutil.copy(Path(base) / "config.json", tmp_path)
    weights = load_file(Path(base) / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lack 1 of its weights, such as model\.layers\.1\.mlp\.up_proj"):
        _load(str(tmp_path), method)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_gpu_that_is_not_there_is_an_error_and_never_a_cpu_run(base: str) -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        load_base(base, method="lora", device="cuda", precision="bf16")
