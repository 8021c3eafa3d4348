"""How often a 95 % interval contains the true value: known populations, sampled again and again.

    python benchmarks/interval_coverage.py [--quick] [--scenario 0 …] [--into FILE]

A population of twelve kinds of people is known exactly: what share each kind has, what it answers, what
it weighs in the survey. Three models are known exactly too: `far` (which fails at some answers) and `close`
from the humans, and `tuned`, closer still. Each of 500 repetitions draws participants and their answers, and
is scored as a study is (`metrics.agreement.score`, 1000 replicates; `group of …`: a third of the people, as a
demographic group, with 400); pairs of models go through `comparisons`, samples of other humans through
`noise_floor`. 500 repetitions tell 95 % from 93 % or 97 % (standard error 1 %).

**What is true.** The value between the populations, KL with its half counts, for as many answers as were
given: smoothing is part of the measure. (`kl` and `kl_corrected` have the same interval.) Of w1 and tv: the
value expected of that many participants, sampling noise included, as the noise floor has it too. No
interval for the distance between populations themselves can hold 95 % uniformly: |P − Q| is not smooth
where both meet, and what is noise there cannot be told from a small distance. Of pairs: the difference of
both, for sd_ratio of the distances from 1.

The last line is one JSON object: by scenario, model or pair, measure: coverage, and the shares of true values
below and above the interval.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.comparisons import comparisons
from evsim_assets.metrics.measures import (
    KL_BINS,
    SMOOTHING,
    crps,
    distribution_means,
    distribution_medians,
    js,
    kl,
    nll,
    rebin,
    sd_ratio,
    spearman,
    total_variation,
    wasserstein_1,
)
from evsim_assets.metrics.noise_floor import noise_floor
from evsim_assets.specs.study import AdapterSpec

MODELS = ("far", "close", "tuned")
FAILS = {"far": np.array([0.02, 0.05, 0.1, 0.2])}
"""By model, how often it gives no answer to people of each cell; others always answer."""
PAIRS = (("far", "close"), ("far", "tuned"), ("close", "tuned"))
REPETITIONS, QUICK_REPETITIONS = 500, 50
AT_ONCE = 25
"""Repetitions scored in one call: each is a question of its own."""
FACTORS = AdapterSpec(model="known", method="qlora").factors
READ = {"mean": distribution_means, "median": distribution_medians}
OF_PEOPLE = ("rmse", "mae", "spearman")
OF_DISTRIBUTIONS = ("w1", "js", "tv", "sd_ratio", "crps", "nll", "success_rate")
MEASURES = (  # point answer and measure
    *(("none", f"{name}_corrected") for name in KL_BINS),
    *(("none", name) for name in OF_DISTRIBUTIONS),
    *((point, name) for point in ("sample", *READ) for name in OF_PEOPLE),
    ("sample", "kl_corrected"),
    ("sample", "sd_ratio"),
)
EXPECTED = ("w1", "tv")
"""Measures whose true value is the one expected of as many participants."""
GROUP, OF_GROUP = 3, "group of "
"""Each third participant is in the group."""


@dataclass(frozen=True)
class Scenario:
    """`participants` who give `each` answers, on 0–100 in steps of `step`; `weighted`: some kinds of people
    are hard to reach."""

    participants: int
    each: int
    weighted: bool
    step: int = 10

    @property
    def name(self) -> str:
        said = f"{self.participants} participants, {self.each} answer{'s' if self.each > 1 else ''} each"
        return said + (", weighted" if self.weighted else "") + (", 101 answers" if self.step == 1 else "")

    @property
    def values(self) -> np.ndarray:
        return np.arange(0, 101, float(self.step))


SCENARIOS = (
    Scenario(150, 1, False),
    Scenario(300, 1, True),
    Scenario(150, 5, False),
    Scenario(300, 1, False, step=1),
)


@dataclass(frozen=True)
class Population:
    """4 cells × 3 tempers of people; models know the cell. Arrays are (cell, temper, …)."""

    scenario: Scenario
    share: np.ndarray = field(init=False)
    weight: np.ndarray = field(init=False)
    answers: np.ndarray = field(init=False)  # (4, 3, K)
    models: dict = field(init=False)  # name: (4, K)
    fails: dict = field(init=False)  # name: (4,)

    def __post_init__(self):
        shift = 25 if self.scenario.each > 1 else 15  # people who differ more: answers of one are alike
        bump = self._bump
        answers = np.array([[bump(25 + 15 * c + shift * (t - 1), 18) for t in range(3)] for c in range(4)])
        tempers = np.array([0.3, 0.4, 0.3])
        weight = np.outer([0.5, 1, 1.5, 2.5], [0.8, 1, 1.3]) if self.scenario.weighted else np.ones((4, 3))
        cells = np.einsum("ctk,t->ck", answers, tempers)
        far = np.array([bump(60 - 5 * c, 10) for c in range(4)])
        narrow = np.array([bump(25 + 15 * c, 28) for c in range(4)])
        models = {
            "far": 0.15 * cells + 0.85 * far,
            "close": 0.85 * cells + 0.15 * far,
            "tuned": 0.7 * cells + 0.3 * narrow,
        }
        for name, value in (
            ("share", np.outer([0.4, 0.3, 0.2, 0.1], tempers)),
            ("weight", weight),
            ("answers", answers),
            ("models", models),
            ("fails", {model: FAILS.get(model, np.zeros(4)) for model in models}),
        ):
            object.__setattr__(self, name, value)

    def _bump(self, middle: float, width: float) -> np.ndarray:
        values = self.scenario.values
        shape = np.exp(-0.5 * ((values - middle) / width) ** 2)
        heaps = (values[:, None] == [0, 50, 100]) @ [0.3, 0.5, 0.2]
        tens = (values % 10 == 0) * shape
        return 0.5 * shape / shape.sum() + 0.25 * tens / tens.sum() + 0.25 * heaps

    def draw(self, repetitions: int, rng: np.random.Generator, *, simulate: bool = True) -> "Drawn":
        n, each = self.scenario.participants, self.scenario.each
        kind = rng.choice(12, (repetitions, n), p=self.share.ravel())
        cell, temper = kind // 3, kind % 3
        weight = self.weight[cell, temper] * (
            rng.gamma(8, 1 / 8, kind.shape) if self.scenario.weighted else 1.0
        )
        said = _choice(self.answers[cell, temper], each, rng)
        simulated = {}
        for name, model in self.models.items() if simulate else ():
            failed = rng.random(said.shape) < self.fails[name][cell][..., None]
            simulated[name] = np.where(failed, -1, _choice(model[cell], each, rng))
        return Drawn(self.scenario, cell, weight, said, simulated)

    def truth(self, rng: np.random.Generator, participants: int) -> dict:
        """The true value by model, point answer and measure, for samples of so many participants."""
        scale = self.share * self.weight / (self.share * self.weight).sum()
        human = np.einsum("ct,ctk->k", scale, self.answers)
        by_cell = np.einsum("ct,ctk->ck", scale, self.answers)
        values, n = self.scenario.values, participants * self.scenario.each
        found: dict = {}
        for name, model in self.models.items():
            answered = 1 - self.fails[name]
            said = np.einsum("ct,ck->k", scale, answered[:, None] * model)
            scores = [
                np.array([s(values, np.tile(p, (len(p), 1)), values) for p in model]) for s in (crps, nll)
            ]
            own = {
                "js": float(js(rebin(human, 11), rebin(said, 11))),
                "sd_ratio": float(sd_ratio(values, human, said)),
                "crps": float((by_cell * scores[0]).sum()),
                "nll": float((by_cell * scores[1]).sum()),
                "success_rate": float(said.sum()),
            }
            for measure, bins in KL_BINS.items():
                if bins <= len(values):
                    counts = rebin(n * human, bins), rebin(n * said / said.sum(), bins)
                    own[f"{measure}_corrected"] = float(kl(*counts, SMOOTHING))
            found |= {(name, "none", measure): value for measure, value in own.items()}
            drawn = np.einsum("ca,c,cb->ab", by_cell, answered, model)
            found |= {(name, "sample", m): v for m, v in _individual(values, values, drawn).items()}
            found |= {(name, "sample", m): own[m] for m in ("kl_corrected", "sd_ratio")}
            for point, read in READ.items():
                points = read(values, model)
                of_point = _individual(values, points.round(9), by_cell.T)
                found |= {(name, point, m): v for m, v in of_point.items()}
        return found | self._expected(rng, participants)

    def _expected(self, rng: np.random.Generator, participants: int, samples: int = 3000) -> dict:
        """w1 and tv of samples of this size, on average."""
        found: dict = {(name, "none", measure): [] for name in MODELS for measure in EXPECTED}
        values = self.scenario.values
        for _ in range(samples // AT_ONCE):
            drawn = self.draw(AT_ONCE, rng, simulate=False)
            weight, cell, answers = (a[:, :participants] for a in (drawn.weight, drawn.cell, drawn.said))
            human = np.zeros((AT_ONCE, len(values)))
            row = np.broadcast_to(np.arange(AT_ONCE)[:, None, None], answers.shape)
            np.add.at(human, (row, answers), np.broadcast_to(weight[..., None], answers.shape))
            for name, model in self.models.items():
                said = np.einsum("rn,rnk->rk", weight, (model * (1 - self.fails[name])[:, None])[cell])
                found[name, "none", "w1"] += wasserstein_1(values, human, said).tolist()
                binned = rebin(human, 11), rebin(said, 11)
                found[name, "none", "tv"] += total_variation(*binned).tolist()
        return {key: float(np.mean(values)) for key, values in found.items()}


def _individual(values: np.ndarray, points: np.ndarray, joint: np.ndarray) -> dict:
    """RMSE, MAE and rank correlation of answers and points with a known joint distribution."""
    share = joint / joint.sum()
    apart = values[:, None] - points[None, :]
    first, second = (np.broadcast_to(x, joint.shape).ravel() for x in (values[:, None], points[None, :]))
    return {
        "rmse": float(np.sqrt((share * apart**2).sum())),
        "mae": float((share * np.abs(apart)).sum()),
        "spearman": spearman(first, second, share.ravel()),
    }


@dataclass(frozen=True)
class Drawn:
    """R repetitions of n people with e answers: `cell`, `weight` (R, n), places on the scale (R, n, e); −1
    where a model gives no answer."""

    scenario: Scenario
    cell: np.ndarray
    weight: np.ndarray
    said: np.ndarray
    simulated: dict

    def prompts(self, split: str = "test") -> pd.DataFrame:
        repetition, person, place = (index.ravel() for index in np.indices(self.said.shape))
        names = np.char.add("p", person.astype(str)).astype(object)
        each, step = self.said.shape[2], self.scenario.step
        table = pd.DataFrame(
            {
                "participant": names,
                "question": [f"q{r:04d}" for r in repetition],
                "order": repetition * each + place,
                "weight": self.weight[repetition, person],
                "answer": (step * self.said.ravel()).astype(int),
            }
        )
        table["prompt_id"] = table["participant"] + "-" + table["order"].astype(str)
        table["answer_digit"] = pd.array([None] * len(table), dtype="Int64")
        constant = {
            "wave": "w",
            "split": split,
            "held_out": None,
            "template": "default",
            "intervention": None,
        }
        return table.assign(**constant, labels=None, low=0, high=100, step=step)

    def read(self, prompts: pd.DataFrame, population: Population) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Distributions and generations; each model is one temperature: 0, 1, 2 for those of MODELS."""
        cell = np.repeat(self.cell.ravel(), self.said.shape[2])
        read, said = [], []
        for temperature, name in enumerate(MODELS):
            place = {"prompt_id": prompts["prompt_id"], "temperature": float(temperature)}
            lost = population.fails[name]
            answers = (population.models[name] * (1 - lost)[:, None])[cell]
            masses = {"off_scale": lost[cell], "no_number": 0.0, "unexpanded": 0.0}
            read.append(pd.DataFrame({**place, "probabilities": list(answers), **masses}))
            drawn = self.simulated[name].ravel()
            answer = pd.array(self.scenario.step * np.maximum(drawn, 0), dtype="Int64")
            made = {"replicate": 0, "answer": answer, "success": drawn >= 0, "made_by": "distribution"}
            said.append(pd.DataFrame({**place, **made}))
        return pd.concat(read, ignore_index=True), pd.concat(said, ignore_index=True)


