"""Splits, what is held out, prompts and their lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evsim_assets.prompts.assets import _leak, _too_long
from evsim_assets.prompts.chat import render
from evsim_assets.prompts.lengths import require_within_context, token_lengths
from evsim_assets.prompts.render import build_prompts
from evsim_assets.prompts.separation import separation_problems
from evsim_assets.specs.study import Sample, StudySpec
from evsim_assets.specs.survey import SurveySpec, read_survey
from evsim_assets.surveys.landing import intervention_texts
from evsim_assets.surveys.responses import merge_waves
from evsim_assets.surveys.splits import split_participants
from tests.errors.situation import CODEBOOK, Situation, cleaned, codebook_with, in_codebook, put_survey

MODEL = Path(__file__).resolve().parents[2] / "data" / "models" / "s"
SPLITS = "splits: {train: 0.8, validation: 0.1, test: 0.1}"
STUDY = StudySpec.model_validate(
    {
        "name": "my_study",
        "survey": "snacks",
        "title": "Snacks",
        "models": {"s": {"path": str(MODEL)}},
        "training": {"epochs": 1, "rank": 8},
        "adapters": [{"models": ["s"], "method": "pretrained"}],
        "temperatures": [0],
    }
)


def _stages(root: Path, codebook: str = CODEBOOK, people: int = 60) -> tuple[SurveySpec, Path, Path]:
    """The survey with the responses and splits of so many people."""
    survey = read_survey(put_survey(root, codebook))
    rows = [
        f"p{n},{'Rural' if n % 3 else 'Urban'},{20 + n},{n},{'often,ham' if n % 2 else 'never,jam'}"
        for n in range(people)
    ]
    made = cleaned(root, survey, "\n".join(["person,area,years,q1,q2,read", *rows]) + "\n")
    responses = merge_waves([made.answers], survey, root).responses
    split_participants(responses, survey, root / "splits.parquet")
    return survey, responses, root / "splits.parquet"


def _prompts(
    root: Path,
    survey: SurveySpec,
    responses: Path,
    splits: Path,
    sample: Sample | None = None,
) -> Path:
    texts = intervention_texts(survey)
    build_prompts(responses, splits, survey, ["default"], sample, root / "prompts.parquet", texts)
    return root / "prompts.parquet"


def _later(title: str, old: str, new: str, shown: str | None = None) -> Situation:
    """The codebook changed after the survey's tables were made."""

    def make(root: Path) -> object:
        _, responses, splits = _stages(root)
        survey = read_survey(put_survey(root, codebook_with(old, new)))
        return _prompts(root, survey, responses, splits)

    return Situation(title, (("yaml", shown or new),), make)


def _of(title: str, language: str, shown: str, make: Callable[[Path], object]) -> Situation:
    return Situation(title, ((language, shown),), make)


def _few_people(root: Path) -> object:
    return _prompts(root, *_stages(root, people=2))


def _large_sample(root: Path) -> object:
    return _prompts(root, *_stages(root), sample=Sample(train=20, validation=4, test=500))


def _without_split(root: Path) -> object:
    survey, responses, splits = _stages(root)
    table = pq.read_table(splits)
    pq.write_table(table.filter(pc.greater(table["rank"], 0.1)), splits)
    return _prompts(root, survey, responses, splits)


def _text_gone(root: Path) -> object:
    survey, responses, splits = _stages(root)
    put_survey(root, texts_csv="id,text\nham,Ham is cheap.\n")
    return _prompts(root, survey, responses, splits)


