"""The simulated stand-in of EV-shift: its counts, its people, its spread, and that it can be made again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.simulation import SimulationSpec, read_simulation
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.simulated import BLOCK, simulate, write_waves

FOLDER = Path(__file__).parents[2] / "data" / "surveys" / "ev_shift"
POSTS = [f"post_{i}" for i in range(1, 6)]
READ = [f"intervention_{i}" for i in range(1, 6)]


@pytest.fixture(scope="module")
def survey() -> SurveySpec:
    return read_survey(FOLDER)


@pytest.fixture(scope="module")
def facts(survey: SurveySpec) -> SimulationSpec:
    return read_simulation(survey)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """The committed waves, read as a stranger would: every cell as text."""
    waves = sorted((FOLDER / "waves").glob("*.csv"))
    tables = [pd.read_csv(wave, dtype=str, keep_default_na=False, encoding="utf-8") for wave in waves]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def answers(people: pd.DataFrame) -> pd.DataFrame:
    """One row an answer after an intervention: participant, intervention, answer, initial."""
    parts = [
        pd.DataFrame(
            {
                "participant": people["participant_id"],
                "intervention": people[read],
                "answer": people[post],
                "initial": people["initial"].astype(int),
            }
        )
        for post, read in zip(POSTS, READ, strict=True)
    ]
    long = pd.concat(parts, ignore_index=True)
    long = long[long["answer"] != ""]
    return long.assign(answer=long["answer"].astype(int))


def changed(facts: SimulationSpec, path: str, value: Any) -> SimulationSpec:
    """The facts with the field at the dotted path replaced."""
    document = facts.model_dump()
    *parents, last = path.split(".")
    node = document
    for parent in parents:
        node = node[parent]
    node[last] = value
    return SimulationSpec.model_validate(document)


def drawn(survey: SurveySpec, facts: SimulationSpec, wave: str = "2021-11") -> pd.DataFrame:
    """All blocks of a wave in one table."""
    return pd.concat(simulate(survey, facts)[wave], ignore_index=True)


def with_people(facts: SimulationSpec, participants: int, one_short: int = 0) -> SimulationSpec:
    """The facts with one wave of that size."""
    return changed(facts, "waves", {"2021-11": {"participants": participants, "one_short": one_short}})


def rmse_of_a_peer(answer: np.ndarray, group: np.ndarray) -> float:
    """RMSE of another random answer of the same group: √2 × the spread within groups (exact)."""
    table = pd.DataFrame({"answer": answer, "group": group}).groupby("group")["answer"]
    n, variance = table.count(), table.var(ddof=1)
    return float(np.sqrt(2 * (variance * n)[n > 1].sum() / n[n > 1].sum()))


def test_two_waves_hold_4045_people_and_20217_answers_after_an_intervention(people: pd.DataFrame) -> None:
    assert [path.name for path in sorted((FOLDER / "waves").iterdir())] == ["2021-11.csv", "2022-02.csv"]
    assert len(people) == people["participant_id"].nunique() == 4045
    assert (people["initial"] != "").all()
    assert int((people[POSTS] != "").to_numpy().sum()) == 20217


def test_nobody_reads_an_intervention_twice_and_each_reading_has_one_answer(people: pd.DataFrame) -> None:
    read = people[READ].to_numpy()
    seen = [[i for i in row if i] for row in read]
    assert all(len(set(row)) == len(row) for row in seen)
    assert {len(row) for row in seen} == {4, 5}
    assert ((read == "") == (people[POSTS].to_numpy() == "")).all()


def test_interventions_are_the_35_of_the_table_and_read_about_equally_often(people: pd.DataFrame) -> None:
    table = pd.read_csv(FOLDER / "interventions.csv", dtype=str)
    read = people[READ].to_numpy().ravel()
    counts = pd.Series(read[read != ""]).value_counts()
    assert len(table) == 35 and set(counts.index) == set(table["intervention_id"])
    assert counts.min() > 480 and counts.max() < 680  # 20,217 / 35 = 578, σ ≈ 24


def test_every_label_is_an_option_of_the_codebook_and_every_answer_on_its_scale(
    people: pd.DataFrame, survey: SurveySpec
) -> None:
    for demographic in survey.demographics:
        cells = people[demographic.column]
        labels = cells.str.split("; ").explode() if demographic.several else cells
        assert set(labels) <= set(demographic.options), demographic.name
    given = people[["initial", *POSTS]].to_numpy().ravel()
    assert {int(a) for a in given if a} <= set({q.id: q for q in survey.questions}["post"].scale.answers)


def test_the_raw_files_say_that_they_are_simulated(people: pd.DataFrame, survey: SurveySpec) -> None:
    assert survey.simulated and "simulated stand-in" in survey.source.lower()
    assert "2403.20252" in survey.source and "simulated" in survey.title
    assert (people["data_origin"] == "simulated").all()
    assert set(people.columns) == {*survey.raw_columns, "data_origin"}


def test_nobody_contradicts_himself(people: pd.DataFrame) -> None:
    household = people["household"].str.split("; ")
    for alone in ("I live alone", "Prefer not to answer"):
        assert (household[household.map(lambda chosen: alone in chosen)].map(len) == 1).all()  # noqa: B023
    unmarried = people["marital_status"].isin(["Widowed", "Divorced", "Separated", "Never married"])
    assert not household[unmarried].map(lambda chosen: "My spouse" in chosen).any()
    childless = people["number_of_children"] == "0"
    assert not household[childless].map(lambda chosen: "My children" in chosen).any()
    assert not (people["employment_status"] == "Retired")[people["age"].isin(["18–25", "26–35"])].any()
    assert not (people["highest_education"] == "Doctorate degree")[people["age"] == "18–25"].any()
    assert household.map(len).max() >= 3


def test_the_committed_waves_are_what_the_committed_facts_make(
    tmp_path: Path, survey: SurveySpec, facts: SimulationSpec
) -> None:
    for path in write_waves(survey.model_copy(update={"folder": tmp_path}), simulate(survey, facts)):
        assert path.read_bytes() == (FOLDER / "waves" / path.name).read_bytes(), path.name


def test_a_wave_made_alone_equals_the_wave_made_with_others(
    survey: SurveySpec, facts: SimulationSpec
) -> None:
    alone = changed(facts, "waves", {"2022-02": facts.waves["2022-02"].model_dump()})
    pd.testing.assert_frame_equal(drawn(survey, alone, "2022-02"), drawn(survey, facts, "2022-02"))


def test_a_wave_of_several_blocks_has_every_participant_once_and_blocks_of_other_people(
    survey: SurveySpec, facts: SimulationSpec
) -> None:
    many = with_people(facts, 2 * BLOCK + 5, one_short=1001)
    sizes = [len(table) for table in simulate(survey, many)["2021-11"]]
    table = drawn(survey, many)
    assert sizes == [BLOCK, BLOCK, 5]
    assert list(table["participant_id"]) == [f"2021-11-{i:04d}" for i in range(1, 2 * BLOCK + 6)]
    assert int((table[POSTS] == "").to_numpy().sum()) == int((table[READ] == "").to_numpy().sum()) == 1001
    assert abs(int((table[POSTS][:BLOCK] == "").to_numpy().sum()) - 500) <= 1
    first, second = table[:BLOCK].reset_index(drop=True), table[BLOCK : 2 * BLOCK].reset_index(drop=True)
    for column in ("living_state", "initial", "intervention_1", "post_1"):
        assert (first[column] != second[column]).mean() > 0.5, column
    shares = [part["political"].value_counts(normalize=True) for part in (first, second)]
    assert (shares[0] - shares[1]).abs().max() < 0.02  # σ of a difference of two shares ≤ 0.005


def test_the_first_block_of_a_larger_wave_is_the_wave_of_that_size(
    survey: SurveySpec, facts: SimulationSpec
) -> None:
    larger = drawn(survey, with_people(facts, BLOCK + 1))
    pd.testing.assert_frame_equal(larger[:BLOCK], drawn(survey, with_people(facts, BLOCK)))


def test_a_larger_wave_is_written_as_one_file_with_one_header(
    tmp_path: Path, survey: SurveySpec, facts: SimulationSpec
) -> None:
    here = survey.model_copy(update={"folder": tmp_path})
    many = with_people(facts, BLOCK + 3)
    (path,) = write_waves(here, simulate(survey, many))
    written = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    pd.testing.assert_frame_equal(written, drawn(survey, many))


WRITE_AND_SAY_MEMORY = """
import re, sys, tempfile
from pathlib import Path
from evsim_assets.specs.simulation import read_simulation
from evsim_assets.specs.survey import read_survey
from evsim_assets.surveys.simulated import simulate, write_waves
survey = read_survey(Path(sys.argv[1]))
facts = read_simulation(survey)
size = facts.waves["2021-11"].model_copy(update={"participants": int(sys.argv[2])})
waves = simulate(survey, facts.model_copy(update={"waves": {"2021-11": size}}))
with tempfile.TemporaryDirectory() as folder:
    write_waves(survey.model_copy(update={"folder": Path(folder)}), waves)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's record of peak memory")
