"""The sum of weighted edges from logits, in one copy of them and not four.

Belongs here: the arithmetic over (R, V) logits, which at a large vocabulary is most of a step's memory. Not
here: where weights come from (`losses.py`). Imports torch; import this module inside functions.
"""

from __future__ import annotations

from typing import Any, cast

import torch

ROWS_AT_ONCE = 256
"""Rows that are float32 at the same time, where the logits are in half precision."""


def edge_loss(
    logits: torch.Tensor,
    node_weight: torch.Tensor,
    edge_node: torch.Tensor,
    edge_token: torch.Tensor,
    edge_weight: torch.Tensor,
) -> torch.Tensor:
    """−Σ weight · log softmax(logits[node])[token] over E edges; a float32 scalar.

    Args:
        logits: (R, V), any floating precision; sums are in float32.
        node_weight: (R,), the sum of the edges' weights at each row.
        edge_node, edge_token, edge_weight: (E,).
    """
    made = _EdgeLoss.apply(logits, node_weight, edge_node, edge_token, edge_weight)
    return cast(torch.Tensor, made)


class _EdgeLoss(torch.autograd.Function):
    """Σ node_weight · logsumexp − Σ edge_weight · logit; the gradient is node_weight · softmax − the edges'
    weights at their tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        node_weight: torch.Tensor,
        edge_node: torch.Tensor,
        edge_token: torch.Tensor,
        edge_weight: torch.Tensor,
    ) -> torch.Tensor:
        log_sum = torch.cat([part.float().logsumexp(-1) for part in logits.split(ROWS_AT_ONCE)])
        ctx.save_for_backward(logits, log_sum, node_weight, edge_node, edge_token, edge_weight)
        return node_weight @ log_sum - edge_weight @ logits[edge_node, edge_token].float()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits, log_sum, node_weight, edge_node, edge_token, edge_weight = ctx.saved_tensors
        weight, by_edge = upstream[0] * node_weight, upstream[0] * edge_weight
        gradient = torch.empty_like(logits)
        order = torch.argsort(edge_node, stable=True)
        places = torch.searchsorted(
            edge_node[order], torch.arange(0, len(logits) + ROWS_AT_ONCE, ROWS_AT_ONCE, device=logits.device)
        ).tolist()
        for number, start in enumerate(range(0, len(logits), ROWS_AT_ONCE)):
            rows = slice(start, start + ROWS_AT_ONCE)
            part = (logits[rows].float() - log_sum[rows, None]).exp_().mul_(weight[rows, None])
            edges = order[places[number] : places[number + 1]]
            part.index_put_((edge_node[edges] - start, edge_token[edges]), -by_edge[edges], accumulate=True)
            gradient[rows] = part
        return gradient, None, None, None, None