def coverage(scenario: Scenario, repetitions: int, seed: int = 0) -> dict:
    """Coverage by subject (a model, `one - other`, `group of` a model) and measure: (share inside, below low,
    above high)."""
    population, rng = Population(scenario), np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(scenario.participants)]
    side = np.where(np.arange(len(ids)) % GROUP == 0, "in", None)
    people = pd.DataFrame({"participant": ids, "side": side})
    truth = {size: population.truth(rng, size) for size in (len(ids), int((side == "in").sum()))}
    tally: dict = {}
    for start in range(0, repetitions, AT_ONCE):
        drawn = population.draw(min(AT_ONCE, repetitions - start), rng)
        prompts = drawn.prompts()
        read, said = drawn.read(prompts, population)
        scored = score(prompts, people, read, said, FACTORS, seed=seed + start)
        for subject, point, measure, true, low, high in _intervals(scored.metrics, scored.replicates, truth):
            tally.setdefault((subject, point, measure), []).append((not true >= low, not true <= high))
    found = {}
    for key, missed in tally.items():
        below, above = np.mean(missed, axis=0)
        found[key] = (1 - below - above, below, above)
    return found


def _intervals(metrics: pd.DataFrame, replicates: pd.DataFrame, truth: dict) -> Iterator[tuple]:
    """subject, point answer, measure, true value, low, high: of every model and pair in every repetition."""
    for row in metrics.itertuples():
        key = (row.point_answer, row.measure)
        of = truth[row.participants]
        name = MODELS[int(row.temperature)]
        if key in MEASURES and _in_doubt(row.measure, of.get((name, *key))):
            yield (OF_GROUP if row.level == "in" else "") + name, *key, of[(name, *key)], row.low, row.high
    of = truth[max(truth)]
    # The temperatures are models: as adapters of one temperature they are compared in pairs.
    tables = [
        table.assign(adapter=[MODELS[int(t)] for t in table["temperature"]], temperature=1.0)
        for table in (replicates, metrics)
    ]
    for row in comparisons(*tables).itertuples():
        key = (row.point_answer, row.measure)
        one, two = of.get((row.adapter, *key)), of.get((row.other, *key))
        if key in MEASURES and (_in_doubt(row.measure, one) or _in_doubt(row.measure, two)):
            if row.measure == "sd_ratio":
                one, two = abs(one - 1), abs(two - 1)
            yield f"{row.adapter} - {row.other}", *key, one - two, row.low, row.high


