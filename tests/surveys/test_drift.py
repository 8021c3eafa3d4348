"""Drift between waves: by hand, against scipy, and by simulation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats

from evsim_assets.distances import rebin
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.survey import SurveySpec
from evsim_assets.surveys.drift import COLUMNS, drift, drift_summary
from evsim_assets.surveys.drift_figure import drift_figure
from evsim_assets.surveys.drift_noise import PEOPLE

OPTIONS = ("one", "two", "three", "four", "five")


@pytest.fixture
def survey(make_survey: Any) -> SurveySpec:
    return codebook(make_survey, 1, 1)


def codebook(make_survey: Any, described: int, asked: int, **changes: Any) -> SurveySpec:
    scale = {"low": 0, "high": 100}
    return make_survey(
        **{
            "interventions": None,
            "demographics": [
                {"name": f"d{i}", "column": f"d{i}", "options": list(OPTIONS)} for i in range(described)
            ],
            "questions": [
                {"id": f"q{i}", "scale": scale, "columns": [{"answer": f"q{i}"}]} for i in range(asked)
            ],
            "prompts": {"system": "{demographics}", "user": "{low} to {high}?"},
        }
        | changes
    )


def wave(name: str, answers: Any, question: str = "q0", *, weight: Any = 1.0, **known: Any) -> pd.DataFrame:
    """One answer a participant; `known` are labels by demographic."""
    people = [f"{name}{i}" for i in range(len(answers))]
    rows = pd.DataFrame({"participant": people, "wave": name, "question": question, "order": 0})
    return rows.assign(answer=np.asarray(answers, dtype=np.int64), weight=weight, **known)


def table_of(tmp_path: Path, survey: SurveySpec, *waves: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Drift between the waves, each a file as `clean_wave` is."""
    files = []
    for n, rows in enumerate(waves):
        unnamed = {d.slug: "one" for d in survey.demographics if d.slug not in rows}
        texts = {d.slug: pa.string() for d in survey.demographics}  # a column of NULLs alone is of texts too
        table = pa.Table.from_pandas(rows.assign(**unnamed), preserve_index=False)
        fields = [pa.field(f.name, texts.get(f.name, f.type)) for f in table.schema]
        files.append(tmp_path / f"{n}.parquet")
        pq.write_table(table.cast(pa.schema(fields)), files[-1])
    return drift(files, survey, seed)


def row_of(table: pd.DataFrame, name: str, measure: str, reference: str = "previous") -> pd.Series:
    found = table[(table["name"] == name) & (table["measure"] == measure) & (table["reference"] == reference)]
    assert len(found) == 1
    return found.iloc[0]


def random_wave(rng: np.random.Generator, name: str, people: int, shift: float = 0, **known: Any) -> Any:
    return wave(name, np.clip(np.round(rng.normal(50 + shift, 20, people)), 0, 100), **known)


# --- the measures --------------------------------------------------------------------------------


def test_psi_of_two_categories_is_that_of_the_hand(survey: SurveySpec, tmp_path: Path) -> None:
    before, after = ["one"] * 30 + ["two"] * 10, ["one"] * 10 + ["two"] * 10
    table = table_of(tmp_path, survey, wave("a", [5] * 40, d0=before), wave("b", [5] * 20, d0=after))
    p, q = (10.5 / 21, 10.5 / 21), (30.5 / 41, 10.5 / 41)  # half a count on each of the two
    by_hand = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = row_of(table, "d0", "psi")
    assert found["value"] == pytest.approx(by_hand) == pytest.approx(0.26009, abs=1e-5)
    assert found["severity"] == "large"
    assert row_of(table, "d0", "total_variation")["value"] == pytest.approx(0.25)
    assert (found["n_wave"], found["n_reference"]) == (20, 40)


