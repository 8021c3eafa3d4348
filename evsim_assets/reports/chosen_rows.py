"""Which rows of the large tables people see first; SQL has all of them.

Belongs here: picking rows. Not here: the choice of temperatures (`metrics/chosen.py`), writing rows
(`tables.py`), drawing them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

SERIES = ["adapter", "question"]
AT_CHOSEN = (
    "Each adapter and question is shown at the temperature at which its KL is lowest on validation; the"
    " figures are of test participants, who chose nothing."
)


def of_everybody(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the whole population, in a table that may also have rows of demographic groups."""
    return table[table["demographic"] == "all"] if "demographic" in table else table


def chosen_rows(board: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """One row of the scoreboard for each adapter and question: the temperature chosen on validation.

    Args:
        chosen: of `metrics.chosen.chosen_temperatures`. Where it has none, as nothing was answered on
            validation, the first temperature stands.
    """
    temperatures = {(r["adapter"], r["question"]): r["temperature"] for r in chosen.to_dict("records")}
    places = []
    for (adapter, question), rows in board.groupby(SERIES, sort=False):
        at = rows.index[rows["temperature"] == temperatures.get((adapter, question), np.nan)]
        places.append(at[0] if len(at) else rows.index[0])
    return board.loc[places]


def beside(table: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table (adapter, temperature, question, …) at the temperatures of `shown`."""
    return table.merge(shown[[*SERIES, "temperature"]], on=[*SERIES, "temperature"], how="inner")
