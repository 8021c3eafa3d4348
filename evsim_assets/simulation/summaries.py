"""What is shown of a simulated population beside its tables: success rates, histograms, example texts.

Belongs here: Figures 6 to 8 and Table 8 of one adapter, from its own tables. Not here: agreement with the
humans and weighted histograms of all adapters (`metrics/`). Imports matplotlib in functions.

Each prompt counts alike here, whatever its survey weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evsim_assets.distances import BINS, rebin
from evsim_assets.figures.canvas import MODEL_COLOURS, as_text, panels, png
from evsim_assets.simulation.audit import AuditFound
from evsim_assets.specs.survey import DIGITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES = 3
"""Example texts of a kind."""
LINES = 6
"""Temperatures that are drawn in a histogram, spread over those there are."""
LOST = ["off_scale", "no_number", "unexpanded"]
KINDS = {
    ("distribution", True): "drawn from the distribution",
    ("decode", True): "decoded, with an answer",
    ("decode", False): "decoded, without an answer",
}


def success_rates(prompts: pd.DataFrame, distributions: pd.DataFrame) -> pd.DataFrame:
    """The mass of answers by temperature and question, and the masses lost (Figure 6).

    Returns:
        question | temperature | prompts | success_rate | off_scale | no_number | unexpanded, means over
        prompts; questions in the order of `prompts`. A text with no number at its beginning may still hold
        one, so a decoded population may succeed more often than this, by `no_number` at most.
    """
    table = _with_questions(prompts, distributions)
    table["success_rate"] = [float(np.sum(p, dtype=np.float64)) for p in table["probabilities"]]
    groups = table.groupby(["question", "temperature"], sort=False)
    rates = groups[["success_rate", *LOST]].mean()
    rates.insert(0, "prompts", groups.size())
    return rates.reset_index()


def drawn_rates(
    prompts: pd.DataFrame, generations: pd.DataFrame, distributions: pd.DataFrame
) -> pd.DataFrame:
    """How often generations have an answer, by question, beside the mass of answers (Figure 6).

    Returns:
        question | temperature | texts | success_rate | decoded (share of texts not drawn from the
        distribution) | mass_of_answers (of the distributions, at the generations' temperatures).
    """
    groups = generations.assign(decoded=generations["made_by"] != "distribution").groupby(
        ["question", "temperature"], sort=False
    )
    rates = groups[["success", "decoded"]].mean().rename(columns={"success": "success_rate"})
    rates.insert(0, "texts", groups.size())
    here = distributions[distributions["temperature"].isin(generations["temperature"].unique())]
    exact = success_rates(prompts, here).set_index(["question", "temperature"])["success_rate"]
    return rates.join(exact.rename("mass_of_answers")).reset_index()


def mean_distributions(
    prompts: pd.DataFrame, distributions: pd.DataFrame, *, digit_answers: bool
) -> pd.DataFrame:
    """Humans and model by question and answer (Figures 7 and 8).

    Returns:
        question | temperature | answer | human (share of the human answers to these prompts) | simulated
        (mean probability over prompts, summing to the success rate).
    """
    table = _with_questions(prompts, distributions)
    parts = []
    for question, of_one in prompts.groupby("question", sort=False):
        answers = _answers(of_one, digit_answers)
        given = of_one["answer_digit" if digit_answers else "answer"].to_numpy(dtype=float)
        human = (given[:, None] == answers).mean(axis=0)
        for temperature, read in table[table["question"] == question].groupby("temperature"):
            fitting = [p for p in read["probabilities"] if len(p) == len(answers)]
            columns = {"question": question, "temperature": temperature, "answer": answers, "human": human}
            parts.append(pd.DataFrame(columns | {"simulated": np.mean(fitting, axis=0, dtype=np.float64)}))
    return pd.concat(parts, ignore_index=True)


def examples(generations: pd.DataFrame, count: int = EXAMPLES) -> pd.DataFrame:
    """The first `count` texts of each kind (Table 8): kind | prompt_id | question | text | answer."""
    parts = []
    for kind, rows in _kinds(generations):
        shown = rows.drop_duplicates("text").head(count)
        parts.append(shown[["prompt_id", "question", "text", "answer"]].assign(kind=kind))
    columns = ["kind", "prompt_id", "question", "text", "answer"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def audit_note(found: AuditFound) -> dict[str, Any]:
    """What an audit found, as JSON."""
    lists = {"largest": found.largest.tolist(), "mean": found.mean.tolist()}
    return {"prompts": found.prompts, "random": found.random, "all_in_full": found.all_in_full, **lists}


def audit_summary(temperatures: Sequence[float], audits: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What the audits of all shards found (their notes), together: a row a temperature.

    Returns:
        temperature | prompts (read to their ends) | random (of those, drawn at random) | largest (most mass
        that may go on behind answers taken to end) | mean (over the random ones) | read_anew (shards that
        were read in full because of it).
    """
    drawn = [audit["random"] for audit in audits]
    return pd.DataFrame(
        {
            "temperature": list(temperatures),
            "prompts": sum(audit["prompts"] for audit in audits),
            "random": sum(drawn),
            "largest": np.max([audit["largest"] for audit in audits], axis=0),
            "mean": np.array(drawn) @ np.array([audit["mean"] for audit in audits]) / max(sum(drawn), 1),
            "read_anew": sum(audit["all_in_full"] for audit in audits),
        }
    )


def success_figure(rates: pd.DataFrame, *, title: str, simulated: bool) -> bytes:
    """Success rate over temperature, a line a question and a thick one for all (Figure 6), as PNG."""
    figure, axes = panels(["success rate"], title, simulated=simulated, columns=1, size=(6.0, 3.2))
    (axis,) = axes.values()
    by_question = rates.groupby("question", sort=False)
    named = by_question.ngroups <= len(MODEL_COLOURS)
    for nth, (question, rows) in enumerate(by_question):
        colour = MODEL_COLOURS[nth] if named else "#b0b0b0"
        label = as_text(str(question)) if named else None
        axis.plot(rows["temperature"], rows["success_rate"], "o-", color=colour, lw=1, ms=3, label=label)
    weighted = rates.assign(mass=rates["success_rate"] * rates["prompts"]).groupby("temperature")
    whole = weighted["mass"].sum() / weighted["prompts"].sum()
    axis.plot(whole.index, whole, color="black", linewidth=2, label="all questions")
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("temperature")
    axis.legend(fontsize=7)
    return png(figure)


def answers_figure(means: pd.DataFrame, questions: list[str], *, title: str, simulated: bool) -> bytes:
    """Humans as bars and the mean distribution at several temperatures as lines (Figures 7, 8), as PNG.

    Shares of what is answered, in the bins of KL; a line is lighter the higher its temperature.
    """
    figure, axes = panels(questions, title, simulated=simulated, columns=2, size=(4.2, 2.6))
    for question, axis in axes.items():
        _draw(axis, means[means["question"] == question])
    figure.supxlabel("answer", fontsize=9)
    figure.supylabel("share of answers", fontsize=9)
    return png(figure)


def _draw(axis: Axes, means: pd.DataFrame) -> None:
    temperatures = sorted(means["temperature"].unique())
    shown = {temperatures[i] for i in np.linspace(0, len(temperatures) - 1, LINES).round().astype(int)}
    first = means[means["temperature"] == temperatures[0]]
    bins = min(BINS, len(first))
    centres = np.linspace(first["answer"].min(), first["answer"].max(), bins)
    width = 0.86 * (centres[1] - centres[0])
    axis.bar(centres, rebin(first["human"].to_numpy(), bins), width, color="#c4c4c4", label="humans (test)")
    for nth, temperature in enumerate(sorted(shown)):
        mass = rebin(means.loc[means["temperature"] == temperature, "simulated"].to_numpy(), bins)
        if mass.sum() > 0:
            colour = (0.0, 0.45 * nth / len(shown) + 0.2, 0.7, 1 - 0.7 * nth / len(shown))
            axis.plot(centres, mass / mass.sum(), color=colour, lw=1.2, label=f"T={temperature:g}")
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6)


def _with_questions(prompts: pd.DataFrame, distributions: pd.DataFrame) -> pd.DataFrame:
    """The distributions of `prompts` with their `question`, in the prompts' order."""
    place = pd.Index(prompts["prompt_id"]).get_indexer(pd.Index(distributions["prompt_id"]))
    table = distributions.assign(place=place)[place >= 0].sort_values("place", kind="stable")
    return table.assign(question=prompts["question"].to_numpy()[table["place"]])


def _answers(prompts: pd.DataFrame, digit_answers: bool) -> npt.NDArray[np.int64]:
    """Every answer of a question's scale, that of its first prompt."""
    if digit_answers:
        return np.asarray(DIGITS.answers)
    low, high, step = (int(prompts.iloc[0][name]) for name in ("low", "high", "step"))
    return np.arange(low, high + 1, step)


def _kinds(generations: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    for (made_by, success), rows in generations.groupby(["made_by", "success"], sort=False):
        told = "with an answer" if success else "without an answer"
        yield KINDS.get((str(made_by), bool(success)), f"{made_by}, {told}"), rows
