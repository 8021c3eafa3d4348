"""Demographic groups: who is in them, and that a group is scored as if it were alone."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.groups import group_members
from evsim_assets.metrics.shuffled import shuffled_prompts
from evsim_assets.specs.demographics import Demographic
from evsim_assets.specs.errors import BadInput
from tests.metrics.simulated_survey import NATIVE, a_survey

KNOWN = pd.DataFrame(
    {
        "participant": ["a", "b", "c", "d"],
        "age": ["old", "young", None, "old"],
        "cars": ["electric; petrol", "petrol", "", None],
    }
)


def members(people, demographics=None):
    who = people["participant"].to_numpy()
    return {(name, level): "".join(who[mask]) for name, level, mask in group_members(people, demographics)}


def test_each_option_has_its_people_several_options_several_groups_and_missing_cells_none():
    assert members(KNOWN) == {
        ("all", "all"): "abcd",
        ("age", "old"): "ad",
        ("age", "young"): "b",
        ("cars", "electric"): "a",
        ("cars", "petrol"): "ab",
    }


def test_a_codebooks_demographic_has_all_its_options_in_order_and_splits_only_where_several_are_allowed():
    age = Demographic(name="age", column="age", options=("young", "middle", "old"))
    cars = Demographic(name="cars", column="cars", options=("petrol", "electric; petrol"))
    assert list(members(KNOWN, [age, cars]).items()) == [
        (("all", "all"), "abcd"),
        (("age", "young"), "b"),
        (("age", "middle"), ""),
        (("age", "old"), "ad"),
        (("cars", "petrol"), "b"),
        (("cars", "electric; petrol"), "a"),
    ]


def test_unknown_demographics_and_people_with_two_rows_are_refused():
    with pytest.raises(BadInput, match="no such demographic"):
        members(KNOWN, ["income"])
    with pytest.raises(BadInput, match="two rows"):
        members(pd.concat([KNOWN, KNOWN.iloc[:1]]))


@pytest.fixture(scope="module")
def survey():
    return a_survey(people=60, each=3, seed=5, weights=True)


@pytest.fixture(scope="module")
def table(survey):
    return score(*survey, NATIVE, seed=2, resamples=100).metrics


def group(table, demographic, level):
    chosen = (table["demographic"] == demographic) & (table["level"] == level)
    return table[chosen].set_index(["point_answer", "measure"])


@pytest.mark.parametrize("level", ["blue", "brown"])
def test_a_group_is_scored_as_if_its_people_were_all_there_are(survey, table, level):
    prompts, people, distributions, generations = survey
    own = people.loc[people["eye"] == level, "participant"]
    alone = prompts[prompts["participant"].isin(own)]
    # a group has the first 40 of 100 replicates
    scored = score(alone, people, distributions, generations, NATIVE, seed=2, resamples=40)
    expected = group(scored.metrics, "all", "all")
    found = group(table, "eye", level)
    assert found["participants"].unique().tolist() == [len(own)]
    for column in ("value", "low", "high"):
        assert found[column].to_numpy(float) == pytest.approx(
            expected[column].to_numpy(float), nan_ok=True, abs=1e-5
        )
    assert found["n"].tolist() == expected["n"].tolist()


def test_everybody_comes_first_and_every_group_has_every_measure(table):
    groups = table[["demographic", "level"]].drop_duplicates().to_numpy().tolist()
    assert groups == [["all", "all"], ["side", "high"], ["side", "low"], ["eye", "blue"], ["eye", "brown"]]
    assert table.groupby(["demographic", "level"]).size().nunique() == 1
    assert not table.duplicated(["demographic", "level", "point_answer", "measure"]).any()


def test_a_group_of_one_and_an_empty_group_have_rows_that_say_so(survey):
    prompts, people, distributions, generations = survey
    told = people.assign(side=["only me"] + ["others"] * 59)
    side = Demographic(name="side", column="side", options=("only me", "others", "nobody"))
    table = score(
        prompts, told, distributions, generations, NATIVE, seed=0, resamples=10, demographics=[side]
    ).metrics
    one, none, rest = (group(table, "side", level) for level in ("only me", "nobody", "others"))
    assert len(one) == len(none) == len(rest)
    assert one["value"].isna().all() and set(one["reason"]) == {"only 1 test participant"}
    assert none["value"].isna().all() and set(none["reason"]) == {"no test participant"}
    assert set(one["participants"]) == {1} and set(none["participants"]) == {0}
    assert rest.loc[("none", "w1"), "reason"] is None


def test_a_test_participant_of_whom_nothing_is_known_is_an_error_not_nobody(survey):
    prompts, people, distributions, generations = survey
    with pytest.raises(BadInput, match="not among the people"):
        score(prompts, people.iloc[1:], distributions, generations, NATIVE, seed=0, resamples=2)


def test_in_a_group_shuffled_personas_show_what_the_model_knows_of_it():
    # Half the people say 0, half say 10, and the model knows who; its answers depend on nothing else.
    n = 80
    answer = np.resize([0, 10], n)
    prompts, people, distributions, generations = a_survey(people=n, each=1, seed=0)
    prompts = prompts.assign(answer=answer)
    people = pd.DataFrame(
        {"participant": people["participant"], "side": np.where(answer == 0, "zero", "ten")}
    )
    distributions["probabilities"] = list(np.eye(11)[answer])
    distributions["no_number"] = 0.0
    generations = generations.assign(made_by="distribution", success=True, answer=np.tile(answer, 3))
    table = score(prompts, people, distributions, generations, NATIVE, seed=0, resamples=10).metrics
    everybody, zero = group(table, "all", "all"), group(table, "side", "zero")
    for point in ("none", "sample", "mode"):
        assert everybody.loc[(point, "w1"), ["value", "shuffled_persona"]].tolist() == [0, 0]
        assert zero.loc[(point, "w1"), "value"] == 0
        # of the 79 others, 40 say 10; one's own persona is as likely as another's
        assert zero.loc[(point, "w1"), "shuffled_persona"] == pytest.approx(5, abs=0.4)
    for point in ("sample", "mean", "median", "mode"):
        assert everybody.loc[(point, "rmse"), "value"] == 0
        assert everybody.loc[(point, "rmse"), "shuffled_persona"] == pytest.approx(np.sqrt(50), abs=0.3)
        assert everybody.loc[(point, "mae"), "shuffled_persona"] == pytest.approx(5, abs=0.4)
        assert everybody.loc[(point, "spearman"), "value"] == pytest.approx(1)
        assert everybody.loc[(point, "spearman"), "shuffled_persona"] == pytest.approx(0, abs=0.1)
    for point in ("sample", "mean"):
        assert "no correlation" in zero.loc[(point, "spearman"), "shuffled_reason"]  # all of them say 0
    assert everybody.loc[("none", "crps"), "shuffled_persona"] == pytest.approx(5, abs=0.4)


def test_every_value_has_its_own_under_shuffled_personas_or_a_reason(table):
    missing = table["shuffled_persona"].isna()
    assert (missing == table["shuffled_reason"].notna()).all()
    assert not missing[table["value"].notna()].any()


def test_shuffled_personas_are_those_of_the_survey_with_its_personas_shuffled(survey, table):
    prompts, people, distributions, generations = survey
    rows, parts = prompts.sort_values(["participant", "order"]), []
    for k, given in enumerate(shuffled_prompts(rows, 2)):  # each shuffle as a question of its own
        to = {theirs: f"{whose}/{k}" for whose, theirs in zip(*rows_and(rows, given), strict=True)}
        own = rows.assign(question=f"q{k:02d}", order=rows["order"] + 3 * k)
        own["prompt_id"] = own["prompt_id"] + f"/{k}"
        read, said = (t.assign(prompt_id=t["prompt_id"].map(to)) for t in (distributions, generations))
        parts.append((own, read, said.assign(question=f"q{k:02d}")))
    asked, read, said = (pd.concat(of, ignore_index=True) for of in zip(*parts, strict=True))
    again = score(asked, people, read, said, NATIVE, seed=2, resamples=200, demographics=["eye"]).metrics
    for level in ("blue", "brown"):
        of_shuffles = again[again["level"] == level].pivot_table(
            index=["point_answer", "measure"], columns="question", values="value", sort=False
        )
        shuffled = group(table, "eye", level)["shuffled_persona"]
        for key in (("none", "no_number"), ("none", "success_rate"), ("none", "w1"), ("sample", "n_failed")):
            assert shuffled[key] == pytest.approx(of_shuffles.loc[key].mean(), rel=1e-4)
        for point in ("sample", "mean"):  # ranks: of the first five shuffles
            key = point, "spearman"
            assert shuffled[key] == pytest.approx(of_shuffles.loc[key].iloc[:5].mean(), abs=1e-6)
        key = "none", "kl_corrected"  # its bias is in closed form here, and resampled there
        plain = group(table, "eye", level)["shuffled_persona"]["none", "kl"]
        assert shuffled[key] < plain - 0.05
        assert shuffled[key] == pytest.approx(of_shuffles.loc[key].mean(), abs=0.25 * (plain - shuffled[key]))


def rows_and(rows, given):
    """Each prompt's id, and the id of the one whose answers it gets."""
    ids = rows["prompt_id"].to_numpy()
    return ids, ids[given]
