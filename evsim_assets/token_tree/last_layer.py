"""In a model's last layer, only what is read is computed.

Belongs here: leaving rows out of the last layer's products. Not here: which rows are read (`batch.py`),
whether the model's answers stay what they were (`layout.py` tries). Imports torch; import this module inside
functions.

Every layer below needs all tokens, for those after them to see. Behind the last one nobody sees anything:
only the rows whose logits are read count, of a prompt one in thirty. Its queries, the product behind its
attention and its feed-forward part are computed for those alone; the others get zeros, which nobody reads.
"""

from __future__ import annotations

from typing import Any

import torch

ATTRIBUTE = "_evsim_last_layer"
NARROWED = ("mlp", "self_attn.o_proj", "self_attn.q_proj")
"""Parts of a decoder layer that treat each row by itself, by their names in transformers."""


class LastLayer:
    """The last decoder layer of a model, narrowed to `tree.read` where it is called with a tree.

    The tree comes with each call of its attention, so that checkpointing, which computes the layer again on
    the way back, leaves out the same rows.
    """

    def __init__(self, model: Any) -> None:
        """Raises AttributeError, IndexError or TypeError where the model has no such layer."""
        layer = model.get_decoder().layers[-1]
        parts = [part for name in NARROWED if (part := _part(layer, name)) is not None]
        if not parts:
            raise AttributeError("none of the parts is there")
        self.model = model
        self.rows: torch.Tensor | None = None
        self.shape = torch.Size()
        # Attention is called first, and again where checkpointing computes the layer anew; a hook of the
        # layer itself would stay outside of that.
        self.hooks = [layer.self_attn.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for part in parts:
            self.hooks.append(part.register_forward_pre_hook(self._leave_out))
            self.hooks.append(part.register_forward_hook(self._put_back))
        setattr(model, ATTRIBUTE, self)

    def remove(self) -> None:
        """Make the layer what it was."""
        for hook in self.hooks:
            hook.remove()
        delattr(self.model, ATTRIBUTE)

    def _begin(self, module: Any, given: Any, named: dict[str, Any]) -> None:
        tree = named.get("tree")
        self.rows = tree.read if tree is not None else None

    def _leave_out(self, module: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.rows is None:
            return None
        self.shape = given[0].shape
        return (given[0].flatten(0, 1).index_select(0, self.rows)[None], *given[1:])

    def _put_back(self, module: Any, given: Any, output: Any) -> torch.Tensor | None:
        if self.rows is None:
            return None
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"{type(module).__name__} returns more than one tensor")
        whole = output.new_zeros(self.shape[0] * self.shape[1], output.shape[-1])
        return whole.index_copy(0, self.rows, output[0]).unflatten(0, self.shape[:2])


def _part(layer: Any, name: str) -> Any:
    for step in name.split("."):
        layer = getattr(layer, step, None)
    return layer
