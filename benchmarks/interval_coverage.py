"""How often a 95 % interval contains the true value: known populations, sampled again and again.

    python benchmarks/interval_coverage.py [--quick] [--scenario NAME …]

A population of twelve kinds of people is known exactly: what share each kind has, what it answers, what
it weighs in the survey. Three models are known exactly too: `far` and `close` from the humans, and
`tuned`, closer still. Each of 500 repetitions draws participants and their answers, and is scored as a
study is (`metrics.agreement.score`, 1000 replicates); pairs of models go through `comparisons`, samples of
other humans through `noise_floor`. 500 repetitions tell 95 % from 93 % or 97 % (standard error 1 %).

**What is true.** Of kl_corrected, js, sd_ratio, crps, rmse: the value between the populations (KL with its
half counts, for as many answers as were given: smoothing is part of the measure). Of w1 and tv: the
value expected of that many participants, sampling noise included, as the noise floor has it too. No
interval for the distance between populations themselves can hold 95 % uniformly: |P − Q| is not smooth
where both meet, and what is noise there cannot be told from a small distance.

The last line is one JSON object: by scenario, model or pair, measure: coverage, and the shares of true values
below and above the interval.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evsim_assets.metrics.agreement import score
from evsim_assets.metrics.comparisons import comparisons
from evsim_assets.metrics.measures import crps, js, kl, sd_ratio, total_variation, wasserstein_1
from evsim_assets.metrics.noise_floor import noise_floor
from evsim_assets.specs.study import AdapterSpec

VALUES = np.arange(0, 101, 10.0)
K = len(VALUES)
HEAPS = np.eye(K)[[0, 5, 10]].T @ [0.3, 0.5, 0.2]
MODELS = ("far", "close", "tuned")
PAIRS = (("far", "close"), ("far", "tuned"), ("close", "tuned"))
REPETITIONS, QUICK_REPETITIONS = 500, 50
AT_ONCE = 25
"""Repetitions scored in one call: each is a question of its own."""
FACTORS = AdapterSpec(model="known", method="qlora").factors
MEASURES = (  # point answer and measure
    ("none", "kl_corrected"),
    ("none", "js"),
    ("none", "w1"),
    ("none", "tv"),
    ("none", "sd_ratio"),
    ("none", "crps"),
    ("sample", "rmse"),
    ("mean", "rmse"),
)
EXPECTED = ("w1", "tv")
"""Measures whose true value is the one expected of as many participants."""


@dataclass(frozen=True)
class Scenario:
    """`participants` who give `each` answers; `weighted`: some kinds of people are hard to reach."""

    participants: int
    each: int
    weighted: bool

    @property
    def name(self) -> str:
        said = f"{self.participants} participants, {self.each} answer{'s' if self.each > 1 else ''} each"
        return said + (", weighted" if self.weighted else "")


SCENARIOS = (Scenario(150, 1, False), Scenario(600, 1, True), Scenario(150, 5, False), Scenario(600, 5, True))


@dataclass(frozen=True)
class Population:
    """4 cells × 3 tempers of people; models know the cell. Arrays are (cell, temper, …)."""

    scenario: Scenario
    share: np.ndarray = field(init=False)
    weight: np.ndarray = field(init=False)
    answers: np.ndarray = field(init=False)  # (4, 3, K)
    models: dict = field(init=False)  # name: (4, K)

    def __post_init__(self):
        shift = 25 if self.scenario.each > 1 else 15  # people who differ more: answers of one are alike
        answers = np.array([[_bump(25 + 15 * c + shift * (t - 1), 18) for t in range(3)] for c in range(4)])
        tempers = np.array([0.3, 0.4, 0.3])
        weight = np.outer([0.5, 1, 1.5, 2.5], [0.8, 1, 1.3]) if self.scenario.weighted else np.ones((4, 3))
        cells = np.einsum("ctk,t->ck", answers, tempers)
        far = np.array([_bump(60 - 5 * c, 10) for c in range(4)])
        narrow = np.array([_bump(25 + 15 * c, 28) for c in range(4)])
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
        ):
            object.__setattr__(self, name, value)

    def draw(self, repetitions: int, rng: np.random.Generator) -> "Drawn":
        n, each = self.scenario.participants, self.scenario.each
        kind = rng.choice(12, (repetitions, n), p=self.share.ravel())
        cell, temper = kind // 3, kind % 3
        weight = self.weight[cell, temper] * (
            rng.gamma(8, 1 / 8, kind.shape) if self.scenario.weighted else 1.0
        )
        said = _choice(self.answers[cell, temper], each, rng)
        simulated = {name: _choice(model[cell], each, rng) for name, model in self.models.items()}
        return Drawn(cell, weight, said, simulated)

    def truth(self, rng: np.random.Generator) -> dict:
        """The true value by model, point answer and measure."""
        scale = self.share * self.weight / (self.share * self.weight).sum()
        human = np.einsum("ct,ctk->k", scale, self.answers)
        by_cell = np.einsum("ct,ctk->ck", scale, self.answers)
        n = self.scenario.participants * self.scenario.each
        found: dict = {}
        for name, model in self.models.items():
            said = np.einsum("ct,ck->k", scale, model)
            squares = (VALUES[None, :] - (model @ VALUES)[:, None]) ** 2
            draws = np.einsum("ck,cj,kj->", by_cell, model, (VALUES[:, None] - VALUES) ** 2)
            scores = np.array([crps(VALUES, np.tile(p, (K, 1)), VALUES) for p in model])
            found |= {
                (name, "none", "kl_corrected"): float(kl(n * human, n * said)),
                (name, "none", "js"): float(js(human, said)),
                (name, "none", "sd_ratio"): float(sd_ratio(VALUES, human, said)),
                (name, "none", "crps"): float((by_cell * scores).sum()),
                (name, "mean", "rmse"): float(np.sqrt((by_cell * squares).sum())),
                (name, "sample", "rmse"): float(np.sqrt(draws)),
            }
        return found | self._expected(rng)

    def _expected(self, rng: np.random.Generator, samples: int = 4000) -> dict:
        """w1 and tv of samples of this size, on average."""
        found: dict = {(name, "none", measure): [] for name in MODELS for measure in EXPECTED}
        for _ in range(samples // AT_ONCE):
            drawn = self.draw(AT_ONCE, rng)
            human = np.einsum("rn,rnek->rk", drawn.weight, np.eye(K)[drawn.said])
            for name, model in self.models.items():
                said = np.einsum("rn,rnk->rk", drawn.weight, model[drawn.cell])
                found[name, "none", "w1"] += wasserstein_1(VALUES, human, said).tolist()
                found[name, "none", "tv"] += total_variation(human, said).tolist()
        return {key: float(np.mean(values)) for key, values in found.items()}


@dataclass(frozen=True)
class Drawn:
    """R repetitions of n people with e answers: `cell`, `weight` (R, n), places on the scale (R, n, e)."""

    cell: np.ndarray
    weight: np.ndarray
    said: np.ndarray
    simulated: dict

    def prompts(self, split: str = "test") -> pd.DataFrame:
        repetition, person, place = (index.ravel() for index in np.indices(self.said.shape))
        names = np.char.add("p", person.astype(str)).astype(object)
        each = self.said.shape[2]
        table = pd.DataFrame(
            {
                "participant": names,
                "question": [f"q{r:04d}" for r in repetition],
                "order": repetition * each + place,
                "weight": self.weight[repetition, person],
                "answer": (10 * self.said.ravel()).astype(int),
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
        return table.assign(**constant, labels=None, low=0, high=100, step=10)

    def read(self, prompts: pd.DataFrame, models: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Distributions and generations; each model is one temperature: 0, 1, 2 for those of MODELS."""
        each = self.said.shape[2]
        cell = np.repeat(self.cell.ravel(), each)
        read, said = [], []
        for temperature, name in enumerate(MODELS):
            place = {"prompt_id": prompts["prompt_id"], "temperature": float(temperature)}
            masses = {"off_scale": 0.0, "no_number": 0.0, "unexpanded": 0.0}
            read.append(pd.DataFrame({**place, "probabilities": list(models[name][cell]), **masses}))
            answer = pd.array(10 * self.simulated[name].ravel(), dtype="Int64")
            made = {"replicate": 0, "answer": answer, "success": True, "made_by": "distribution"}
            said.append(pd.DataFrame({**place, **made}))
        return pd.concat(read, ignore_index=True), pd.concat(said, ignore_index=True)


