"""A small survey of random answers on 0–10, people with demographics, and a model that half knows them."""

import numpy as np
import pandas as pd

from evsim_assets.specs.study import AdapterSpec

NATIVE = AdapterSpec(model="s", method="qlora").factors
REPLICATES = 3


def a_survey(people, each, seed, *, alike=False, weights=False):
    """Prompts, people, distributions and generations; `alike`: the model says the same of everyone."""
    rng = np.random.default_rng(seed)
    ids = [f"p{i:03d}" for i in range(people)]
    person, order = np.repeat(np.arange(people), each), np.tile(np.arange(each), people)
    leaning = rng.integers(0, 11, people)
    answer = np.clip(leaning[person] + rng.integers(-2, 3, len(person)), 0, 10)
    prompts = pd.DataFrame(
        {
            "prompt_id": [f"{ids[p]}-{o}" for p, o in zip(person, order, strict=True)],
            "participant": [ids[p] for p in person],
            "wave": "w1",
            "split": "test",
            "held_out": None,
            "question": "q",
            "order": order,
            "intervention": [
                None if o == 0 else f"arm {(p + o) % 3}" for p, o in zip(person, order, strict=True)
            ],
            "template": "default",
            "weight": rng.uniform(0.5, 2, people)[person] if weights else 1.0,
            "answer": answer,
            "answer_digit": pd.array([None] * len(person), dtype="Int64"),
            "low": 0,
            "high": 10,
            "step": 1,
            "labels": None,
        }
    )
    side = np.where(leaning < 5, "low", "high").astype(object)
    told = pd.DataFrame({"participant": ids, "side": side, "eye": np.resize(["blue", "brown", None], people)})
    masses = rng.dirichlet(np.ones(12), len(prompts)) + np.eye(12)[answer]
    masses = np.ones((len(prompts), 12)) / 12 if alike else masses / 2
    distributions = pd.DataFrame(
        {
            "prompt_id": prompts["prompt_id"],
            "temperature": 1.0,
            "probabilities": list(masses[:, :11].astype(np.float32)),
            "off_scale": 0.0,
            "no_number": masses[:, 11],
            "unexpanded": 0.0,
        }
    )
    return prompts, told, distributions, generations_of(prompts, masses, rng)


def generations_of(prompts, masses, rng):
    parts = []
    for replicate in range(REPLICATES):
        drawn = np.array([rng.choice(12, p=one / one.sum()) for one in masses])
        prose = drawn == 11
        said = np.where(prose, rng.integers(0, 14, len(drawn)), drawn)  # 11 to 13 are off the scale
        success = said <= 10
        parts.append(
            pd.DataFrame(
                {
                    "prompt_id": prompts["prompt_id"],
                    "participant": prompts["participant"],
                    "question": "q",
                    "temperature": 1.0,
                    "replicate": replicate,
                    "text": np.where(prose, "I say ", "") + said.astype(str).astype(object),
                    "answer": pd.array(np.where(success, said, 0), dtype="Int64"),
                    "success": success,
                    "made_by": np.where(prose, "decode", "distribution"),
                    "seed": 0,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(answer=table["answer"].mask(~table["success"]))


def asked_again(survey, times):
    """The survey in which each participant is there as often as `times` says, as people of their own."""
    prompts, people, distributions, generations = survey
    whose = prompts.set_index("prompt_id")["participant"]
    parts = [[], [], [], []]
    for copy in range(max(times.values())):
        there = {person for person, often in times.items() if often > copy}
        for part, table in zip(parts, (prompts, people, distributions, generations), strict=True):
            owner = table["participant"] if "participant" in table else table["prompt_id"].map(whose)
            kept = table[owner.isin(there)]
            names = [name for name in ("participant", "prompt_id") if name in kept]
            part.append(kept.assign(**{name: kept[name] + f"/{copy}" for name in names}))
    return tuple(pd.concat(part, ignore_index=True) for part in parts)


def everyone_alone(table):
    """The rows of everybody by point answer and measure."""
    return table[table["demographic"] == "all"].set_index(["point_answer", "measure"])
