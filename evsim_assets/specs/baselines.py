"""Which baselines a study has: grids of settings, the paper's whole ones by name, and their partitions.

Belongs here: the fields of `baselines` in `data/studies/<study>.yaml`. Not here: what is fitted
(`evsim_assets/baselines/`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from evsim_assets.specs.yaml_file import Spec, SpecError

Numbers = Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]
Positive = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)]


class BaselineGrid(Spec):
    """A baseline's grid: values for each field, or `full` in its place for the whole of `FULL`."""

    FULL: ClassVar[Mapping[str, tuple[Any, ...]]]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if given == "full":
            return dict(cls.FULL)
        if isinstance(given, str):
            raise SpecError(
                "there is no grid of that name",
                value=given,
                remedy=f"write full, or lists for {', '.join(cls.model_fields)}",
            )
        return given

    @property
    def size(self) -> int:
        """How many settings the grid has; a value listed twice counts once."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return math.prod(len(set(value)) for value in values if isinstance(value, tuple))


class SvrGrid(BaselineGrid):
    """Table 9, or a part of it. `full` is all 384 settings."""

    FULL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "kernel": ("linear", "poly", "rbf", "sigmoid"),
        "C": (2**-5, 2**-1, 2**3, 2**7),
        "epsilon": (2**-10, 2**-6, 2**-2),
        "gamma": tuple(2.0**power for power in range(-20, 9, 4)),
    }

    kernel: Annotated[tuple[Literal["linear", "poly", "rbf", "sigmoid"], ...], Field(min_length=1)]
    C: Positive
    epsilon: Numbers
    gamma: Positive


class CatBoostGrid(BaselineGrid):
    """Table 10, or a part of it; `iterations` is not in the table and is stated here. `full` is all 480."""

    FULL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (1e-3, 1e-2, 1e-1, 1.0),
        "random_strength": (1, 20),
        "one_hot_max_size": (0, 25),
        "l2_leaf_reg": (0.03, 0.1, 1, 3, 5, 10),
        "bagging_temperature": (0, 0.25, 0.5, 0.75, 1),
    }

    learning_rate: Positive
    random_strength: Numbers
    one_hot_max_size: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    l2_leaf_reg: Numbers
    bagging_temperature: Numbers
    iterations: Annotated[int, Field(ge=1)] = 200


class BoostedGrid(BaselineGrid):
    """Boosted answer distributions; no table of the paper's. `full` is 24 settings."""

    FULL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (0.03, 0.1, 0.3),
        "depth": (2, 4),
        "l2_leaf_reg": (1, 10),
        "iterations": (30, 100),
    }

    learning_rate: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
    depth: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(min_length=1)] = (4,)
    l2_leaf_reg: Numbers = (10,)
    iterations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (30,)


class Baselines(Spec):
    """The de-novo models of Appendix J, and two that give distributions, as adapters do.

    `svr` and `catboost` predict one answer a person; `boosted` predicts a distribution. Always there, since
    they have no settings: `cells` (what people of the same demographic cell answered) and `random`.
    """

    svr: SvrGrid | None = None
    catboost: CatBoostGrid | None = None
    boosted: BoostedGrid | None = None
    max_train_rows: Annotated[int, Field(ge=100)] | None = None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms fitted, sorted."""
        return tuple(sorted({"cells", "random", *(a for a in GRIDS if getattr(self, a) is not None)}))

    @property
    def parts(self) -> tuple[str, ...]:
        """The partition keys: `svr`, or `svr-1-of-8` and so on where a grid has more than PART_SETTINGS."""
        return tuple(part for algorithm in self.algorithms for part in self._parts_of(algorithm))

    def _parts_of(self, algorithm: str) -> Iterator[str]:
        grid = getattr(self, algorithm, None)
        of = math.ceil(grid.size / PART_SETTINGS) if grid else 1
        for number in range(1, of + 1):
            yield f"{algorithm}-{number}-of-{of}" if of > 1 else algorithm

    def full(self) -> Baselines:
        """Every grid whole, on all training rows."""
        grids: dict[str, Any] = {name: grid.model_validate("full") for name, grid in GRIDS.items()}
        return Baselines(**grids)


GRIDS: dict[str, type[BaselineGrid]] = {"svr": SvrGrid, "catboost": CatBoostGrid, "boosted": BoostedGrid}
PART_SETTINGS = 48
"""Settings of a grid that are one partition, at most."""