def test_wasserstein_is_that_of_scipy_with_weights_of_any_unit(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first = random_wave(rng, "a", 300, weight=rng.uniform(0.1, 3, 300))
    second = random_wave(rng, "b", 200, 7, weight=rng.uniform(100, 9000, 200))
    found = row_of(table_of(tmp_path, survey, first, second), "q0", "wasserstein")
    expected = stats.wasserstein_distance(
        second["answer"], first["answer"], second["weight"], first["weight"]
    )
    assert found["value"] == pytest.approx(expected, rel=1e-9)


def test_answers_are_in_the_bins_of_the_metrics(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    first, second = random_wave(rng, "a", 300), random_wave(rng, "b", 200, 7)
    counts = [rebin(np.bincount(w["answer"], minlength=101), 11) for w in (second, first)]
    p, q = ((c + 0.5) / (c.sum() + 5.5) for c in counts)
    table = table_of(tmp_path, survey, first, second)
    assert row_of(table, "q0", "psi")["value"] == pytest.approx(((p - q) * np.log(p / q)).sum())
    tv = np.abs(counts[0] / 200 - counts[1] / 300).sum() / 2
    assert row_of(table, "q0", "total_variation")["value"] == pytest.approx(tv)


def test_a_pooled_reference_weighs_waves_by_their_people(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    first = random_wave(rng, "a", 300, weight=rng.uniform(1, 2, 300) * 1e-4)
    second = random_wave(rng, "b", 100, 20, weight=rng.lognormal(0, 1, 100) * 1e6)
    third = random_wave(rng, "c", 200)
    table = table_of(tmp_path, survey, third, first, second)
    pooled = pd.concat([w.assign(weight=w["weight"] / w["weight"].mean()) for w in (first, second)])
    newest = table[table["wave"] == "c"]
    found = row_of(newest, "q0", "wasserstein", "earlier")
    expected = stats.wasserstein_distance(third["answer"], pooled["answer"], None, pooled["weight"])
    assert found["value"] == pytest.approx(expected)
    assert (found["reference_waves"], found["n_reference"]) == ("a, b", 400)
    found = row_of(newest, "q0", "wasserstein", "previous")
    assert found["value"] == pytest.approx(
        stats.wasserstein_distance(third["answer"], second["answer"], None, second["weight"])
    )
    assert (found["reference_waves"], found["n_reference"]) == ("b", 100)


def test_each_option_of_several_counts(make_survey: Any, tmp_path: Path) -> None:
    home = {"name": "d0", "column": "d0", "options": list(OPTIONS), "several": True}
    survey = codebook(make_survey, 1, 1, demographics=[home])
    before = wave("a", [1] * 4, d0=["one; two", "one", "one; two; three", "two"])  # 3, 3 and 1 of 7
    after = wave("b", [1] * 2, d0=["two; three", "two"])  # 0, 2 and 1 of 3
    found = row_of(table_of(tmp_path, survey, before, after), "d0", "total_variation")
    assert found["value"] == pytest.approx((3 / 7 + (2 / 3 - 3 / 7) + (1 / 3 - 1 / 7)) / 2)


# --- what cannot be compared ---------------------------------------------------------------------


def test_one_wave_gives_an_empty_table_with_all_columns(survey: SurveySpec, tmp_path: Path) -> None:
    table = table_of(tmp_path, survey, wave("a", [1, 2, 3]))
    assert table.empty and list(table.columns) == list(COLUMNS)
    assert drift_summary(table) == (True, "one wave only: there is nothing to compare")


def test_what_is_not_known_in_a_wave_has_a_reason_and_no_value(make_survey: Any, tmp_path: Path) -> None:
    scale = {"low": 0, "high": 100}
    survey = codebook(
        make_survey,
        2,
        2,
        questions=[
            {"id": "q0", "scale": scale, "columns": [{"answer": "q0"}]},
            {"id": "q1", "scale": scale, "columns": [{"answer": "q1"}], "waves": ["b"]},
        ],
    )
    first = wave("a", [10, 20, 30], d0=[None, None, None])
    second = wave("b", [10, 20, 30], d0=["one", "two", None])
    asked_later = wave("b", [1, 2, 3], "q1", d0=["one", "two", None]).assign(order=1)
    table = table_of(tmp_path, survey, first, second, asked_later)
    assert row_of(table, "d0", "psi")["reason"] == "known of nobody in a"
    assert row_of(table, "q1", "wasserstein")["reason"] == "not asked in a"
    undefined = table[table["name"].isin(["d0", "q1"])]
    assert undefined["value"].isna().all() and not undefined["drifted"].any()
    rest = table[~table["name"].isin(["d0", "q1"])]
    assert rest["value"].notna().all() and rest["reason"].isna().all()
    assert "2 not compared" in drift_summary(table)[1]


def test_a_wave_that_did_not_ask_is_no_part_of_a_reference(survey: SurveySpec, tmp_path: Path) -> None:
    waves = [wave("a", [1, 2], d0=None), wave("b", [1, 2], d0=["one", "two"]), wave("c", [1, 2], d0="one")]
    table = table_of(tmp_path, survey, *waves)
    found = row_of(table[table["wave"] == "c"], "d0", "total_variation")
    assert (found["value"], found["reference_waves"], found["n_reference"]) == (0.5, "b", 2)


def test_a_comparison_is_there_once(survey: SurveySpec, tmp_path: Path) -> None:
    """Nobody's d0 is known in the first wave: all that is earlier than the third is then the second."""
    waves = [wave("a", [1, 2], d0=None), *(wave(name, [1, 2], d0="one") for name in "bc")]
    table = table_of(tmp_path, survey, *waves)
    compared = table[["wave", "name", "reference", "reference_waves"]].drop_duplicates()
    assert sorted(compared.itertuples(index=False, name=None)) == [
        ("b", "d0", "previous", "a"),
        ("b", "q0", "previous", "a"),
        ("c", "d0", "previous", "b"),
        ("c", "q0", "earlier", "a, b"),
        ("c", "q0", "previous", "b"),
    ]
    assert not table.duplicated(["wave", "reference_waves", "name", "measure"]).any()
    assert len(drift_summary(table)[1].splitlines()) == 3


def test_people_of_whom_it_is_not_known_are_a_category(survey: SurveySpec, tmp_path: Path) -> None:
    before, after = wave("a", [1] * 4, d0=["one"] * 4), wave("b", [1] * 4, d0=["one", None, None, None])
    assert row_of(table_of(tmp_path, survey, before, after), "d0", "total_variation")["value"] == 0.75


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"answer": 101}, "q0"), ({"d0": "six"}, "d0"), ({"question": "q9"}, "question")],
)
def test_what_the_codebook_does_not_have_is_refused(
    survey: SurveySpec, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput) as error:
        table_of(tmp_path, survey, wave("a", [1, 2], d0="one"), wave("b", [1], d0="one").assign(**changed))
    assert error.value.field == named and error.value.value in changed.values()


