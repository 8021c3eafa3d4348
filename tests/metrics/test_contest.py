"""Adapters against baselines: common prompts, paired intervals, and the verdict."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.bootstrap import participant_weights
from evsim_assets.metrics.claim import claim, summary
from evsim_assets.metrics.contest import CONTEST_COLUMNS, NONE_COMMON
from evsim_assets.metrics.contestants import one_reading
from evsim_assets.reports.contest_section import contest_section
from evsim_assets.specs.errors import BadInput
from tests.metrics.a_contest import adapters, asked, chosen_adapter, chosen_baseline, contested, kept, said

RNG = np.random.default_rng(5)


def sharp(prompts, right=0.8):
    """Distributions that give the person's own answer so much, and the rest evenly."""
    given = np.full((len(prompts), 5), (1 - right) / 4)
    given[np.arange(len(prompts)), prompts["answer"] - 1] = right
    return given


def of(table, measure):
    (row,) = table[table["measure"] == measure].to_dict("records")
    return row


def test_one_who_says_the_same_as_a_baseline_does_not_differ_from_it():
    prompts = asked()
    given = RNG.dirichlet(np.ones(5), len(prompts)).astype(np.float32)
    given /= given.sum(axis=1, keepdims=True)
    table = contested(prompts, {"a": said(prompts, given)}, kept(prompts, given), chosen_baseline())
    assert list(table.columns) == CONTEST_COLUMNS and set(table["measure"]) == {
        "kl",
        "kl_corrected",
        "rmse",
        "crps",
        "nll",
    }
    for row in table.to_dict("records"):
        ends = [row["difference"], row["low"], row["high"]]
        assert ends == pytest.approx([0, 0, 0], abs=1e-6), row["measure"]
        assert row["closer"] == "neither" and row["n"] == 120 and row["n_left_out"] == 0
    assert of(table, "rmse")["ratio"] == pytest.approx(1)


def test_the_p_value_of_no_difference_is_1():
    prompts = asked()
    given = np.full((len(prompts), 5), 0.2)
    table = contested(prompts, {"a": said(prompts, given)}, kept(prompts, given), chosen_baseline())
    assert of(table, "rmse")["p_value"] == 1 and of(table, "rmse")["difference"] == 0


def test_the_one_that_knows_the_person_is_closer():
    prompts = asked()
    near, far = sharp(prompts, 0.8), np.full((len(prompts), 5), 0.2)
    table = contested(prompts, {"a": said(prompts, near)}, kept(prompts, far), chosen_baseline())
    assert set(table.loc[table["measure"].isin(["rmse", "crps", "nll"]), "closer"]) == {"a"}
    table = contested(prompts, {"a": said(prompts, far)}, kept(prompts, near), chosen_baseline())
    assert set(table.loc[table["measure"].isin(["rmse", "crps", "nll"]), "closer"]) == {"cells"}
    assert of(table, "rmse")["p_value"] == pytest.approx(2 / 401)


def test_values_and_the_ratio_by_numpy_and_scipy():
    """A regressor's prediction is not rounded; KL is of the nearest answers, with half a count a bin."""
    weights = RNG.uniform(0.5, 2, 60)
    prompts = asked(weights=weights)
    given, predictions = RNG.dirichlet(np.ones(5), 120), RNG.uniform(1, 5, 120)
    table = contested(
        prompts,
        {"a": said(prompts, given)},
        kept(prompts, predictions=predictions, algorithm="svr"),
        chosen_baseline("svr", "point"),
    )
    answer, w = prompts["answer"].to_numpy(), prompts["weight"].to_numpy()
    w = w / w.mean()
    mine = np.sqrt(np.average((given @ [1, 2, 3, 4, 5] - answer) ** 2, weights=w))
    theirs = np.sqrt(np.average((predictions - answer) ** 2, weights=w))
    row = of(table, "rmse")
    assert row["adapter_value"] == pytest.approx(mine, rel=1e-6)
    assert row["baseline_value"] == pytest.approx(theirs, rel=1e-6)
    assert row["ratio"] == pytest.approx(mine / theirs, rel=1e-6)

    def counts(answers):
        return np.array([w[np.floor(answers + 0.5) == a].sum() for a in (1, 2, 3, 4, 5)])

    people = counts(answer) + 0.5
    assert of(table, "kl")["baseline_value"] == pytest.approx(
        stats.entropy(people, counts(predictions) + 0.5), rel=1e-6
    )
    assert of(table, "kl")["adapter_value"] == pytest.approx(stats.entropy(people, w @ given + 0.5), rel=1e-5)
    crps = of(table, "crps")
    assert np.isnan(crps["baseline_value"]) and crps["reason"] == "svr gives one answer, and no distribution"
    assert crps["adapter_value"] > 0 and crps["closer"] == "neither"


