"""A survey small enough to train on in a second: what people answer follows from their party."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from evsim_assets.specs.study import AdapterSpec, LossSpec, TrainingSpec


def prompts(
    train: int = 8, validation: int = 4, questions: int = 3, validation_answer: int | None = None
) -> pd.DataFrame:
    """The prompts table. With `validation_answer` all of validation gives it, whatever the party."""
    rows = []
    for number in range(train + validation):
        red = number % 2 == 0
        for order in range(questions):
            answer = (80 if red else 20) + 10 * (order % 2)
            if number >= train and validation_answer is not None:
                answer = validation_answer
            rows.append(
                {
                    "prompt_id": f"p{number}-{order}",
                    "participant": f"p{number}",
                    "wave": "w1",
                    "split": "train" if number < train else "validation",
                    "held_out": None,
                    "question": f"q{order}",
                    "order": order,
                    "intervention": None,
                    "template": "default",
                    "weight": 1.0,
                    "answer": answer,
                    "answer_digit": int(np.floor(9 * answer / 100 + 0.5)),
                    "low": 0,
                    "high": 100,
                    "step": 1,
                    "labels": None,
                    "system": f"You are a person. {{party: {'red' if red else 'blue'}, age: {30 + number}}}",
                    "user": f"Question {order}: how likely, from 0 to 100?",
                    "user_digit": f"Question {order}: how likely, from 0 to 9?",
                    "target": str(answer),
                    "target_digit": str(int(np.floor(9 * answer / 100 + 0.5))),
                }
            )
    return pd.DataFrame(rows)


WORDS = ("No", "Probably not", "Probably", "Yes")


def worded_prompts() -> pd.DataFrame:
    """The same people; the last question is answered by label, 1 to 4."""
    table = prompts()
    last = table["order"] == 2
    answer = (table["answer"] > 50) * 3 + 1
    table.loc[last, ["low", "high", "labels"]] = [1, 4, json.dumps(WORDS)]
    table.loc[last, ["answer_digit", "user_digit", "target_digit"]] = None
    table.loc[last, "answer"] = answer[last]
    table.loc[last, "target"] = answer[last].map(lambda a: WORDS[a - 1])
    return table


def adapter(method: str = "lora", **changes: object) -> AdapterSpec:
    training = {
        "rank": 4,
        "learning_rate": 5e-3,
        "batch_size": 6,
        "epochs": 4,
        "evaluations_per_epoch": 1,
        **{name: changes.pop(name) for name in list(changes) if name in TrainingSpec.model_fields},
    }
    return AdapterSpec.model_validate({"model": "s", "method": method, "training": training, **changes})


PENALTY = LossSpec(alpha=0.5, d=3)
