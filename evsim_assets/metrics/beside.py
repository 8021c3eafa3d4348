"""What each measure of an adapter is to be held against: noise floor, null models, the gap closed.

Belongs here: joining them to the metrics, row by row. Not here: computing any of them
(`noise_floor.py`, `nulls.py`), one row an adapter (`scoreboard.py`).

**Which gap is meant.** gap closed = (base − model)/(base − floor): 0 is no better than the base, 1 as
close as two samples of people are to each other. It needs a floor, so it is of population measures.

- From `uniform`: how much of the way from knowing nothing to the humans' distribution is gone. Every
  decent model is near 1.
- From `population_marginal`: over all participants there is usually no gap, because that null *is* the
  population's distribution of a few thousand other people; it then says so. Within a demographic
  group it is the right base: a simulator that gives everyone the population's answers (one whose
  personas are shuffled) closes none of it, one that knows the group all.
- From `cell_marginal`: the same for what is known of the person beyond the two best demographics.

Individual measures (crps, nll, rmse, mae, spearman) have no floor, since nobody answers the same
prompt twice: how well one *could* know a person's answer is unknown. They have no gap closed and say
so. What an analyst reads instead is the difference to the nulls and to `shuffled_persona`, all in the
row: a simulator that knows nothing of the person has the crps of the population marginal, and one
with the true distribution of each person's answers has the least crps and nll that there is.
"""

from __future__ import annotations

import pandas as pd

from evsim_assets.metrics.noise_floor import NO_SECOND_ANSWER, WITHOUT_FLOOR
from evsim_assets.metrics.nulls import NULLS

GROUP = ["question", "answers", "demographic", "level"]
FLOORS = ["floor", "floor_low", "floor_high"]
GAPS = {
    "gap_closed_uniform": "uniform",
    "gap_closed_population": "population_marginal",
    "gap_closed_cell": "cell_marginal",
}
NOT_OF_NULLS = "null models have no such measure"
BESIDE_COLUMNS = [*FLOORS, *NULLS, "null_reason", *GAPS, "gap_reason"]


def beside(metrics: pd.DataFrame, floors: pd.DataFrame, nulls: pd.DataFrame) -> pd.DataFrame:
    """The metrics, in their order, with BESIDE_COLUMNS; `shuffled_persona` stays where it is.

    `floor` … are of the same question, answer scale, group and measure, whichever way one answer was
    read; the nulls also of the same point answer, and `null_reason` says why one has no value. A gap closed
    is null where there is no floor, no base, or where the base lies within the floor's band (`floor_high` or
    below: no further from the humans than humans are, so there is no gap to close); then `gap_reason` names
    each such base and why.
    A model at a temperature where it never answered has no gap either, and its row's `reason` in
    `gap_reason`.

    Args:
        metrics: of one adapter or many. floors: of `noise_floor`. nulls: of `score_nulls`.
    """
    known = metrics.drop(columns=[column for column in BESIDE_COLUMNS if column in metrics])
    table = known.merge(
        floors[[*GROUP, "measure", *FLOORS, "reason"]].rename(columns={"reason": "_floor_reason"}),
        on=[*GROUP, "measure"],
        how="left",
        validate="many_to_one",
    )
    keys = [*GROUP, "point_answer", "measure"]
    wide = nulls.pivot(index=keys, columns="null", values="value").reindex(columns=list(NULLS))
    wide["null_reason"] = _null_reasons(nulls, keys).reindex(wide.index)
    table = table.merge(wide.reset_index(), on=keys, how="left", validate="many_to_one")
    unknown = table["null_reason"].isna() & table[list(NULLS)].isna().any(axis=1)
    table["null_reason"] = table["null_reason"].astype(object).where(~unknown, NOT_OF_NULLS)
    table["null_reason"] = table["null_reason"].where(table["null_reason"].notna(), None)
    reasons = _no_gap_reasons(table)
    for gap, base in GAPS.items():
        value = (table[base] - table["value"]) / (table[base] - table["floor"])
        table[gap] = value.astype(float).where(reasons[gap] == "")
    table["gap_reason"] = pd.Series(_joined(reasons), index=table.index, dtype=object)
    return table[[*known.columns, *BESIDE_COLUMNS]]


def _null_reasons(nulls: pd.DataFrame, keys: list[str]) -> pd.Series:
    """By `keys`, the names and reasons of the nulls that have no value, in one text."""
    missing = nulls[nulls["value"].isna()]
    said = missing["null"] + ": " + missing["reason"].fillna("no value").astype(str)
    return said.groupby([missing[key] for key in keys]).agg("; ".join)


def _no_gap_reasons(table: pd.DataFrame) -> pd.DataFrame:
    """Why each gap of GAPS is not defined, a column each; "" where it is."""
    reasons = pd.DataFrame("", index=table.index, columns=list(GAPS), dtype=object)
    for gap, base in GAPS.items():
        inside = table[base] <= table["floor_high"]
        reasons.loc[inside, gap] = f"{base} lies within the noise floor's band: no gap to close"
        reasons.loc[table[base].isna(), gap] = f"{base} has no such value"
    for everywhere, why in _no_gap_at_all(table):
        reasons.loc[everywhere, :] = why
    return reasons


def _no_gap_at_all(table: pd.DataFrame) -> list[tuple[pd.Series, str]]:
    """Rows of which no gap is defined, and why; later entries prevail."""
    measure = table["measure"]
    whys = [(table["floor"].isna(), "this measure has no noise floor")]
    whys.append((measure.isin(WITHOUT_FLOOR), f"no noise floor: {NO_SECOND_ANSWER}"))
    whys.append(
        (
            measure == "sd_ratio",
            "the best ratio is 1, not the least: hold it against floor_low and floor_high",
        )
    )
    for column in ("_floor_reason", "reason"):
        for why in table[column].dropna().unique():
            if why != NO_SECOND_ANSWER:
                whys.append((table[column] == why, str(why)))
    return whys


def _joined(reasons: pd.DataFrame) -> list[str | None]:
    """Each row's different reasons in one text; None where every gap is defined."""
    columns = [reasons[column].tolist() for column in reasons]
    texts = ["; ".join(dict.fromkeys(why for why in row if why)) for row in zip(*columns, strict=True)]
    return [text or None for text in texts]
