"""People whose answers depend on their demographics in a known way, and models of them."""

import numpy as np
import pandas as pd

from evsim_assets.metrics.agreement import score
from evsim_assets.specs.study import AdapterSpec

AGES, REGIONS = ("young", "middle", "old"), ("north", "south")
DEMOGRAPHICS = ["age", "region", "luck"]
SCALE = np.arange(0, 101, 10)


def true_distribution(age, region):
    """p(answer | person) on 0, 10, … 100: the young say less, the south more."""
    middle = {"young": 20, "middle": 50, "old": 75}[age] + {"north": -8, "south": 8}[region]
    shape = np.exp(-0.5 * ((SCALE - middle) / 20) ** 2) + 0.02
    return shape / shape.sum()


def people_who_differ(number=3000, seed=0):
    """Participants with age, region, and a `luck` that tells nothing."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "participant": [f"p{i:05d}" for i in range(number)],
            "age": rng.choice(AGES, number),
            "region": rng.choice(REGIONS, number),
            "luck": rng.choice(list("abcd"), number),
        }
    )


def prompts_of(people, seed=0, each=1):
    """`each` answers a person, drawn from their true distribution; 15 % test, 15 % validation."""
    rng = np.random.default_rng(seed)
    given = distributions_of(people)
    parts = []
    for order in range(each):
        drawn = (rng.random(len(people))[:, None] > np.cumsum(given, axis=1)).sum(axis=1)
        parts.append(
            pd.DataFrame({"participant": people["participant"], "order": order, "answer": 10 * drawn})
        )
    table = pd.concat(parts, ignore_index=True)
    place = np.tile(np.arange(len(people)) / len(people), each)
    table["split"] = np.where(place < 0.15, "test", np.where(place < 0.3, "validation", "train"))
    table["prompt_id"] = table["participant"] + "-" + table["order"].astype(str)
    table["answer_digit"] = pd.array([None] * len(table), dtype="Int64")
    usual = {"question": "q", "wave": "w", "held_out": None, "template": "default", "weight": 1.0}
    return table.assign(**usual, intervention=None, low=0, high=100, step=10, labels=None)


def distributions_of(people):
    """Each person's true distribution, (n, 11)."""
    return np.array(
        [true_distribution(age, region) for age, region in zip(people["age"], people["region"], strict=True)]
    )


def metrics_of(prompts, people, given, *, adapter="s", seed=0, resamples=50):
    """`score` of a model that gives the test participants the distributions `given` (people, 11)."""
    return scored_of(prompts, people, given, adapter=adapter, seed=seed, resamples=resamples).metrics


def scored_of(prompts, people, given, *, adapter="s", seed=0, resamples=50):
    rng = np.random.default_rng(seed + 1)
    test = prompts[prompts["split"] == "test"]
    rows = given[pd.Index(people["participant"]).get_indexer(test["participant"])]
    drawn = (rng.random(len(rows))[:, None] > np.cumsum(rows, axis=1)).sum(axis=1).clip(0, 10)
    place = {"prompt_id": test["prompt_id"], "temperature": 1.0}
    masses = {"off_scale": 0.0, "no_number": 0.0, "unexpanded": 0.0}
    read = pd.DataFrame({**place, "probabilities": list(rows), **masses})
    answer = pd.array(10 * drawn, dtype="Int64")
    said = pd.DataFrame(
        {**place, "replicate": 0, "answer": answer, "success": True, "made_by": "distribution"}
    )
    factors = AdapterSpec(model=adapter, method="qlora").factors
    return score(prompts, people, read, said, factors, seed=0, demographics=DEMOGRAPHICS, resamples=resamples)