def test_memory_does_not_grow_with_the_number_of_participants() -> None:
    def kib(participants: int) -> int:
        command = [sys.executable, "-c", WRITE_AND_SAY_MEMORY, str(FOLDER), str(participants)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert kib(8 * BLOCK) < kib(2 * BLOCK) + 30 * 1024  # 120,000 people more, in text alone 28 MiB


def test_another_seed_gives_other_people(survey: SurveySpec, facts: SimulationSpec) -> None:
    other = drawn(survey, changed(facts, "seed", facts.seed + 1))
    first = drawn(survey, facts)
    assert (other["living_state"] != first["living_state"]).mean() > 0.5
    assert (other["initial"] != first["initial"]).mean() > 0.5


def test_changing_the_effects_leaves_people_and_what_they_read_alone(
    survey: SurveySpec, facts: SimulationSpec
) -> None:
    shifted = drawn(survey, changed(facts, "preference.interventions.8", 30.0))
    first = drawn(survey, facts)
    reads_it = (first[READ] == "8").any(axis=1)
    unchanged = [c for c in first.columns if c not in POSTS]
    pd.testing.assert_frame_equal(first[unchanged], shifted[unchanged])
    pd.testing.assert_frame_equal(first[~reads_it], shifted[~reads_it])
    assert not first[reads_it].equals(shifted[reads_it])


def test_answers_heap_on_the_ends_the_middle_tens_and_fives(
    people: pd.DataFrame, answers: pd.DataFrame
) -> None:
    for answer in (people["initial"].astype(int), answers["answer"]):
        shares = answer.value_counts(normalize=True)
        assert 0.05 < shares[0] < 0.12 and 0.14 < shares[50] < 0.22 and 0.08 < shares[100] < 0.16
        assert 0.70 < (answer % 10 == 0).mean() < 0.80
        assert 0.85 < (answer % 5 == 0).mean() < 0.93
        assert answer.nunique() > 95


def test_the_spread_leaves_a_calibrated_sample_near_the_papers_rmse(
    people: pd.DataFrame, answers: pd.DataFrame
) -> None:
    """Paper: 37.8 to 38.0 initial, 37.0 to 37.4 post; a peer is one of like politics, age and area."""
    cell = people["political"] + people["age"] + people["living_area"]
    initial = people["initial"].astype(int).to_numpy()
    assert 37.0 < rmse_of_a_peer(initial, cell.to_numpy()) < 39.0
    cell_of = dict(zip(people["participant_id"], cell, strict=True))
    post_cell = (answers["participant"].map(cell_of) + answers["intervention"]).to_numpy()
    assert 36.5 < rmse_of_a_peer(answers["answer"].to_numpy(), post_cell) < 38.5
    assert rmse_of_a_peer(initial, np.zeros(len(initial))) > 41.5  # any person: worse by 4 points
    assert 29 < initial.std() < 32


def test_demographics_explain_a_fifth_of_the_initial_answer(people: pd.DataFrame) -> None:
    """Least squares on dummies, fitted on one half of the people and scored on the other."""
    columns = ["political", "age", "living_area", "highest_education", "income"]
    x = pd.get_dummies(people[columns], dtype=float).assign(one=1.0).to_numpy()
    y = people["initial"].astype(float).to_numpy()
    fit, score = np.arange(len(y)) % 2 == 0, np.arange(len(y)) % 2 == 1
    weights = np.linalg.lstsq(x[fit], y[fit], rcond=None)[0]
    rmse = float(np.sqrt(np.mean((x[score] @ weights - y[score]) ** 2)))
    assert 26 < rmse < 28
    assert 0.17 < 1 - (rmse / y[score].std()) ** 2 < 0.28


@pytest.mark.parametrize(
    "column, higher, lower, at_least",
    [
        ("political", "Strongly liberal", "Strongly conservative", 25),
        ("age", "18–25", "66 or older", 10),
        ("living_area", "Urban", "Rural", 8),
        ("highest_education", "Master's degree", "High School", 8),
        ("income", "More than $160,000", "$10,001 to $40,000", 5),
    ],
)
def test_the_strong_demographics_show(
    people: pd.DataFrame, column: str, higher: str, lower: str, at_least: float
) -> None:
    mean = people["initial"].astype(int).groupby(people[column]).mean()
    assert mean[higher] - mean[lower] > at_least


def test_answers_of_one_person_go_together(people: pd.DataFrame) -> None:
    full = people[(people[POSTS] != "").all(axis=1)]
    correlation = np.corrcoef(full[["initial", *POSTS]].astype(int).to_numpy().T)
    off_diagonal = correlation[~np.eye(6, dtype=bool)]
    assert off_diagonal.min() > 0.8 and off_diagonal.max() < 0.9


def test_interventions_differ_in_effect_and_follow_the_facts(
    answers: pd.DataFrame, facts: SimulationSpec
) -> None:
    change = (answers["answer"] - answers["initial"]).groupby(answers["intervention"])
    effect = change.mean()
    assert effect["5"] > 7 and effect["7"] > 7 and effect["4"] < 0
    assert effect.std() > 3 * change.sem().mean()
    assert np.corrcoef(effect, [facts.preference.interventions[i] for i in effect.index])[0, 1] > 0.93


def test_the_prompt_templates_are_those_of_the_paper(survey: SurveySpec) -> None:
    user = survey.prompts.user.format(intervention="Some text.", low=0, high=100)
    assert user == (
        "Some text. On a scale from 0 to 100, what is your current preference for battery electric vehicles"
        " (BEVs)? Please reply with just a single number rating and no additional words or explanations."
        " Score:"
    )
    assert survey.prompts.system == (
        "I want you to act as the following character. Answer all of the following questions from the"
        " point of view of this character, do not break character. {demographics}"
    )


def test_writing_replaces_the_file_and_leaves_nothing_else(
    tmp_path: Path, survey: SurveySpec, facts: SimulationSpec
) -> None:
    here = survey.model_copy(update={"folder": tmp_path})
    waves = simulate(survey, facts)
    write_waves(here, waves)
    paths = write_waves(here, waves)
    assert sorted((tmp_path / "waves").iterdir()) == sorted(paths)
    assert paths[0].read_bytes() == (FOLDER / "waves" / paths[0].name).read_bytes()
    assert b"\r" not in paths[0].read_bytes()


def test_a_label_that_the_encoding_lacks_is_refused_and_the_old_waves_stay(
    tmp_path: Path, survey: SurveySpec, facts: SimulationSpec
) -> None:
    (tmp_path / "waves").mkdir()
    (tmp_path / "waves" / "2021-11.csv").write_text("as it was")
    ascii_only = survey.waves.model_copy(update={"encoding": "ascii"})
    here = survey.model_copy(update={"folder": tmp_path, "waves": ascii_only})
    with pytest.raises(BadInput, match=r"waves\.encoding.*–"):
        write_waves(here, simulate(survey, facts))
    assert [path.name for path in (tmp_path / "waves").iterdir()] == ["2021-11.csv"]
    assert (tmp_path / "waves" / "2021-11.csv").read_text() == "as it was"


def test_no_wave_is_replaced_when_another_cannot_be_made(
    tmp_path: Path, survey: SurveySpec, facts: SimulationSpec
) -> None:
    impossible = changed(
        facts,
        "demographics.living area.adjust",
        [
            {
                "when": {"living state": ["wyoming"]},
                "times": dict.fromkeys(facts.demographics["living area"].shares, 0),
            }
        ],
    )
    waves = {
        "2021-11": simulate(survey, facts)["2021-11"],
        "2022-02": simulate(survey, impossible)["2022-02"],
    }
    with pytest.raises(BadInput, match="leave somebody without any option"):
        write_waves(survey.model_copy(update={"folder": tmp_path}), waves)
    assert not list((tmp_path / "waves").iterdir())


@pytest.mark.parametrize(
    "field, update",
    [
        ("waves.format", {"waves": {"format": "tsv"}}),
        ("waves.skip_rows", {"waves": {"skip_rows": 2}}),
        ("weight", {"weight": "weight"}),
    ],
)
def test_a_form_that_the_generator_does_not_make_is_refused(
    survey: SurveySpec, facts: SimulationSpec, field: str, update: dict[str, Any]
) -> None:
    if "waves" in update:
        update = {"waves": survey.waves.model_copy(update=update["waves"])}
    with pytest.raises(BadInput, match=field):
        simulate(survey.model_copy(update=update), facts)


def test_a_survey_with_real_answers_gets_no_simulated_ones(survey: SurveySpec, facts: SimulationSpec) -> None:
    with pytest.raises(BadInput, match="only a survey that says it is simulated"):
        simulate(survey.model_copy(update={"simulated": False}), facts)


@pytest.mark.parametrize(
    "path, value, problem",
    [
        ("demographics.age.shares", {"18–25": 1.0}, "demographics.age.shares.26–35: required, but not there"),
        ("preference.demographics.political", {"Moderate": 3.0}, "no such name.*Moderate"),
        ("preference.interventions", {"1": 3.0}, "each intervention of the survey's table once"),
        (
            "demographics.living state.adjust",
            [{"when": {"age": ["18–25"]}, "times": {"texas": 2.0}}],
            "not drawn before.*age",
        ),
        (
            "demographics.age.otherwise",
            "18–25",
            "otherwise and instead are for demographics that allow several",
        ),
    ],
)
def test_facts_that_do_not_fit_the_codebook_are_refused(
    survey: SurveySpec, facts: SimulationSpec, path: str, value: Any, problem: str
) -> None:
    with pytest.raises(BadInput) as refused:
        simulate(survey, changed(facts, path, value))
    assert re.search(problem, str(refused.value))
    assert "Remedy" in str(refused.value) and "simulation.yaml" in str(refused.value)
