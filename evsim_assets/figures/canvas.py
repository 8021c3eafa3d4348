"""What every figure shares: a canvas of panels, who gets which colour, and PNG bytes.

Belongs here: layout and the look of adapters. Not here: what a figure says (the rooms). Imports
matplotlib in functions.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F", "#56B4E9")
VARIANT_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p", "*", "d", "8")
SIMULATED = "SIMULATED survey, not real answers"


@dataclass(frozen=True)
class Look:
    """How one adapter is drawn: a model's own hue, a marker and shade a variant, hollow if untrained."""

    colour: str
    marker: str
    trained: bool

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot` for the adapter's path."""
        style = "-" if self.trained else ":"
        return {"color": self.colour, "linestyle": style, "linewidth": 1.1, "alpha": 0.6}

    @property
    def fill(self) -> str:
        """The marker's inside."""
        return self.colour if self.trained else "white"


def adapter_looks(adapters: pd.DataFrame) -> dict[str, Look]:
    """The look of each adapter (columns adapter, model, method), in the order of the table."""
    named = adapters.drop_duplicates("adapter")
    models = dict.fromkeys(named["model"])
    colours = {model: MODEL_COLOURS[at % len(MODEL_COLOURS)] for at, model in enumerate(models)}
    variants = named[named["method"] != "pretrained"].groupby("model")["adapter"].agg(list).to_dict()
    looks = {}
    for row in named.to_dict("records"):
        model, adapter = row["model"], row["adapter"]
        if row["method"] == "pretrained":
            looks[adapter] = Look(colours[model], VARIANT_MARKERS[0], trained=False)
            continue
        at, count = variants[model].index(adapter), len(variants[model])
        marker = VARIANT_MARKERS[at % len(VARIANT_MARKERS)]
        looks[adapter] = Look(_shade(colours[model], at / count), marker, trained=True)
    return looks


def _shade(colour: str, lightness: float) -> str:
    """`colour` (#rrggbb) on its way to a pale tint, `lightness` in 0–1."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(part + 0.75 * lightness * (255 - part)):02x}" for part in parts)


def panels(
    names: Iterable[str], title: str, *, simulated: bool, columns: int, size: tuple[float, float]
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel a name, at most `columns` beside each other, `size` inches each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wanted = list(names)
    across = max(1, min(columns, len(wanted)))
    down = max(1, -(-len(wanted) // across))
    figure = Figure(figsize=(max(across * size[0], 6.0), down * size[1] + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False)
    axes = dict(zip(wanted, grid.flat, strict=False))
    for empty in list(grid.flat)[len(wanted) :]:
        empty.set_visible(False)
    for name, axis in axes.items():
        axis.set_title(as_text(name), fontsize=10)
        axis.grid(alpha=0.25, linewidth=0.6)
    figure.suptitle(as_text(title) + (f"\n{SIMULATED}" if simulated else ""), fontsize=11)
    return figure, axes


def as_text(label: str) -> str:
    """The label with nothing in it that matplotlib would read as mathematics."""
    return str(label).replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def legend_below(figure: Figure, axes: Iterable[Axes], note: str, columns: int) -> None:
    """One legend below the panels, titled `note`, each entry once."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        title=note,
        title_fontsize=8.5,
    )
