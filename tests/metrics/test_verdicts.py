"""What a person is warned of before believing a table, each with its numbers."""

import numpy as np
import pandas as pd
import pytest

from evsim_assets.metrics import verdicts
from evsim_assets.metrics.measures import population_measures
from evsim_assets.specs.survey import Scale

EVERYBODY = {"question": "q", "answers": "native", "demographic": "all", "level": "all"}


def floors(**columns):
    rows = pd.DataFrame(
        [EVERYBODY | {"measure": m, "floor": 0.1, "n": 150, "reason": None} for m in ("kl", "w1")]
    )
    return rows.assign(**columns)


def test_a_floor_of_nothing_is_no_floor():
    assert verdicts.floors_hold(floors()).passed
    assert verdicts.floors_hold(floors()).numbers == {"kl of q": 0.1, "w1 of q": 0.1}
    for useless in (0.0, np.inf):
        found = verdicts.floors_hold(floors(floor=[0.1, useless]))
        assert not found.passed and "w1 of q" in str(found.words) and "kl" not in str(found.words)
    told = verdicts.floors_hold(floors(floor=[np.nan, 0.1], reason=["only 1 test participant", None]))
    assert "kl of q has the floor nan: only 1 test participant" in str(told.words)
    assert told.numbers == {"w1 of q": 0.1}  # what is not there is no number


def test_groups_have_no_say_in_what_is_warned_of_everybody():
    group = floors(floor=0.0, n=3, demographic="age", level="old")
    assert verdicts.floors_hold(pd.concat([floors(), group])).passed
    assert verdicts.enough_people(pd.concat([floors(), group])).numbers["fewest_people"] == 150


def test_fewer_than_a_hundred_people_are_few():
    assert verdicts.enough_people(floors(n=100)).passed
    found = verdicts.enough_people(pd.concat([floors(n=99), floors(answers="digit")]))
    assert not found.passed and found.numbers == {
        "fewest_people": 99,
        "people of q": 99,
        "people of q (0–9)": 150,
    }
    assert "99 test participants" in str(found.words) and "0–9" not in str(found.words)


def nulls(uniform, population):
    row = EVERYBODY | {"measure": "crps", "point_answer": "none"}
    values = {"uniform": uniform, "population_marginal": population, "cell_marginal": 3.0}
    return pd.DataFrame([row | {"null": null, "value": value} for null, value in values.items()])


def test_training_answers_that_say_less_than_guessing_are_odd():
    assert verdicts.nulls_in_order(nulls(17.0, 16.0)).passed
    found = verdicts.nulls_in_order(nulls(16.0, 17.0))
    assert not found.passed and "crps 17" in str(found.words)
    assert found.numbers["crps of uniform, q"] == 16.0


def test_a_success_rate_counts_at_its_worst_temperature():
    row = EVERYBODY | {"measure": "success_rate"}
    rates = pd.DataFrame([row | {"temperature": t, "value": v} for t, v in ((0.0, 1.0), (1.0, 0.9))])
    found = verdicts.answers_are_numbers(rates)
    assert not found.passed and found.numbers == {"least_success_rate": 0.9}
    assert "q at T=1: 90.0%" in str(found.words) and "T=0" not in str(found.words)
    assert verdicts.answers_are_numbers(rates.assign(value=0.95)).passed


def test_effects_that_are_noise_judge_no_model():
    row = {"question": "q", "measure": "reliability", "held_out": "all", "n": 35}
    table = pd.DataFrame([row | {"value": 0.2}, row | {"value": 0.9, "held_out": "yes"}])
    found = verdicts.effects_can_be_judged(table)
    assert not found.passed and found.numbers == {"reliability of q": 0.2, "interventions of q": 35}
    assert verdicts.effects_can_be_judged(table.assign(value=0.3)).passed
    assert verdicts.effects_can_be_judged(pd.DataFrame()).passed


