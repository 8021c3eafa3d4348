import pytest
import torch

from evsim_assets.token_tree import edge_loss as module
from evsim_assets.token_tree.edge_loss import edge_loss


@pytest.mark.parametrize("rows_at_once", [3, 256], ids=["in-parts", "at-once"])
@pytest.mark.parametrize("dtype,close", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_loss_and_gradient_are_those_of_log_softmax(
    rows_at_once: int, dtype: torch.dtype, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows, 30 edges in any order, some edges twice."""
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    made = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 17, generator=made).to(dtype).requires_grad_()
    node, token = (torch.randint(0, high, (30,), generator=made) for high in (10, 4))
    weight = torch.rand(30, generator=made)
    wanted = -(weight * logits.float().log_softmax(-1)[node, token]).sum()
    by_node = torch.zeros(10).index_add(0, node, weight)
    found = edge_loss(logits, by_node, node, token, weight)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(2 * found, logits)
    (right,) = torch.autograd.grad(2 * wanted, logits)
    torch.testing.assert_close(gradient, right, rtol=close, atol=close)
