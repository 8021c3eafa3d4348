"""What a grid of baselines can reach: its Pareto front, and the setting one would have chosen.

Belongs here: reading a table of fits. Not here: fitting (`fits.py`), drawing (`reports/`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

CURVE = ["algorithm", "question", "answers", "reading"]
MEASURES = ["kl", "rmse", "w1", "mae", "crps", "nll"]
CHOOSING = ("rmse", "kl")
"""By what settings are chosen; those that predict a distribution also by crps and nll."""
OF_DISTRIBUTIONS = ("crps", "nll")
VALIDATED = ("kl", "rmse", *OF_DISTRIBUTIONS)
CURVE_COLUMNS = [*CURVE, "setting", *MEASURES, "on_front", *(f"chosen_by_{m}" for m in CHOOSING)]
CHOSEN_COLUMNS = [*CURVE, "chosen_by", "setting", *(f"validation_{m}" for m in VALIDATED), *MEASURES]


def baseline_curves(fits: pd.DataFrame) -> pd.DataFrame:
    """Test points of every setting and reading, CURVE_COLUMNS.

    `on_front` marks the Pareto front over (kl, rmse) of an algorithm, question, scale and reading;
    `chosen_by_rmse` and `chosen_by_kl` the setting that is best on validation.
    """
    points = fits[(fits["split"] == "test") & fits["kl"].notna()].reset_index(drop=True)
    points["on_front"] = False
    for _, part in points.groupby(CURVE, sort=False):
        points.loc[part.index, "on_front"] = pareto_front(part[["kl", "rmse"]].to_numpy(dtype=float))
    chosen = chosen_on_validation(fits)
    for measure in CHOOSING:
        best = pd.MultiIndex.from_frame(chosen.loc[chosen["chosen_by"] == measure, [*CURVE, "setting"]])
        points[f"chosen_by_{measure}"] = pd.MultiIndex.from_frame(points[[*CURVE, "setting"]]).isin(best)
    return points[CURVE_COLUMNS]


def pareto_front(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the points (n, 2) no other point beats: as low in both, and lower in one. Shape (n,)."""
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)  # (other, point)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def chosen_on_validation(fits: pd.DataFrame) -> pd.DataFrame:
    """Per algorithm, question, scale and reading, the setting best on validation, with its test figures.

    CHOSEN_COLUMNS, two rows a curve: `chosen_by` is `rmse` or `kl`; two more, `crps` and `nll`, of models
    that predict a distribution. Never chosen on test, so that a
    model is not held against a setting picked for the very answers it is scored on. Ties go to the
    first setting of the grid.
    """
    parts: list[pd.DataFrame] = []
    fits = fits[fits["reading"].notna()]  # what could not be fitted has none
    if fits.empty:
        return pd.DataFrame(columns=CHOSEN_COLUMNS)
    wide = fits.pivot(index=[*CURVE, "setting"], columns="split", values=MEASURES)
    order = fits.drop_duplicates([*CURVE, "setting"]).set_index([*CURVE, "setting"]).index
    wide = wide.reindex(order)
    for measure in (*CHOOSING, *OF_DISTRIBUTIONS):
        seen = wide[wide[(measure, "validation")].notna() & wide[(measure, "test")].notna()]
        for _, part in seen.groupby(level=CURVE, sort=False):
            best = int(part[(measure, "validation")].astype(float).to_numpy().argmin())
            parts.append(_chosen_row(part.iloc[[best]], measure))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CHOSEN_COLUMNS)
    return table[CHOSEN_COLUMNS]


def not_chosen(fits: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Which algorithms have no chosen setting for a question and scale, and why: four columns of text.

    The reason is that of the first setting that has one.
    """
    place = ["algorithm", "question", "answers"]
    asked = fits[place].drop_duplicates()
    there = pd.MultiIndex.from_frame(chosen[place])
    lost = asked[~pd.MultiIndex.from_frame(asked).isin(there)]
    reasons = fits.dropna(subset=["reason"]).drop_duplicates(place)[[*place, "reason"]]
    return lost.merge(reasons, on=place, how="left").reset_index(drop=True)


def _chosen_row(row: pd.DataFrame, measure: str) -> pd.DataFrame:
    flat = pd.DataFrame(
        {
            "chosen_by": measure,
            **{f"validation_{m}": row[(m, "validation")].astype(float) for m in VALIDATED},
            **{m: row[(m, "test")].astype(float) for m in MEASURES},
        }
    )
    return flat.reset_index()