def test_the_intervals_are_those_of_people_resampled_together():
    prompts = asked(people=30, each=3)
    given, predictions = RNG.dirichlet(np.ones(5), 90), RNG.uniform(1, 5, 90)
    table = contested(
        prompts,
        {"a": said(prompts, given)},
        kept(prompts, predictions=predictions, algorithm="svr"),
        chosen_baseline("svr", "point"),
        seed=7,
    )
    people = prompts["participant"].unique()
    often = participant_weights(7, people, 400)[:, np.repeat(np.arange(30), 3)]
    answer = prompts["answer"].to_numpy()
    mine = np.sqrt(often @ (given.astype(np.float32) @ [1, 2, 3, 4, 5] - answer) ** 2 / often.sum(axis=1))
    theirs = np.sqrt(often @ (predictions - answer) ** 2 / often.sum(axis=1))
    row = of(table, "rmse")
    ends = np.quantile(mine - theirs, [0.025, 0.975])
    assert [row["low"], row["high"]] == pytest.approx(ends, abs=1e-5)
    ends = np.quantile(mine / theirs, [0.025, 0.975])
    assert [row["ratio_low"], row["ratio_high"]] == pytest.approx(ends, abs=1e-5)
    below = (mine <= theirs).sum()
    assert row["p_value"] == pytest.approx(min(1, 2 * (min(below, 400 - below) + 1) / 401))


def test_the_bias_of_kl_is_taken_off_a_difference_twice():
    prompts = asked(people=50, each=1)
    given = RNG.dirichlet(np.ones(5), 50).astype(np.float32).astype(float)
    given /= given.sum(axis=1, keepdims=True)
    table = contested(
        prompts,
        {"a": said(prompts, given)},
        kept(prompts, predictions=np.full(50, 3.2), algorithm="svr"),
        chosen_baseline("svr", "point"),
    )
    own = np.eye(5)[prompts["answer"] - 1]

    def apart(often):
        people, mine, theirs = often @ own, often @ given, often.sum(-1, keepdims=True) * np.eye(5)[2]
        mine = mine / mine.sum(-1, keepdims=True) * often.sum(-1, keepdims=True)
        return stats.entropy(people + 0.5, mine + 0.5, axis=-1) - stats.entropy(
            people + 0.5, theirs + 0.5, axis=-1
        )

    difference = apart(np.ones((1, 50)))[0]
    often = participant_weights(0, prompts["participant"], 400).astype(float)
    drawn = apart(often)
    row = of(table, "kl")
    assert row["difference"] == pytest.approx(difference, abs=1e-5)
    ends = np.quantile(drawn, [0.025, 0.975]) - 2 * (drawn.mean() - difference)
    assert [row["low"], row["high"]] == pytest.approx(ends, abs=1e-4)
    assert np.isnan(row["ratio_low"]) and row["ratio"] > 0