def coverage(scenario: Scenario, repetitions: int, seed: int = 0) -> dict:
    """Coverage by subject (a model, or `one - other`) and measure: (share inside, below low, above high)."""
    population, rng = Population(scenario), np.random.default_rng(seed)
    truth = population.truth(rng)
    people = pd.DataFrame({"participant": [f"p{i}" for i in range(scenario.participants)]})
    tally: dict = {}
    for start in range(0, repetitions, AT_ONCE):
        drawn = population.draw(min(AT_ONCE, repetitions - start), rng)
        prompts = drawn.prompts()
        read, said = drawn.read(prompts, population.models)
        scored = score(prompts, people, read, said, FACTORS, seed=seed + start)
        for subject, point, measure, true, low, high in _intervals(scored.metrics, scored.replicates, truth):
            tally.setdefault((subject, point, measure), []).append((true < low, true > high))
    found = {}
    for key, missed in tally.items():
        below, above = np.mean(missed, axis=0)
        found[key] = (1 - below - above, below, above)
    return found


def _intervals(metrics: pd.DataFrame, replicates: pd.DataFrame, truth: dict) -> Iterator[tuple]:
    """subject, point answer, measure, true value, low, high: of every model and pair in every repetition."""
    for row in metrics.itertuples():
        if (row.point_answer, row.measure) not in MEASURES:
            continue
        name = MODELS[int(row.temperature)]
        true = truth[name, row.point_answer, row.measure]
        yield name, row.point_answer, row.measure, true, row.low, row.high
    # The temperatures are models: as adapters of one temperature they are compared in pairs.
    tables = [
        table.assign(adapter=[MODELS[int(t)] for t in table["temperature"]], temperature=1.0)
        for table in (replicates, metrics)
    ]
    for row in comparisons(*tables).itertuples():
        if (row.point_answer, row.measure) in MEASURES:
            key = (row.point_answer, row.measure)
            true = truth[(row.adapter, *key)] - truth[(row.other, *key)]
            yield f"{row.adapter} - {row.other}", *key, true, row.low, row.high