def bias(amplification, low, high, temperature=1.0):
    names = ["age", "gender", "region"][: len(amplification)]
    columns = {"amplification": amplification, "low": low, "high": high}
    return pd.DataFrame({"question": "q", "temperature": temperature, "demographic": names, **columns})


def test_groups_that_are_levelled_out_or_exaggerated_are_named():
    table = bias([0.1, 0.3, 1.4], [0.0, 0.1, 1.1], [0.4, 1.2, 1.9])
    found = verdicts.groups_as_among_people(table)
    assert not found.passed and "levels out" in str(found.words)
    assert found.numbers == {
        "median amplification of q": 0.3,
        "exaggerated in q": "region",
        "levelled out in q": "age",
    }
    more = verdicts.groups_as_among_people(bias([3.0], [2.0], [4.0]))
    assert not more.passed and "exaggerates" in str(more.words)


def test_groups_are_judged_at_the_highest_temperature():
    cold = bias([0.0], [0.0], [0.1], temperature=0.0)
    assert verdicts.groups_as_among_people(pd.concat([cold, bias([0.9], [0.5], [1.3])])).passed
    assert verdicts.groups_as_among_people(pd.DataFrame()).passed


def test_answers_that_a_classifier_tells_are_named_with_their_p_value():
    row = {"question": "q", "temperature": 1.0, "auc": 0.6, "p_value": 0.01}
    cold = row | {"temperature": 0.0, "p_value": 0.9}
    found = verdicts.not_told_apart(pd.DataFrame([cold, row]))
    assert not found.passed and "AUC 0.600, p 0.01" in str(found.words)
    assert found.numbers == {"auc of q": 0.6, "p_value of q": 0.01}
    assert verdicts.not_told_apart(pd.DataFrame([row | {"p_value": 0.2}])).passed
    unknown = verdicts.not_told_apart(pd.DataFrame([row | {"auc": np.nan, "p_value": np.nan}]))
    assert unknown.passed and unknown.numbers == {}


@pytest.mark.parametrize(("measure", "least"), [("kl", 0.02 / 2), ("w1", 1.5 / np.sqrt(2))])
def test_a_model_nearer_than_a_perfect_one_comes_is_suspicious(measure, least):
    row = {"adapter": "s~qlora", "temperature": 1.0, "question": "q", "kl": 0.03, "w1": 3.0}
    row |= {"floor_kl_low": 0.02, "floor_w1_low": 1.5}
    assert verdicts.nobody_too_good(pd.DataFrame([row, row | {measure: 1.01 * least}])).passed
    found = verdicts.nobody_too_good(pd.DataFrame([row, row | {measure: 0.99 * least}]))
    assert not found.passed and "training" in str(found.words)
    assert found.numbers[f"too good in {measure}"] == 1 and sum(found.numbers.values()) == 1
    never = verdicts.nobody_too_good(pd.DataFrame([row | {measure: None}]))
    assert never.passed  # who never answers is not near


def test_few_perfect_models_are_suspicious():
    rng, scale, people, times = np.random.default_rng(0), Scale(low=0, high=100), 150, 1500
    shares = rng.dirichlet(np.full(101, 0.5))
    first, second, asked = (rng.multinomial(people, shares, times).astype(float) for _ in range(3))
    apart = population_measures(scale, first, second, ["kl", "w1"])
    perfect = population_measures(scale, asked, np.broadcast_to(shares * people, asked.shape), ["kl", "w1"])
    for measure, values in perfect.items():
        row = {"adapter": "s", "temperature": 1.0, "question": "q", "kl": 9.0, "w1": 9.0}
        row |= {f"floor_{m}_low": np.quantile(apart[m], 0.025) for m in apart}
        board = pd.DataFrame([row] * times).assign(**{measure: values})
        (share,) = [
            n / times for name, n in verdicts.nobody_too_good(board).numbers.items() if measure in name
        ]
        assert 0.01 < share < 0.05, measure