def _not_apart(root: Path) -> object:
    """Prompts whose splits somebody wrote over: everything is called training."""
    cells = "[{living area: [Urban]}]"
    held = f"{SPLITS}\nheld_out: {{questions: [hunger], interventions: [ham], cells: {cells}}}"
    survey, responses, splits = _stages(root, codebook_with(SPLITS, held))
    prompts = pq.read_table(_prompts(root, survey, responses, splits))
    names = [
        f"{name}-x" if place == 0 else name for place, name in enumerate(prompts["participant"].to_pylist())
    ]
    split = ["train" if place % 2 else "validation" for place in range(prompts.num_rows)]
    written = prompts.set_column(1, "participant", pa.array(names))
    written = written.set_column(written.column_names.index("split"), "split", pa.array(split))
    pq.write_table(written, root / "prompts.parquet")
    people = pq.read_table(splits)
    moved = people.set_column(1, "split", pa.array(["test"] * people.num_rows))
    pq.write_table(pa.concat_tables([people, moved.cast(people.schema)]), splits)
    problems = separation_problems(root / "prompts.parquet", splits, responses, survey)
    return str(_leak(STUDY, problems))


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast  # unlike AutoTokenizer, this needs no torch

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(MODEL), local_files_only=True)
    tokenizer.name_or_path = "data/models/s"
    return tokenizer


def _chat(template: str | None) -> object:
    tokenizer = _tokenizer()
    tokenizer.chat_template = template
    return render(tokenizer, "You are {age: young}", "How hungry?", "40")


def _long(root: Path) -> object:
    lengths = token_lengths(_prompts(root, *_stages(root)), _tokenizer(), "s", 20)
    over = lengths[(lengths["question"] == "all") & (lengths["over_context"] > 0)]
    assert len(over) == 1
    return str(_too_long(STUDY, over))


def _too_long_to_train(root: Path) -> object:
    prompts = _prompts(root, *_stages(root))
    return require_within_context(pd.read_parquet(prompts), _tokenizer(), "s", 20)


TWICE = (
    "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}Score: {% endif %}"
)

SPLITTING = [
    in_codebook("The split fractions do not sum to one", "train: 0.8", "train: 0.7"),
    in_codebook(
        "A held-out cell of an unknown demographic",
        SPLITS,
        f"{SPLITS}\nheld_out: {{cells: [{{gender: [Woman]}}]}}",
    ),
    in_codebook(
        "A held-out cell with an unknown option",
        SPLITS,
        f"{SPLITS}\nheld_out: {{cells: [{{living area: [Town]}}]}}",
    ),
    in_codebook("A held-out question that is none", SPLITS, f"{SPLITS}\nheld_out: {{questions: [thirst]}}"),
    _later(
        "A held-out intervention that is none",
        SPLITS,
        f"{SPLITS}\nheld_out: {{interventions: [spam]}}",
        "held_out: {interventions: [spam]}",
    ),
    _of("Too few people for three splits", "text", "(a wave of two participants)", _few_people),
    _of(
        "The sample is larger than the survey",
        "yaml",
        "sample: {train: 20, validation: 4, test: 500}    # of a study",
        _large_sample,
    ),
    _of("Participants are in no split", "text", "(new responses, and the splits of before)", _without_split),
    _of(
        "Splits that are not apart",
        "text",
        "(tables that somebody wrote over; each problem comes alone as well)",
        _not_apart,
    ),
]

PROMPTS = [
    _later(
        "The question's scale changed after cleaning",
        "scale: {low: 0, high: 100}",
        "scale: {low: 0, high: 10}",
    ),
    _later("The question is not in the codebook any more", "id: hunger", "id: appetite"),
    _of(
        "An intervention that was read is not in the table any more",
        "text",
        "id,text\nham,Ham is cheap.    # and no jam",
        _text_gone,
    ),
    _of(
        "The tokenizer has no chat template",
        "text",
        "(a base model, and no chat_template.jinja)",
        lambda root: _chat(None),
    ),
    _of(
        "The chat template changes the prompt when an answer follows",
        "text",
        TWICE,
        lambda root: _chat(TWICE),
    ),
    _of("A prompt is longer than the model's context", "text", "(a model that reads 20 tokens)", _long),
    _of(
        "An adapter's prompts are longer than its model's context",
        "text",
        "(a model that reads 20 tokens)",
        _too_long_to_train,
    ),
]

SITUATIONS = [*SPLITTING, *PROMPTS]