def _in_doubt(measure: str, true: float | None) -> bool:
    """Whether there is such a value, and it varies: a model that never fails has a success rate of 1."""
    return true is not None and not (measure == "success_rate" and true > 1 - 1e-9)


def floor_coverage(scenario: Scenario, repetitions: int, seed: int = 0) -> dict:
    """How often the floor's band contains the measure between two further samples of humans."""
    population, rng = Population(scenario), np.random.default_rng(seed)
    n = scenario.participants
    missed: dict = {}
    for start in range(0, repetitions, AT_ONCE):
        many = min(AT_ONCE, repetitions - start)
        parts = [population.draw(many, rng) for _ in range(10)]  # a study: a tenth of it is tested
        study = Drawn(
            scenario,
            *(np.concatenate([getattr(p, of) for p in parts], 1) for of in ("cell", "weight", "said")),
            {},
        )
        prompts = study.prompts("train")
        prompts["split"] = np.where(prompts["participant"].str[1:].astype(int) < n, "test", "train")
        people = pd.DataFrame({"participant": prompts["participant"].unique()})
        floors = noise_floor(prompts, people, [], seed=seed + start)
        further = [population.draw(many, rng).prompts() for _ in range(2)]
        between = _between(scenario, *further)
        for row in floors.dropna(subset=["floor"]).itertuples():
            value = between.get((row.question, row.measure))
            if value is not None:
                missed.setdefault(row.measure, []).append((value < row.floor_low, value > row.floor_high))
    found = {}
    for measure, of_it in missed.items():
        below, above = np.mean(of_it, axis=0)
        found["noise floor", "none", measure] = (1 - below - above, below, above)
    return found


