"""Who belongs to which demographic group.

Belongs here: the groups of participants that measures are taken of: everybody, and the people of each level
of one demographic. Not here: what is measured of a group, cells of several demographics (`cells.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.specs.demographics import SEVERAL_SEPARATOR, Demographic
from evsim_assets.specs.errors import BadInput

Bools = npt.NDArray[np.bool_]
ALL = "all"
"""The demographic, and the level, of the group that everybody belongs to."""


def group_members(
    people: pd.DataFrame, demographics: Iterable[Demographic | str] | None = None
) -> Iterator[tuple[str, str, Bools]]:
    """Everybody ("all", "all"), then each demographic's slug, level and who is in it: (len(people),).

    A cell that names several options makes its person a member of each option's group, so the groups of
    such a demographic overlap; a missing cell makes nobody a member of anything.

    Args:
        people: `participant`, and one column of text a demographic; one row a person.
        demographics: those to group by. A `Demographic` has all its options for levels, also those that
            nobody has; of a column's name alone, the options that occur are the levels, in alphabetical
            order, and each cell may name several. All columns but `participant`, if not given.

    Raises:
        BadInput: a demographic is not among the columns, or a participant has two rows.
    """
    doubled = people["participant"][people["participant"].duplicated()]
    if len(doubled):
        raise BadInput(
            "a participant has two rows of demographics",
            field="participant",
            value=doubled.iloc[0],
            remedy="give one row a person",
        )
    columns = [str(column) for column in people.columns if column != "participant"]
    yield ALL, ALL, np.ones(len(people), dtype=bool)
    for demographic in columns if demographics is None else demographics:
        name = demographic if isinstance(demographic, str) else demographic.slug
        if name not in columns:
            raise BadInput(
                "no such demographic among the people's columns",
                field="demographics",
                value=name,
                remedy=f"choose among {', '.join(columns)}",
            )
        several = isinstance(demographic, str) or demographic.several
        options, rows = _options(people[name], several=several)
        levels = sorted(set(options)) if isinstance(demographic, str) else demographic.options
        for level in levels:
            member = np.zeros(len(people), dtype=bool)
            member[rows[options == level]] = True
            yield name, str(level), member


def _options(cells: pd.Series, *, several: bool) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Every option that a cell names, and that cell's row; missing cells name none."""
    said = cells.reset_index(drop=True).dropna().astype(object).astype(str)
    if several:
        said = said.str.split(SEVERAL_SEPARATOR, regex=False).explode()
        said = said[said != ""]
    return said.to_numpy(dtype=object), said.index.to_numpy(dtype=np.int64)
