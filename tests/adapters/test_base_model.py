from pathlib import Path
from typing import Any

import pytest
import torch

from evsim_assets.adapters.base_model import four_bit_layers, load_base, storage_of
from evsim_assets.specs.errors import BadInput
from tests.token_tree.plain import gradients, with_adapter

IDS = torch.tensor([[5, 9, 40, 7, 300, 21, 8, 1]])


def _load(base: str, method: Any = "qlora", **given: Any) -> Any:
    return load_base(base, method=method, device="cpu", precision="fp32", **given)


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return gradients(model)


def test_4_bit_gradients_are_right_after_an_evaluation_pass(base: str) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack the weights here, and ruin the gradients."""
    resident = with_adapter(_load(base, resident=True))
    assert len(four_bit_layers(resident)) == 2 * 7
    before = _gradients(resident)
    resident.eval()
    with torch.no_grad():
        resident(input_ids=IDS)
    after = _gradients(resident)
    assert len(before) == 2 * 7 * 2
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_4_bit_weights_dequantized_once_give_the_same_gradients_exactly(base: str) -> None:
    resident, once = with_adapter(_load(base, resident=True)), with_adapter(_load(base))
    assert storage_of(resident, "qlora", "fp32") == "nf4"
    assert storage_of(once, "qlora", "fp32") == "nf4, dequantized once to fp32"
    wanted, found = _gradients(resident), _gradients(once)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_gpu_that_is_not_there_is_an_error_and_never_a_cpu_run(base: str) -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        load_base(base, method="lora", device="cuda", precision="bf16")
