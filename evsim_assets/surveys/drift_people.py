"""A survey's waves as drift needs them: everybody's counts, and a bounded number of people.

Belongs here: the SQL that reduces all answers to counts by wave and category, and those of
participants who are drawn from. Not here: any measure (`drift.py`).

The answers may be many millions: they stay in DuckDB. Sums are exact (decimals of weights relative to
the wave's largest), so neither threads nor the order of rows changes a digit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets import sql
from evsim_assets.distances import BINS, rebin
from evsim_assets.specs.demographics import SEVERAL_SEPARATOR
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import Demographic, Question, SurveySpec

if TYPE_CHECKING:
    import duckdb

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subject:
    """A demographic or question, and everybody's weight on each of its categories by wave.

    `source` is its place in the codebook; `values` (K,) are a question's answers, ascending. `counts`
    has the waves in which it is known of somebody: weights of mean one, (K,). `scale` leads
    from these waves to what turns a weight into a count.
    """

    source: Demographic | Question
    counts: dict[str, Floats]
    scale: dict[str, float]

    @property
    def kind(self) -> str:
        """`demographic` or `question`."""
        return "question" if isinstance(self.source, Question) else "demographic"

    @property
    def name(self) -> str:
        """The demographic's column in tables, or the question's id."""
        return self.source.id if isinstance(self.source, Question) else self.source.slug

    @property
    def values(self) -> Floats | None:
        """The answers, in scale units; None for a demographic."""
        if isinstance(self.source, Question):
            return np.asarray(self.source.answer_scale.answers, dtype=np.float64)
        return None

    @property
    def categories(self) -> int:
        """How many there are: answers, or options and "not known"."""
        source = self.source
        return len(source.answer_scale.answers if isinstance(source, Question) else source.options) + (
            self.kind == "demographic"
        )

    def bins(self, weights: Floats) -> Floats:
        """Weights (..., K) as (..., B): a question's answers in bins, a demographic's as they are."""
        if self.kind == "demographic" or self.categories <= BINS:
            return weights
        return rebin(weights, BINS)

    def known_in(self, waves: Sequence[str]) -> tuple[str, ...]:
        """Those of the waves in which it is known of somebody."""
        return tuple(wave for wave in waves if wave in self.counts)

    def is_asked(self, survey: SurveySpec) -> bool:
        """Whether the codebook of a wave asks for it."""
        if self.kind == "question":
            return any(question.id == self.name for question in survey.questions)
        return any(other.slug == self.name and other.columns for other in survey.demographics)


@dataclass(frozen=True)
class People:
    """Participants who are drawn from: at most so many of each group, the first by a keyed hash.

    `group` (units,) is 0 for those in the wave alone, 1 in the reference alone, 2 in both; `sizes` are
    the groups' whole sizes; `rank` orders units of all groups.
    """

    group: npt.NDArray[np.int64]
    rank: npt.NDArray[np.int64]
    sizes: tuple[int, int, int]
    cells: dict[str, pd.DataFrame] = field(repr=False)

    def counts(self, subject: Subject, waves: Sequence[str]) -> Floats:
        """Each unit's counts in these waves together: (units, K)."""
        found = np.zeros((len(self.group), subject.categories))
        cells = self.cells.get(f"{subject.kind} {subject.name}")
        if cells is not None:
            cells = cells[cells["wave"].isin([wave for wave in waves if wave in subject.scale])]
            mass = cells["mass"].to_numpy() * cells["wave"].map(subject.scale).to_numpy(dtype=float)
            np.add.at(found, (cells["unit"].to_numpy(), cells["category"].to_numpy()), mass)
        return found


