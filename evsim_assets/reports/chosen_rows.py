"""Which rows of the large tables people see first; SQL has all of them.

Belongs here: choosing rows. Not here: writing them (`tables.py`), drawing them.
"""

from __future__ import annotations

import pandas as pd

SERIES = ["adapter", "question"]
LOWEST_KL = "Each adapter and question is shown at the temperature at which its KL is lowest."


def of_everybody(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the whole population, in a table that may also have rows of demographic groups."""
    return table[table["demographic"] == "all"] if "demographic" in table else table


def lowest_kl(board: pd.DataFrame) -> pd.DataFrame:
    """One row of the scoreboard for each adapter and question: the temperature of its lowest KL.

    Where no temperature has a KL it is the first one. The temperature is chosen on the same answers
    that are shown, so the lowest KL of many temperatures is a little lucky.
    """
    places = []
    for _, rows in board.groupby(SERIES, sort=False):
        known = rows["kl"].dropna()
        places.append(known.idxmin() if len(known) else rows.index[0])
    return board.loc[places]


def at_lowest_kl(table: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table (adapter, temperature, question, …) at the temperatures of `lowest_kl`."""
    chosen = lowest_kl(board)[[*SERIES, "temperature"]]
    return table.merge(chosen, on=[*SERIES, "temperature"], how="inner")
