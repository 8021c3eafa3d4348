"""How far two groups of humans lie apart: what no model can be asked to beat.

Belongs here: population measures between two disjoint samples of participants. Not here: models,
real (`agreement.py`) or null (`nulls.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.metrics.groups import group_members
from evsim_assets.metrics.human_answers import (
    HumanAnswers,
    answer_scales,
    each_answer_once,
    human_answers,
)
from evsim_assets.metrics.kl_bias import Moments, kl_bias_of_samples
from evsim_assets.metrics.measures import (
    CORRECTED,
    POPULATION_MEASURES,
    Floats,
    answer_positions,
    kl_bins,
    missing_measure_reason,
    population_measures,
    rebin,
)
from evsim_assets.specs.demographics import Demographic
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.seeds import derived_seed

RESAMPLES = 200
FLOOR_COLUMNS = [
    "question",
    "answers",
    "demographic",
    "level",
    "measure",
    "floor",
    "floor_low",
    "floor_high",
    "n",
    "resamples",
    "reason",
]
FLOOR_MEASURES = (*POPULATION_MEASURES, *CORRECTED.values())
WITHOUT_FLOOR = ("rmse", "mae", "spearman", "crps", "nll")
NO_SECOND_ANSWER = "nobody answers the same prompt twice, so there is no human-to-human error"
Masks = npt.NDArray[np.bool_]
Places = npt.NDArray[np.float32]


def noise_floor(
    prompts: pd.DataFrame,
    people: pd.DataFrame,
    demographics: Iterable[Demographic | str] | None,
    seed: int,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """The floor of every measure per question, answer scale and demographic group: FLOOR_COLUMNS.

    Each resample draws two disjoint samples of `n` participants each, with all their answers, from
    those of all splits who are in the group and answered the question; `n` is the number of test
    participants among them (or half of all, if that is less). `floor` is the mean over resamples of
    the measure between the samples, `floor_low` and `floor_high` are the 2.5 % and 97.5 % quantiles:
    they contain the measure between two such samples in 95 of 100 cases.

    Both sides of the floor are samples: a model whose exact distribution is the population's own
    carries no sampling noise of its own and can fall below the floor (its KL by up to one half).
    `kl_corrected` is KL less the bias that a bootstrap over participants would find
    (`kl_bias_of_samples`), so its floor is about 0, its band reaches below, and a perfect model of
    either kind lies in it. Answers count by their survey weights, brought to mean 1 in each group; what
    is held out is in no sample, and each answer is taken once, in whatever wording.

    Individual measures have no floor, and groups of fewer than two test participants none either; a
    `reason` says so.

    Args:
        people: `participant` and a column a demographic; everyone in `prompts`.
        demographics: those to group by, as `group_members` takes them.

    Raises:
        BadInput: fewer than two participants, or no test participant; one who is not in `people`.
    """
    prompts = each_answer_once(prompts)
    tested = prompts.loc[prompts["split"] == "test", "participant"].nunique()
    everyone = pd.Index(sorted(prompts["participant"].unique()))
    if len(everyone) < 2 or tested < 1:
        raise BadInput(
            "a noise floor needs two participants, one of them in the test split",
            value=len(everyone),
            remedy="add waves, or ask for a larger sample",
        )
    rng = np.random.default_rng(derived_seed(seed, "noise floor", ""))
    places = rng.random((resamples, len(everyone)), dtype=np.float32)  # whoever comes first is drawn first
    groups = list(_groups(people, demographics, everyone))
    records = [
        row
        for answer_scale in answer_scales(prompts)
        for human in human_answers(prompts, answer_scale)
        for row in _question_floors(human, everyone, places, groups)
    ]
    table = pd.DataFrame(records, columns=FLOOR_COLUMNS)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table


def _groups(
    people: pd.DataFrame, demographics: Iterable[Demographic | str] | None, everyone: pd.Index
) -> Iterator[tuple[str, str, Masks]]:
    """Each group, `all` first, with who of `everyone` belongs to it."""
    rows = rows_of_people(people, everyone)
    for demographic, level, mask in group_members(people, demographics):
        yield demographic, level, mask[rows]


def _question_floors(
    human: HumanAnswers, everyone: pd.Index, places: Places, groups: list[tuple[str, str, Masks]]
) -> Iterator[dict[str, Any]]:
    """The rows of one question on one scale."""
    place_of = everyone.get_indexer(pd.Index(human.rows["participant"]))
    asked, who = np.unique(place_of, return_inverse=True)  # few of all people, where questions vary
    positions = answer_positions(human.answers, human.scale)
    answered = np.zeros((len(asked), len(human.scale.answers)))  # (people asked, answers): weighted counts
    np.add.at(answered, (who, positions), human.weights)
    answers = np.bincount(who, minlength=len(asked))
    tested = np.zeros(len(asked), dtype=bool)
    tested[who[(human.rows["split"] == "test").to_numpy()]] = True
    for demographic, level, mask in groups:
        members = np.flatnonzero(mask[asked])
        n = min(int(tested[members].sum()), len(members) // 2)
        place: dict[str, Any] = {"question": human.question, "answers": human.answer_scale}
        place |= {"demographic": demographic, "level": level, "n": n}
        reason = too_few_reason(int(tested[members].sum()))
        if reason:
            yield from _nothing(place, reason)
            continue
        own = answered[members]
        own *= answers[members].sum() / own.sum()
        first, second = _disjoint_samples(places[:, asked[members]], n)
        yield from _measured(human, place, own, first, second)


def rows_of_people(people: pd.DataFrame, participants: pd.Index) -> npt.NDArray[np.intp]:
    """The row of `people` of each participant. Raises BadInput for one who has none."""
    rows = pd.Index(people["participant"]).get_indexer(participants)
    if (rows < 0).any():
        raise BadInput(
            f"nothing is known of {len(set(participants[rows < 0]))} participants, not even that they exist",
            field="participant",
            value=participants[rows < 0][0],
            remedy="give a row for every participant of the study, empty where nothing is known",
        )
    return rows


def too_few_reason(tested: int) -> str | None:
    """Why nothing is measured of a group with so many test participants; None where something is."""
    if tested == 0:
        return "no test participant"
    return "only 1 test participant" if tested == 1 else None


def _disjoint_samples(places: Places, n: int) -> tuple[Floats, Floats]:
    """Two 0/1 matrices (resamples, people): the first `n` by `places`, and the next."""
    order = np.argpartition(places, [n - 1, 2 * n - 1], axis=1)
    first, second = np.zeros(places.shape), np.zeros(places.shape)
    np.put_along_axis(first, order[:, :n], 1.0, axis=1)
    np.put_along_axis(second, order[:, n : 2 * n], 1.0, axis=1)
    return first, second


def _measured(
    human: HumanAnswers, place: dict[str, Any], answered: Floats, first: Floats, second: Floats
) -> Iterator[dict[str, Any]]:
    scale = human.scale
    measured = dict(population_measures(scale, first @ answered, second @ answered))
    reasons = {measure: missing_measure_reason(measure, scale) for measure in POPULATION_MEASURES}
    for measure, corrected in CORRECTED.items():
        reasons[corrected], bins = reasons[measure], kl_bins(measure, scale)
        if bins is not None:
            binned = rebin(answered, bins)
            bias = kl_bias_of_samples(Moments.of(first, binned), Moments.of(second, binned))
            measured[corrected] = measured[measure] - bias
    for measure in FLOOR_MEASURES:
        values = measured.get(measure, np.empty(0))
        values = values[~np.isnan(values)]
        yield place | _summary(measure, values, reasons[measure] or "everybody gave the same answer")
    for measure in WITHOUT_FLOOR:
        yield place | _summary(measure, np.empty(0), NO_SECOND_ANSWER)


def _nothing(place: dict[str, Any], reason: str) -> Iterator[dict[str, Any]]:
    for measure in (*FLOOR_MEASURES, *WITHOUT_FLOOR):
        yield place | _summary(measure, np.empty(0), reason)


def _summary(measure: str, values: Floats, reason: str) -> dict[str, Any]:
    """Mean and 95 % band of the resamples; Weibull's quantiles, of which 95 % of further ones lie between."""
    summary: dict[str, Any] = {"measure": measure, "resamples": len(values)}
    if not len(values):
        return summary | dict.fromkeys(["floor", "floor_low", "floor_high"], np.nan) | {"reason": reason}
    low, high = np.quantile(values, [0.025, 0.975], method="weibull")
    return summary | {
        "floor": float(values.mean()),
        "floor_low": float(low),
        "floor_high": float(high),
        "reason": None,
    }