class WavePeople:
    """The answers of all waves in a database, reduced as far as drift allows."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, waves: Sequence[Path], survey: SurveySpec, into: Path
    ):
        self._database, self._answers = database, sql.parquet(waves)
        self._counted: dict[tuple[str, ...], dict[str, int]] = {}
        self._slugs = [demographic.slug for demographic in survey.demographics]
        tops = database.execute(f"SELECT wave, max(weight) FROM {self._answers} GROUP BY wave").fetchall()
        self.waves: tuple[str, ...] = tuple(sorted(wave for wave, _ in tops))
        if len(self.waves) < 2:
            self.subjects: list[Subject] = []
            return
        whens = " ".join(f"WHEN {sql.text(wave)} THEN {top or 1.0!r}::DOUBLE" for wave, top in tops)
        self._weight = f"CAST(r.weight / (CASE r.wave {whens} END) AS DECIMAL(18, 12))"
        self._standing = self._stand(into / "standing.parquet")
        self.subjects = [*self._demographics(survey), *self._questions(survey)]

    def _stand(self, path: Path) -> str:
        """One row a participant and wave: what is known of them, on their first answer's row."""
        self._database.execute(
            'CREATE TEMP TABLE seats AS SELECT participant, wave, min("order") AS first'
            f" FROM {self._answers} GROUP BY participant, wave"
        )
        known = "".join(f", r.{sql.name(slug)}" for slug in self._slugs)
        query = (
            f"SELECT r.participant, r.wave, r.weight{known} FROM {self._answers} AS r JOIN seats"
            ' ON r.participant = seats.participant AND r.wave = seats.wave AND r."order" = seats.first'
        )
        sql.write_parquet(self._database, query, path)
        return sql.parquet([path])

    def _demographics(self, survey: SurveySpec) -> Iterator[Subject]:
        for demographic in survey.demographics:
            column = sql.name(demographic.slug)
            cells = self._database.execute(
                f"SELECT r.wave, r.{column} AS label, count(*) AS people, sum({self._weight})::DOUBLE AS mass"
                f" FROM {self._standing} AS r GROUP BY ALL ORDER BY ALL"
            ).df()
            known = cells[cells["label"].notna()].groupby("wave")["mass"].sum()
            cells = cells[cells["wave"].isin(known.index[known > 0])]
            scale = _scale(cells, "people")
            yield Subject(demographic, _counts(_labelled(cells, demographic), demographic, scale), scale)

    def _questions(self, survey: SurveySpec) -> Iterator[Subject]:
        cells = self._database.execute(
            "SELECT r.wave, r.question, r.answer, count(*) AS answers,"
            f" sum({self._weight})::DOUBLE AS mass FROM {self._answers} AS r GROUP BY ALL ORDER BY ALL"
        ).df()
        unknown = set(cells["question"]) - {question.id for question in survey.questions}
        if unknown:
            raise BadInput(
                "answers to a question that the codebook does not have",
                field="question",
                value=min(unknown),
                remedy="clean the waves again with this codebook",
            )
        for question in survey.questions:
            mine = cells[cells["question"] == question.id]
            total = mine.groupby("wave")["mass"].sum()
            mine = mine[mine["wave"].isin(total.index[total > 0])]
            scale = _scale(mine, "answers")
            yield Subject(question, _counts(_placed(mine, question), question, scale), scale)

    def count(self, subject: Subject, waves: Sequence[str]) -> int:
        """How many participants the subject is asked of, in any of these waves (where it is known)."""
        usable = subject.known_in(waves)
        if not usable:
            return 0
        if usable not in self._counted:
            held = f"wave IN ({', '.join(map(sql.text, usable))})"
            questions = self._database.execute(
                f"SELECT question, count(*) FROM (SELECT DISTINCT participant, question FROM {self._answers}"
                f" WHERE {held}) GROUP BY question"
            ).fetchall()
            seats = f"SELECT count(DISTINCT participant) FROM seats WHERE {held}"
            everybody = self._database.execute(seats).fetchall()[0][0]
            self._counted[usable] = {f"question {name}": n for name, n in questions} | {"": everybody}
        counted = self._counted[usable]
        return int(counted[f"question {subject.name}"] if subject.kind == "question" else counted[""])

    def drawn(self, wave: str, reference: Sequence[str], most: int) -> People:
        """At most `most` participants of each group, with all that they tell in these waves."""
        there = f"wave IN ({', '.join(map(sql.text, reference))})"
        here = f"wave = {sql.text(wave)}"
        self._database.execute(
            "CREATE OR REPLACE TEMP TABLE grouped AS SELECT participant,"
            f" CASE WHEN NOT bool_or({there}) THEN 0 WHEN NOT bool_or({here}) THEN 1 ELSE 2 END AS side"
            f" FROM seats WHERE {here} OR {there} GROUP BY participant"
        )
        sizes = dict(self._database.execute("SELECT side, count(*) FROM grouped GROUP BY side").fetchall())
        tops = " UNION ALL ".join(
            f"(SELECT *, md5_number('drift:' || participant) AS key FROM grouped WHERE side = {side}"
            f" ORDER BY key, participant LIMIT {most})"
            for side in range(3)
        )
        self._database.execute(
            "CREATE OR REPLACE TEMP TABLE units AS SELECT participant, side,"
            " row_number() OVER (ORDER BY side, key, participant) - 1 AS unit,"
            f" row_number() OVER (ORDER BY key, participant) AS place FROM ({tops})"
        )
        units = self._database.execute("SELECT side, place FROM units ORDER BY unit").fetchnumpy()
        held = f"(r.{here} OR r.{there})"
        return People(
            np.asarray(units["side"], dtype=np.int64),
            np.asarray(units["place"], dtype=np.int64),
            (sizes.get(0, 0), sizes.get(1, 0), sizes.get(2, 0)),
            self._cells(held),
        )

    def _cells(self, held: str) -> dict[str, pd.DataFrame]:
        """What units tell: subject → unit, wave, category, mass; only of subjects that occur."""
        found: dict[str, pd.DataFrame] = {}
        answers = self._database.execute(
            f"SELECT unit, r.wave, r.question, r.answer, sum({self._weight})::DOUBLE AS mass"
            f" FROM {self._answers} AS r JOIN units USING (participant) WHERE {held}"
            " GROUP BY ALL ORDER BY ALL"
        ).df()
        standing = self._database.execute(
            f"SELECT unit, r.wave, {self._weight}::DOUBLE AS mass"
            + "".join(f", r.{sql.name(slug)} AS {sql.name('d:' + slug)}" for slug in self._slugs)
            + f" FROM {self._standing} AS r JOIN units USING (participant) WHERE {held} ORDER BY unit, r.wave"
        ).df()
        by_question = dict(iter(answers.groupby("question", sort=False)))
        for subject in self.subjects:
            if isinstance(subject.source, Demographic):
                mine = standing[["unit", "wave", "mass", f"d:{subject.name}"]]
                cells = _labelled(mine.set_axis(["unit", "wave", "mass", "label"], axis=1), subject.source)
            elif subject.name in by_question:
                cells = _placed(by_question[subject.name], subject.source)
            else:
                continue
            found[f"{subject.kind} {subject.name}"] = cells
        return found