def test_an_adapter_has_the_values_and_intervals_of_metrics():
    prompts = asked(people=40, each=2, weights=RNG.uniform(0.5, 2, 40))
    told = said(prompts, RNG.dirichlet(np.ones(5), 80)).assign(no_number=0.0)
    people = pd.DataFrame({"participant": prompts["participant"].unique()})
    factors = adapters("a")["a"]
    metrics = score(
        prompts, people, told, prompts_without_generations(), factors, seed=3, resamples=400
    ).metrics
    scored = metrics[metrics["demographic"] == "all"].set_index(["point_answer", "measure"])
    table = contested(prompts, {"a": told}, kept(prompts, sharp(prompts)), chosen_baseline(), seed=3)
    for measure in ("kl", "kl_corrected", "rmse", "crps", "nll"):
        row, other = of(table, measure), scored.loc[("mean" if measure == "rmse" else "none", measure)]
        mine = [row["adapter_value"], row["adapter_low"], row["adapter_high"], row["n"]]
        assert mine == pytest.approx(other[["value", "low", "high", "n"]].tolist(), abs=2e-5), measure


def prompts_without_generations():
    columns = ["prompt_id", "temperature", "replicate", "text", "answer", "success", "made_by"]
    return pd.DataFrame({name: [] for name in columns}).astype({"temperature": float, "success": bool})


def test_a_prompt_that_one_fails_to_answer_is_left_out_for_all():
    prompts = asked()
    given, lame = sharp(prompts), sharp(prompts, 0.5)
    lame[:7] = 0
    choices = pd.concat([chosen_adapter("a"), chosen_adapter("b", "kl")])
    both = contested(
        prompts,
        {"a": said(prompts, given), "b": said(prompts, lame)},
        kept(prompts, np.full((120, 5), 0.2)),
        chosen_baseline(),
        choices,
    )
    assert set(both["n"]) == {113} and set(both["n_left_out"]) == {7}
    rest = prompts.iloc[7:]
    alone = contested(
        rest, {"a": said(rest, given[7:])}, kept(rest, np.full((113, 5), 0.2)), chosen_baseline()
    )
    of_a = both[both["adapter"] == "a"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_a.drop(columns="n_left_out"), alone.drop(columns="n_left_out"))


def test_nothing_in_common_is_said():
    prompts = asked()
    table = contested(
        prompts, {"a": said(prompts, np.zeros((120, 5)))}, kept(prompts, sharp(prompts)), chosen_baseline()
    )
    assert (
        set(table["reason"]) == {NONE_COMMON} and set(table["n"]) == {0} and set(table["n_left_out"]) == {120}
    )
    assert table["difference"].isna().all()
    (verdict,) = claim(table, chosen_baseline()).to_dict("records")
    assert verdict["reason"] == NONE_COMMON and pd.isna(verdict["both"])


def test_one_participant_has_values_and_no_interval():
    prompts = asked(people=1, each=5)
    table = contested(
        prompts, {"a": said(prompts, sharp(prompts))}, kept(prompts, np.full((5, 5), 0.2)), chosen_baseline()
    )
    row = of(table, "rmse")
    assert row["difference"] < 0 and np.isnan(row["low"]) and row["closer"] == "neither"
    assert row["reason"] == "only 1 test participant, so no interval"


def test_rows_in_any_order_and_wording_give_the_same():
    prompts = asked()
    given, other = sharp(prompts), RNG.dirichlet(np.ones(5), 120)
    worded = prompts.assign(template="other", prompt_id=prompts["prompt_id"] + "-other")
    first = contested(prompts, {"a": said(prompts, given)}, kept(prompts, other), chosen_baseline())
    both = pd.concat([worded, prompts]).sample(frac=1, random_state=1)
    mixed = said(prompts, given).sample(frac=1, random_state=2)
    again = contested(
        both, {"a": mixed}, kept(prompts, other).sample(frac=1, random_state=3), chosen_baseline()
    )
    pd.testing.assert_frame_equal(first, again, check_exact=False, rtol=1e-9)