def _between(scenario: Scenario, one: pd.DataFrame, other: pd.DataFrame) -> dict:
    """Measures between two samples, by question."""
    scale = range(0, 101, scenario.step)
    counts = [
        (
            table.pivot_table(
                index="question", columns="answer", values="weight", aggfunc="sum", fill_value=0
            )
        ).reindex(columns=scale, fill_value=0)
        for table in (one, other)
    ]
    sizes = [table.groupby("question").size().to_numpy()[:, None] for table in (one, other)]
    a, b = (c.to_numpy(float) / c.to_numpy(float).sum(1, keepdims=True) * sizes[0] for c in counts)
    binned = rebin(a, 11), rebin(b, 11)
    measured = {
        "w1": wasserstein_1(scenario.values, a, b),
        "js": js(*binned),
        "tv": total_variation(*binned),
        "sd_ratio": sd_ratio(scenario.values, a, b),
    }
    for measure, bins in KL_BINS.items():
        if bins <= len(scale):
            measured[measure] = kl(rebin(a, bins), rebin(b, bins))
    questions = counts[0].index
    return {(q, name): float(v[i]) for name, v in measured.items() for i, q in enumerate(questions)}


def _choice(probabilities: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
    """`each` draws from every distribution (…, K): (…, each)."""
    below = np.cumsum(probabilities, axis=-1)[..., None, :]
    drawn = (rng.random((*probabilities.shape[:-1], each))[..., None] > below).sum(axis=-1)
    return np.minimum(drawn, probabilities.shape[-1] - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPETITIONS} repetitions")
    parser.add_argument("--scenario", type=int, nargs="*", help="0 to 3; all, if not given")
    parser.add_argument("--into", type=Path, help="a file for the JSON object")
    options = parser.parse_args()
    repetitions = QUICK_REPETITIONS if options.quick else REPETITIONS
    chosen = SCENARIOS if options.scenario is None else [SCENARIOS[i] for i in options.scenario]
    report: dict = {"repetitions": repetitions, "scenarios": {}}
    for scenario in chosen:
        began = time.perf_counter()
        found = coverage(scenario, repetitions) | floor_coverage(scenario, repetitions)
        seconds = time.perf_counter() - began
        print(f"\n{scenario.name} ({repetitions} repetitions, {seconds:.0f} s)")
        for (subject, point, measure), (inside, below, above) in found.items():
            name = measure if point == "none" else f"{measure} of {point}"
            print(f"  {subject:14s} {name:16s} {inside:6.1%}   below {below:5.1%}   above {above:5.1%}")
        report["scenarios"][scenario.name] = {
            f"{subject}: {measure} ({point})": [round(float(x), 4) for x in numbers]
            for (subject, point, measure), numbers in found.items()
        }
    print(json.dumps(report))
    if options.into:
        options.into.parent.mkdir(exist_ok=True)
        options.into.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
