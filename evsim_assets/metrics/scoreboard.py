"""One row an adapter, temperature and question, with what each number is to be held against.

Belongs here: joining measures with floors, null models and baselines. Not here: computing any of
them, drawing them (`reports/`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from evsim_assets.metrics.groups import ALL

SHOWN = {  # column of the scoreboard: (point answer, measure)
    "kl": ("none", "kl"),
    "kl_corrected": ("none", "kl_corrected"),
    "w1": ("none", "w1"),
    "js": ("none", "js"),
    "tv": ("none", "tv"),
    "sd_ratio": ("none", "sd_ratio"),
    "crps": ("none", "crps"),
    "nll": ("none", "nll"),
    "rmse": ("sample", "rmse"),
    "rmse_mean": ("mean", "rmse"),
    "rmse_median": ("median", "rmse"),
    "spearman": ("sample", "spearman"),
    "success_rate": ("none", "success_rate"),
    "n_failed": ("sample", "n_failed"),
}
WITH_INTERVAL = ("kl", "w1", "rmse", "rmse_mean")
"""Columns of SHOWN with their 95 % interval beside them, `…_low` and `…_high`."""
GAP_MEASURES = ("w1", "kl")
CHOSEN_BY = ("kl", "rmse", "crps", "nll")
"""What the best baseline is named for; crps and nll only of baselines that predict a distribution."""
PLACE = ["question", "answers"]


def scoreboard(
    metrics: pd.DataFrame, floors: pd.DataFrame, nulls: pd.DataFrame, chosen_baselines: pd.DataFrame
) -> pd.DataFrame:
    """A tidy wide table: adapter factors, temperature, question, then

    - the columns of SHOWN over all test participants, `…_low` and `…_high` of those WITH_INTERVAL, `n`
      (test prompts) and `reason` (why something is missing, if it is);
    - `floor_kl`, `floor_w1` with the lower ends of their bands (`…_low`), `uniform_kl`, `uniform_w1`,
      `uniform_rmse`;
    - `gap_closed_w1`, `gap_closed_kl`: (base − model)/(base − floor) with the uniform null as base;
      `…_pretrained`: with the same model untrained, at the same temperature, in the same wording and on
      the same answer scale; null where that model is not in the study. Both are null where the base lies
      within the floor's band: then there is no gap to close;
    - `best_baseline_kl`, `…_rmse`, `…_crps`, `…_nll`: test figures of the algorithm and setting that are
      best by that measure on validation; `best_baseline_kl_by`, … name the algorithm, `…_reading` how its
      answers are read. Null where no baseline was chosen by it.

    Args:
        metrics: the adapters' metrics, concatenated; of groups only `all` is read, here and below.
        floors: of `noise_floor`. nulls: of `score_nulls`.
        chosen_baselines: of `baselines.curves.chosen_on_validation`.
    """
    metrics, floors, nulls = (table[table["demographic"] == ALL] for table in (metrics, floors, nulls))
    board = _wide(metrics)
    for measure in GAP_MEASURES:
        board = board.merge(_floor_of(floors, measure), on=PLACE, how="left")
    for column, point in (("kl", "none"), ("w1", "none"), ("rmse", "sample")):
        board = board.merge(_uniform_of(nulls, column, point), on=PLACE, how="left")
    board = _with_untrained(board)
    for measure in GAP_MEASURES:
        for base, column in (("uniform", ""), ("untrained", "_pretrained")):
            of_base, highest = board[f"{base}_{measure}"], board[f"floor_{measure}_high"]
            board[f"gap_closed_{measure}{column}"] = _gap(
                of_base.where(of_base > highest), board[measure], board[f"floor_{measure}"]
            )
        board = board.drop(columns=[f"untrained_{measure}", f"floor_{measure}_high"])
    for measure in CHOSEN_BY:
        board = board.merge(_best_baseline(chosen_baselines, measure), on=PLACE, how="left")
    return board


def gap_closed(base: float, model: float, floor: float) -> float:
    """(base − model)/(base − floor): 0 is as far off as the base, 1 as close as humans to humans.

    NaN where the base does not lie above the floor: then there is no gap to close.
    """
    return (base - model) / (base - floor) if base > floor else float("nan")


def _wide(metrics: pd.DataFrame) -> pd.DataFrame:
    """Measures as columns, in the order in which adapters, temperatures and questions come."""
    before = metrics.columns.get_loc("demographic")
    keys = list(metrics.columns[:before])  # factors, temperature, question
    place = ["adapter", "temperature", "question"]
    board = metrics[keys].drop_duplicates(place).reset_index(drop=True)
    for column, (point, measure) in SHOWN.items():
        picked = metrics[(metrics["point_answer"] == point) & (metrics["measure"] == measure)]
        ends = {end: f"{column}_{end}" for end in ("low", "high")} if column in WITH_INTERVAL else {}
        picked = picked[[*place, "value", *ends, "n", "reason"]].rename(columns={"value": column} | ends)
        if column == "success_rate":
            board = board.merge(picked.drop(columns="reason"), on=place, how="left")
        elif column == "kl":
            board = board.merge(picked.drop(columns="n"), on=place, how="left")
        else:
            board = board.merge(picked.drop(columns=["n", "reason"]), on=place, how="left")
    return board


def _floor_of(floors: pd.DataFrame, measure: str) -> pd.DataFrame:
    rows = floors[floors["measure"] == measure]
    named = {end: end.replace("floor", f"floor_{measure}") for end in ("floor", "floor_low", "floor_high")}
    return rows[[*PLACE, *named]].rename(columns=named)


def _uniform_of(nulls: pd.DataFrame, measure: str, point: str) -> pd.DataFrame:
    rows = nulls[
        (nulls["null"] == "uniform") & (nulls["measure"] == measure) & (nulls["point_answer"] == point)
    ]
    return rows[[*PLACE, "value"]].rename(columns={"value": f"uniform_{measure}"})


def _with_untrained(board: pd.DataFrame) -> pd.DataFrame:
    """Adds `untrained_<measure>`: that of the same model before any training."""
    same = ["model", "answers", "template", "temperature", "question"]
    untrained = board[board["method"] == "pretrained"][[*same, *GAP_MEASURES]]
    untrained = untrained.rename(columns={m: f"untrained_{m}" for m in GAP_MEASURES})
    return board.merge(untrained, on=same, how="left")


def _gap(base: pd.Series, model: pd.Series, floor: pd.Series) -> list[float]:
    return [gap_closed(*three) for three in zip(base, model, floor, strict=True)]


def _best_baseline(chosen: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Per question and scale, the algorithm that is best on validation, with its test figure and reading."""
    best = f"best_baseline_{measure}"
    columns = {measure: best, "algorithm": f"{best}_by", "reading": f"{best}_reading"}
    known = measure in chosen and f"validation_{measure}" in chosen
    rows = chosen[chosen["chosen_by"] == measure] if known else chosen.iloc[:0]
    rows = rows[rows[f"validation_{measure}"].notna()] if known else rows
    if not len(rows):
        return pd.DataFrame(columns=[*PLACE, *columns.values()], dtype=object)
    first = rows.loc[rows.groupby(PLACE)[f"validation_{measure}"].idxmin()]
    return first[[*PLACE, *columns]].rename(columns=columns).replace({np.nan: None})