@contextmanager
def wave_people(waves: Sequence[Path], survey: SurveySpec) -> Iterator[WavePeople]:
    """The waves in these `clean_wave` tables, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="drift-") as scratch, sql.connection(Path(scratch)) as database:
        yield WavePeople(database, waves, survey, Path(scratch))


def _scale(cells: pd.DataFrame, rows: str) -> dict[str, float]:
    """Wave → what its weights are multiplied with, so that their mean is one."""
    by_wave = cells.groupby("wave")[[rows, "mass"]].sum()
    return {str(wave): float(n / mass) for wave, n, mass in by_wave.itertuples() if mass > 0}


def _counts(
    cells: pd.DataFrame, source: Demographic | Question, scale: dict[str, float]
) -> dict[str, Floats]:
    """Wave → counts (K,) of the cells (columns wave, category, mass)."""
    size = len(source.answer_scale.answers) if isinstance(source, Question) else len(source.options) + 1
    counts = {wave: np.zeros(size) for wave in scale}
    for wave, category, mass in cells[["wave", "category", "mass"]].itertuples(index=False):
        if wave in counts:
            counts[wave][category] += mass * scale[wave]
    return counts


def _labelled(cells: pd.DataFrame, demographic: Demographic) -> pd.DataFrame:
    """Cells with the category of their label: an option's place, the last if not known."""
    labels = cells["label"].astype(object).where(cells["label"].notna(), None)
    if demographic.has_several:
        labels = labels.map(lambda label: [None] if label is None else label.split(SEVERAL_SEPARATOR))
        cells = cells.assign(label=labels).explode("label", ignore_index=True)
        labels = cells["label"].astype(object).where(cells["label"].notna(), None)
    places = {option: place for place, option in enumerate(demographic.options)}
    unknown = set(labels.dropna()) - set(places)
    if unknown:
        raise BadInput(
            "a label that is not among the options",
            field=demographic.slug,
            value=min(unknown),
            remedy="clean the waves again with this codebook",
        )
    return cells.assign(category=labels.map(places).fillna(len(places)).astype(np.int64))


def _placed(cells: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Cells with the place of their answer on the scale."""
    places = {answer: place for place, answer in enumerate(question.answer_scale.answers)}
    found = cells["answer"].map(places)
    if found.isna().any():
        raise BadInput(
            "an answer is not on the question's scale",
            field=question.id,
            value=cells.loc[found.isna(), "answer"].iloc[0],
            remedy="clean the waves again with this codebook",
        )
    return cells.assign(category=found.astype(np.int64))