# --- intervals and floors ------------------------------------------------------------------------


def test_neither_the_order_of_rows_nor_a_second_run_changes_a_digit(
    survey: SurveySpec, tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    weights = rng.uniform(0.1, 3, (2, 400))
    waves = [random_wave(rng, name, 400, weight=w) for name, w in zip("ab", weights, strict=True)]
    mixed = pd.concat(waves).sample(frac=1, random_state=1)
    once = table_of(tmp_path, survey, *waves)
    pd.testing.assert_frame_equal(table_of(tmp_path, survey, mixed), once, check_exact=True)
    other = table_of(tmp_path, survey, *waves, seed=1)
    assert (other["value"] == once["value"]).all() and (other["floor"] != once["floor"]).any()


@pytest.mark.parametrize("people", [(400, 900), (3 * PEOPLE, 2 * PEOPLE)])
def test_the_floor_of_psi_is_that_of_chi_square(
    survey: SurveySpec, tmp_path: Path, people: tuple[int, int]
) -> None:
    """Without drift PSI is (1/n + 1/m) χ² with one degree less than categories (Yurdakul 2018)."""
    rng = np.random.default_rng(7)
    waves = [wave(x, [1] * n, d0=rng.choice(OPTIONS, n)) for x, n in zip("ab", people, strict=True)]
    found = row_of(table_of(tmp_path, survey, *waves), "d0", "psi")
    unit = sum(1 / n for n in people)
    assert found["floor"] == pytest.approx(4 * unit, rel=0.09)  # 1000 replicates: 2.2 % standard error
    assert found["floor_95"] == pytest.approx(stats.chi2.ppf(0.95, 4) * unit, rel=0.12)


def test_a_pooled_reference_is_as_quiet_as_all_its_people(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(14)
    waves = [wave(x, [1] * n, d0=rng.choice(OPTIONS, n)) for x, n in (("a", 400), ("b", 900), ("c", 500))]
    table = table_of(tmp_path, survey, *waves)
    newest = table[table["wave"] == "c"]
    for reference, n in (("earlier", 1300), ("previous", 900)):
        floor = row_of(newest, "d0", "psi", reference)["floor"]
        assert floor == pytest.approx(4 * (1 / 500 + 1 / n), rel=0.09), reference


def test_a_panel_that_answers_anew_is_as_noisy_as_other_people(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(15)
    first = wave("a", [1] * 600, d0=rng.choice(OPTIONS, 600))
    again = first.assign(wave="b", order=1, d0=rng.choice(OPTIONS, 600))
    found = row_of(table_of(tmp_path, survey, first, again), "d0", "psi")
    assert found["floor"] == pytest.approx(4 * 2 / 600, rel=0.12)


def test_the_interval_of_many_people_is_that_of_the_normal_law(survey: SurveySpec, tmp_path: Path) -> None:
    """Of two categories, far from no drift: TV = |p − q|, which is normal."""
    n = 3 * PEOPLE
    labels = [["one"] * int(share * n) + ["two"] * (n - int(share * n)) for share in (0.5, 0.3)]
    waves = [wave(x, [1] * n, d0=label) for x, label in zip("ab", labels, strict=True)]
    found = row_of(table_of(tmp_path, survey, *waves), "d0", "total_variation")
    error = 1.96 * math.sqrt((0.5 * 0.5 + 0.3 * 0.7) / n)
    assert found["value"] == pytest.approx(0.2)
    assert found["low"] == pytest.approx(0.2 - error, abs=0.15 * error)
    assert found["high"] == pytest.approx(0.2 + error, abs=0.15 * error)


def test_four_equal_answers_of_a_person_tell_no_more_than_one(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    waves = [random_wave(rng, "a", 400), random_wave(rng, "b", 400, 12)]
    often = [pd.concat([w.assign(order=order) for order in range(4)]) for w in waves]
    once, four = (row_of(table_of(tmp_path, survey, *w), "q0", "wasserstein") for w in (waves, often))
    for column in ("value", "low", "high", "floor", "floor_95"):
        assert four[column] == pytest.approx(once[column], rel=1e-4), column


def test_a_panel_that_answers_the_same_has_no_drift_and_no_noise(survey: SurveySpec, tmp_path: Path) -> None:
    first = random_wave(np.random.default_rng(9), "a", 300)
    again = first.assign(wave="b", order=1)
    table = table_of(tmp_path, survey, first, again)
    assert np.allclose(table[["value", "low", "high", "floor", "floor_95"]].astype(float), 0, atol=1e-9)
    assert not table["drifted"].any()


def test_people_who_left_a_panel_are_drift_and_no_noise(survey: SurveySpec, tmp_path: Path) -> None:
    first = wave("a", [20] * 300 + [80] * 300, d0=["one"] * 300 + ["two"] * 300)
    stayed = first.iloc[:300].assign(wave="b", order=1)
    table = table_of(tmp_path, survey, first, stayed)
    assert row_of(table, "q0", "wasserstein")["value"] == 30
    assert table["drifted"].all() and (table["floor_95"] < 0.2 * table["value"]).all()


def test_a_shift_of_ten_points_is_flagged(survey: SurveySpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    table = table_of(tmp_path, survey, random_wave(rng, "a", 500), random_wave(rng, "b", 500, 10))
    moved = table[table["kind"] == "question"]
    assert moved["drifted"].all()
    assert row_of(table, "q0", "wasserstein")["low"] < 10 < row_of(table, "q0", "wasserstein")["high"]
    assert not table[table["kind"] == "demographic"]["drifted"].any()
    passed, words = drift_summary(table)
    assert not passed and "q0: PSI 0." in words and "points apart" in words and "d0" not in words


def same_population(rng: np.random.Generator, demographics: int, questions: int, people: int) -> pd.DataFrame:
    waves = []
    for name in "ab":
        labels: dict[str, Any] = {
            f"d{i}": rng.choice(OPTIONS, people, p=[0.4, 0.3, 0.2, 0.06, 0.04]) for i in range(demographics)
        }
        for order in range(questions):
            waves.append(random_wave(rng, name, people, question=f"q{order}", **labels).assign(order=order))
    return pd.concat(waves)


def test_without_drift_about_one_row_in_twenty_is_above_its_floor(make_survey: Any, tmp_path: Path) -> None:
    survey = codebook(make_survey, 60, 40)
    table = table_of(tmp_path, survey, same_population(np.random.default_rng(11), 60, 40, 250))
    for measure, names in (("psi", 100), ("wasserstein", 40), ("total_variation", 100)):
        rows = table[table["measure"] == measure]
        assert len(rows) == names
        above = int((rows["value"] > rows["floor_95"]).sum())
        assert above <= stats.binom.ppf(0.999, names, 0.05), measure
    assert (table["value"] > table["floor_95"]).sum() >= 2  # nor are floors out of reach
    psi = table[table["measure"] == "psi"]
    assert not psi[psi["drifted"]]["value"].lt(0.1).any()


# --- the picture ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("demographics", "questions"), [(14, 2), (2, 40)])
def test_every_demographic_and_question_has_a_line_of_its_own(
    make_survey: Any, tmp_path: Path, demographics: int, questions: int
) -> None:
    survey = codebook(make_survey, demographics, questions)
    table = table_of(
        tmp_path, survey, same_population(np.random.default_rng(12), demographics, questions, 40)
    )
    drawn = drift_figure(table, "snacks", True)
    assert drawn == drift_figure(table, "snacks", True)
    (tmp_path / "drift.png").write_bytes(drawn)
    width, height = Image.open(tmp_path / "drift.png").size
    assert width >= 600 and height >= 20 * (demographics + questions)


def test_one_wave_has_a_picture_that_says_so(survey: SurveySpec, tmp_path: Path) -> None:
    drawn = drift_figure(table_of(tmp_path, survey, wave("a", [1, 2, 3])), "snacks", False)
    assert drawn.startswith(b"\x89PNG")


# --- by simulation -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_intervals_hold_the_truth_in_nineteen_cases_of_twenty(
    survey: SurveySpec, tmp_path: Path, strength: float
) -> None:
    """People with one to three answers of one mind; the truth is the population's, from the normal law."""
    rng, repetitions = np.random.default_rng(13), 80
    before = np.array([0.35, 0.25, 0.2, 0.15, 0.05])
    after = before + strength * np.array([-0.15, 0.05, -0.05, 0.05, 0.1])
    cells = np.diff(stats.norm.cdf([-np.inf, *range(5, 100, 10), np.inf], [[50], [50 + 10 * strength]], 25))
    truth = {
        ("q0", "psi"): ((cells[1] - cells[0]) * np.log(cells[1] / cells[0])).sum(),
        ("q0", "wasserstein"): 10 * np.abs(np.cumsum(cells[1] - cells[0])).sum(),
        ("d0", "psi"): ((after - before) * np.log(after / before)).sum(),
        ("d0", "total_variation"): np.abs(after - before).sum() / 2,
    }
    held = dict.fromkeys(truth, 0)
    for repetition in range(repetitions):
        waves = []
        for name, people, shares, shift in (("a", 500, before, 0), ("b", 400, after, 10 * strength)):
            mind, label = rng.normal(50 + shift, 15, people), rng.choice(OPTIONS, people, p=shares)
            told = rng.integers(1, 4, people)
            for order in range(3):
                answers = np.clip(np.round(rng.normal(mind, 20) / 10) * 10, 0, 100)
                waves.append(wave(name, answers, d0=label).assign(order=order)[told > order])
        table = table_of(tmp_path, survey, *waves, seed=repetition)
        for place, value in truth.items():
            found = row_of(table, *place)
            held[place] += found["low"] <= value <= found["high"]
    shares_held = {place: count / repetitions for place, count in held.items()}
    # 0.95 give or take two and a half of its standard errors
    assert all(0.89 <= share <= 0.995 for share in shares_held.values()), shares_held