def test_only_chosen_temperatures_are_read_from_a_file(tmp_path):
    """Those of the other temperature have too few answers, and nobody notices."""
    prompts = asked()
    hot, cold = said(prompts, np.full((120, 4), 0.25), 1.0), said(prompts, sharp(prompts), 0.5)
    file = tmp_path / "a.parquet"
    pd.concat([hot, cold]).to_parquet(file, index=False)
    baseline = kept(prompts, np.full((120, 5), 0.2)), chosen_baseline(), chosen_adapter(temperature=0.5)
    from_file = contested(prompts, {"a": file}, *baseline)
    pd.testing.assert_frame_equal(from_file, contested(prompts, {"a": cold}, *baseline))


def test_random_answers_are_scored_as_draws():
    """An even draw from 1–5 lies √((a−1)² + … + (a−5)²)/√5 away."""
    prompts = asked()
    even = kept(prompts, np.full((120, 5), 0.2), algorithm="random")
    table = contested(
        prompts, {"a": said(prompts, sharp(prompts))}, even, chosen_baseline("random", "sample")
    )
    square = ((prompts["answer"].to_numpy()[:, None] - np.arange(1, 6)) ** 2).mean()
    assert of(table, "rmse")["baseline_value"] == pytest.approx(square**0.5, rel=1e-6)


def test_a_baseline_contests_with_one_reading():
    chosen = pd.concat(
        [chosen_baseline("cells", r) for r in ("mean", "median", "sample")]
        + [chosen_baseline("svr", "point"), chosen_baseline("random", "sample")]
    )
    kept_rows = one_reading(chosen)
    assert list(zip(kept_rows["algorithm"], kept_rows["reading"], strict=True)) == [
        ("cells", "mean"),
        ("svr", "point"),
        ("random", "sample"),
    ]


def test_answers_of_other_people_are_refused():
    prompts = asked()
    given = sharp(prompts)
    with pytest.raises(BadInput, match="2 of 120 test prompts have no answer of cells"):
        contested(prompts, {"a": said(prompts, given)}, kept(prompts, given).iloc[2:], chosen_baseline())
    other = kept(prompts, given).assign(answer=1)
    with pytest.raises(BadInput, match="are not those that cells was kept with"):
        contested(prompts, {"a": said(prompts, given)}, other, chosen_baseline())


def verdict(mine, baselines, chosen, people=200):
    """The claim's row, of one adapter against baselines made from the prompts."""
    prompts = asked(people=people, each=1, seed=3)
    rows = pd.concat([kept(prompts, **options(prompts)) for options in baselines], ignore_index=True)
    table = contested(prompts, {"a": said(prompts, mine(prompts))}, rows, pd.concat(chosen))
    (row,) = claim(table, pd.concat(chosen)).to_dict("records")
    return row, table


def middle(prompts):
    return {"predictions": np.full(len(prompts), 3.0), "algorithm": "svr"}


def test_the_claim_is_met_for_sure():
    row, _ = verdict(lambda p: sharp(p, 0.6), [middle], [chosen_baseline("svr", "point")])
    assert row["both"] and row["both_for_sure"] and row["kl_below_every_baseline"]
    assert row["rmse_ratio"] < 1 and row["rmse_within_2_percent"] and row["rmse_for_sure"]
    assert row["sentence"].startswith("q: met for sure. a at T 1.0 has KL 0.0")


def test_a_population_without_persons_misses_on_rmse():
    """Everybody the same even distribution: a good KL, and the mean of all; the regressor knows each."""

    def knows(prompts):
        return {"predictions": prompts["answer"] * 0.5 + 1.5, "algorithm": "svr"}

    row, _ = verdict(lambda p: np.full((len(p), 5), 0.2), [knows], [chosen_baseline("svr", "point")])
    assert row["kl_below_every_baseline"] and row["kl_for_sure"]
    # Errors: of the mean |a − 3|, of the regressor half of that.
    assert row["rmse_ratio"] == pytest.approx(2, rel=1e-6)
    assert not row["rmse_within_2_percent"] and row["rmse_for_sure"]
    assert not row["both"] and row["both_for_sure"]
    assert "+100.0 %" in row["sentence"] and "not within 2 % for sure" in row["sentence"]