def floor_coverage(scenario: Scenario, repetitions: int, seed: int = 0) -> dict:
    """How often the floor's band contains the measure between two further samples of humans."""
    population, rng = Population(scenario), np.random.default_rng(seed)
    n = scenario.participants
    missed: dict = {}
    for start in range(0, repetitions, AT_ONCE):
        many = min(AT_ONCE, repetitions - start)
        parts = [population.draw(many, rng) for _ in range(10)]  # a study: a tenth of it is tested
        study = Drawn(
            *(np.concatenate([getattr(p, of) for p in parts], 1) for of in ("cell", "weight", "said")), {}
        )
        prompts = study.prompts("train")
        prompts["split"] = np.where(prompts["participant"].str[1:].astype(int) < n, "test", "train")
        people = pd.DataFrame({"participant": prompts["participant"].unique()})
        floors = noise_floor(prompts, people, [], seed=seed + start)
        further = [population.draw(many, rng).prompts() for _ in range(2)]
        between = _between(*further)
        for row in floors.dropna(subset=["floor"]).itertuples():
            value = between.get((row.question, row.measure))
            if value is not None:
                missed.setdefault(row.measure, []).append((value < row.floor_low, value > row.floor_high))
    found = {}
    for measure, of_it in missed.items():
        below, above = np.mean(of_it, axis=0)
        found["noise floor", "none", measure] = (1 - below - above, below, above)
    return found


def _between(one: pd.DataFrame, other: pd.DataFrame) -> dict:
    """Measures between two samples, by question."""
    counts = [
        (
            table.pivot_table(
                index="question", columns="answer", values="weight", aggfunc="sum", fill_value=0
            )
        ).reindex(columns=range(0, 101, 10), fill_value=0)
        for table in (one, other)
    ]
    sizes = [table.groupby("question").size().to_numpy()[:, None] for table in (one, other)]
    a, b = (c.to_numpy(float) / c.to_numpy(float).sum(1, keepdims=True) * sizes[0] for c in counts)
    measured = {
        "kl": kl(a, b),
        "w1": wasserstein_1(VALUES, a, b),
        "js": js(a, b),
        "tv": total_variation(a, b),
        "sd_ratio": sd_ratio(VALUES, a, b),
    }
    questions = counts[0].index
    return {(q, name): float(v[i]) for name, v in measured.items() for i, q in enumerate(questions)}


def _bump(middle: float, width: float) -> np.ndarray:
    shape = np.exp(-0.5 * ((VALUES - middle) / width) ** 2)
    return 0.75 * shape / shape.sum() + 0.25 * HEAPS


def _choice(probabilities: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
    """`each` draws from every distribution (…, K): (…, each)."""
    below = np.cumsum(probabilities, axis=-1)[..., None, :]
    drawn = (rng.random((*probabilities.shape[:-1], each))[..., None] > below).sum(axis=-1)
    return np.minimum(drawn, K - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPETITIONS} repetitions")
    parser.add_argument("--scenario", type=int, nargs="*", help="0 to 3; all, if not given")
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


if __name__ == "__main__":
    main()