def test_every_choice_of_a_baseline_counts_for_kl_and_the_best_on_validation_for_rmse():
    def even(prompts):
        return {"given": np.full((len(prompts), 5), 0.2), "algorithm": "cells", "setting": "even"}

    def own(prompts):
        return {"given": sharp(prompts, 0.999), "algorithm": "cells", "setting": "own"}

    chosen = [
        chosen_baseline("svr", "point", validation=1.0),
        chosen_baseline("cells", "mean", "rmse", 2.0, "even"),
        chosen_baseline("cells", "mean", "kl", 9.0, "own"),
    ]
    row, table = verdict(lambda p: sharp(p, 0.5), [middle, even, own], chosen)
    assert (
        row["rmse_baseline"] == "svr" and row["kl_baseline"] == "cells" and row["hardest_baseline"] == "cells"
    )
    assert not row["kl_below_every_baseline"]  # that of `own` is next to nothing
    kl = table[table["measure"] == "kl"].set_index("setting")["baseline_value"]
    assert row["lowest_baseline_kl"] == kl["own"] < kl["even"]
    assert row["rmse_within_2_percent"] and not row["both"]
    assert row["hardest_ratio"] > 100 and "On test cells is lower" in row["sentence"]


def test_for_sure_needs_every_baseline():
    """Below both; the interval leaves out 0 for one, and not for the other, which is nearly its copy."""

    def almost(prompts):
        return {"given": 0.97 * sharp(prompts, 0.6) + 0.03 * np.eye(5)[0], "algorithm": "cells"}

    row, table = verdict(
        lambda p: sharp(p, 0.6), [middle, almost], [chosen_baseline("svr", "point"), chosen_baseline()]
    )
    high = table[table["measure"] == "kl"].set_index("baseline")["high"]
    assert high["svr"] < 0 < high["cells"]
    assert row["kl_below_every_baseline"] and not row["kl_for_sure"]


def test_what_cannot_be_said_is_said():
    prompts = asked()
    even = kept(prompts, np.full((120, 5), 0.2), algorithm="random")
    chosen = chosen_baseline("random", "sample")
    table = contested(prompts, {"a": said(prompts, sharp(prompts))}, even, chosen)
    verdicts = claim(table, chosen)
    assert verdicts["reason"].tolist() == ["no baseline but random answers could be fitted and chosen"]
    assert verdicts["both"].isna().all() and "nothing can be said" in summary(verdicts)
    other = claim(table.assign(chosen_by="kl"), chosen)
    assert other["reason"].tolist() == ["no adapter has a CRPS on validation"]
    section = contest_section(verdicts, table)
    assert section.parts[0].rows[1][-1] == verdicts["sentence"].iloc[0]


def test_the_page_shows_the_verdict_and_each_baseline_setting_once():
    prompts = asked(people=200, each=1, seed=3)
    chosen = pd.concat([chosen_baseline("svr", "point", by) for by in ("rmse", "kl")])
    table = contested(prompts, {"a": said(prompts, sharp(prompts))}, kept(prompts, **middle(prompts)), chosen)
    verdict_table, pairs = contest_section(claim(table, chosen), table).parts
    assert verdict_table.rows[1][:5] == ["q", "native", "a", "1.0", "met for sure"]
    assert [row[:4] for row in pairs.rows[1:]] == [["q", "native", "svr", "rmse, kl"]]
    assert pairs.rows[1][-1] == "a" and pairs.rows[1][5] == "—"
    assert contest_section(claim(table.iloc[:0], chosen), table.iloc[:0]).parts == []
