"""What is on the page, section by section: pictures and tables with the words beneath them.

Belongs here: which pictures and tables stand together, their order, their captions. Not here: drawing,
writing numbers (`tables.py`, `agreement_tables.py`), markup (`page.py`).
"""

from __future__ import annotations

import pandas as pd

from evsim_assets.adapters.curve import learning_curve_figure
from evsim_assets.metrics.effects_figure import effects_figure
from evsim_assets.metrics.figures import bias_figure, discriminability_figure
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.reports.agreement_tables import (
    bias_rows,
    comparison_rows,
    discriminability_rows,
    effect_rows,
)
from evsim_assets.reports.chosen_rows import AT_CHOSEN, beside
from evsim_assets.reports.page import Picture, Section, Table
from evsim_assets.reports.rmse_kl import rmse_kl_figure
from evsim_assets.reports.tables import (
    RMSE_LEGEND,
    baseline_rows,
    floor_rows,
    null_rows,
    published_rows,
    scoreboard_rows,
)

EFFECT_QUESTIONS = 6
"""Questions whose effects are drawn, the first; the table has all of them."""


def agreement(
    board: pd.DataFrame,
    shown: pd.DataFrame,
    chosen: pd.DataFrame,
    curves: pd.DataFrame,
    floors: pd.DataFrame,
    comparisons: pd.DataFrame,
    published: pd.DataFrame | None,
    *,
    title: str,
    simulated: bool,
) -> Section:
    """Populations and individuals: the RMSE–KL plane, the scoreboard, who is closer than whom.

    Args:
        shown: the rows of `board` in its table. chosen: of `metrics.chosen.chosen_temperatures`.
    """
    parts: list[Picture | Table] = []
    for scale in dict.fromkeys(board["answers"]):
        native = scale == "native"
        png = rmse_kl_figure(
            board,
            curves,
            floors,
            title=title,
            simulated=simulated,
            answers=scale,
            paper=published if native else None,
        )
        heading = "RMSE and KL" if native else f"RMSE and KL, answers: {scale}"
        file = "rmse_kl.png" if native else f"rmse_kl_{scale}.png"
        parts.append(Picture(heading, PLANE, png, file))
    parts.append(
        Table(
            "Scoreboard",
            f"{AT_CHOSEN} All temperatures are in the table scoreboard. Floors are what two samples of humans"
            " differ by; the gap closed is 0 % at the uniform null, 100 % at the floor, negative beyond the"
            f" null. {RMSE_LEGEND}",
            scoreboard_rows(shown),
        )
    )
    if len(comparisons):
        parts.append(
            Table(
                "Who is closer to the humans",
                "Pairs of adapters on the same participants, at the temperature chosen on validation for the"
                " one that is better there; differences with 95 % intervals. “neither” where the interval"
                " holds 0: no difference was shown, which is not equality. Of many pairs, some intervals miss"
                " by chance: one in twenty.",
                comparison_rows(comparisons, chosen),
            )
        )
    if published is not None:
        parts.append(
            Table(
                "Published results",
                "Shown beside ours, of other models or other answers; nothing is tuned to them.",
                published_rows(published),
            )
        )
    return Section("Agreement", parts)


PLANE = (
    "KL of the answer distribution against RMSE of one answer a person; both are better when smaller. RMSE"
    " depends on how that answer is read: drawn, or the mean or median of the person's distribution. KL does"
    " not: the model's population is the distribution itself, whichever answer is read from it, so a model"
    " may be right of people on the average and of the population at once. SVR and CatBoost predict one"
    " answer a person, and that answer is their population too; other baselines are read in the same ways."
    " Rings: the settings best on validation. Light bars are 95 % intervals over"
    " participants; of KL they have the excess that few people cause taken off, so a point may stand to"
    " the right of its own. In the band, a model is no further from these humans than other humans are."
)


def answers(board: pd.DataFrame, histograms: pd.DataFrame, *, title: str, simulated: bool) -> Section:
    """A histogram a question, at the highest temperature."""
    hottest = float(board["temperature"].max())
    caption = f"Shares of human and simulated answers at temperature {hottest:g}."
    parts = []
    for question in dict.fromkeys(histograms["question"]):
        png = histogram_figure(histograms, question, hottest, title=title, simulated=simulated)
        parts.append(Picture(f"Answers to “{question}”", caption, png, f"histogram_{question}.png"))
    return Section("Answers", parts)


def interventions(
    shown: pd.DataFrame,
    effects: pd.DataFrame,
    effect_agreement: pd.DataFrame,
    *,
    title: str,
    simulated: bool,
) -> Section:
    """Human against simulated effects, and how well they agree. Empty without effects."""
    if not len(effects):
        return Section("Interventions", [])
    drawn = beside(effects, shown)
    measured = beside(effect_agreement, shown) if len(effect_agreement) else effect_agreement
    parts: list[Picture | Table] = []
    questions = list(dict.fromkeys(drawn["question"]))
    cut = ""
    if len(questions) > EFFECT_QUESTIONS:
        cut = f" Drawn are the first {EFFECT_QUESTIONS} of {len(questions)} questions; the table has all."
    for question in questions[:EFFECT_QUESTIONS]:
        png = effects_figure(
            drawn[drawn["question"] == question],
            measured,
            title=f"{title}: intervention effects on {question}",
            simulated=simulated,
        )
        caption = (
            "Each point is an intervention: how far it moves the humans' mean answer, and the model's. On the"
            f" dashed line both move alike. {AT_CHOSEN}{cut}"
        )
        parts.append(Picture(f"Effects on “{question}”", caption, png, f"effects_{question}.png"))
    if len(measured):
        parts.append(
            Table(
                "Agreement of effects",
                "Correlation and slope are 1 where simulated effects equal human ones; without noise: what"
                " they would be with very many people in each arm. Sign accuracy counts interventions whose"
                " human effect is more than chance. Regret is what is lost, in scale units, by choosing the 1"
                " or 3 interventions that the model finds strongest; even a perfect model loses something."
                f" Held-out interventions were never trained on. {AT_CHOSEN}",
                effect_rows(measured),
            )
        )
    return Section("Interventions", parts)


def groups(shown: pd.DataFrame, bias: pd.DataFrame, *, title: str, simulated: bool) -> Section:
    """Whether the model exaggerates or levels out what groups differ by. Empty without the table."""
    if not len(bias):
        return Section("Groups", [])
    drawn = beside(bias, shown)
    parts: list[Picture | Table] = []
    for measure in dict.fromkeys(drawn["measure"]):
        png = bias_figure(drawn, title=f"{title}: group differences", simulated=simulated, measure=measure)
        caption = (
            f"Spread between a demographic's groups ({measure}), simulated over human: above 1 the model"
            f" exaggerates the difference, below 1 it levels it out. {AT_CHOSEN}"
        )
        parts.append(Picture(f"Amplification of differences: {measure}", caption, png, f"bias_{measure}.png"))
    parts.append(
        Table(
            "Amplification of differences",
            "How many demographics are levelled out (the interval lies below 1) or exaggerated (above 1), and"
            " the two farthest. Every demographic is in the table bias.",
            bias_rows(drawn),
        )
    )
    return Section("Groups", parts)


def telling_apart(
    shown: pd.DataFrame, discriminability: pd.DataFrame, *, title: str, simulated: bool
) -> Section:
    """Whether a classifier can tell simulated answers from human ones. Empty without the table."""
    if not len(discriminability):
        return Section("Telling them apart", [])
    png = discriminability_figure(
        discriminability, title=f"{title}: can one tell them apart?", simulated=simulated
    )
    caption = (
        "A classifier sees demographics and answers and says which are simulated. AUC 0.5: it cannot tell; 1:"
        " it always can."
    )
    return Section(
        "Telling them apart",
        [
            Picture("AUC by temperature", caption, png, "discriminability.png"),
            Table(
                "Telling model from humans",
                "p: how often labels shuffled at random are told apart as well. A classifier that finds"
                f" nothing is no proof that there is nothing. {AT_CHOSEN}",
                discriminability_rows(beside(discriminability, shown)),
            ),
        ],
    )


def noise_and_nulls(floors: pd.DataFrame, nulls: pd.DataFrame) -> Section:
    """What is noise, and what one would score knowing nothing."""
    return Section(
        "Noise and null models",
        [
            Table(
                "Noise floors",
                "Each measure between two disjoint samples of humans of the test split's size.",
                floor_rows(floors),
            ),
            Table(
                "Null models",
                "What knowing nothing, the population, or the person's demographic cell alone would score.",
                null_rows(nulls),
            ),
        ],
    )


def baselines(chosen: pd.DataFrame) -> Section:
    """The baselines chosen on validation."""
    caption = (
        "The setting of each algorithm that is best on validation, by KL and by RMSE, with its test figures."
        " SVR and CatBoost predict one answer a person (reading: point); of the others, which give a"
        " distribution, RMSE and MAE are of its mean, its median or one draw (sample)."
    )
    return Section("Baselines", [Table("Chosen baselines", caption, baseline_rows(chosen))])


def training(learning_curves: pd.DataFrame, *, title: str, simulated: bool) -> Section:
    """Learning curves; empty where nothing was trained."""
    if not len(learning_curves):
        return Section("Training", [])
    png = learning_curve_figure(learning_curves, title=f"{title}: learning curves", simulated=simulated)
    caption = (
        "Loss by epoch, as trained (with a penalty it is on another scale); the checkpoint kept is the one of"
        " the lowest validation loss."
    )
    return Section("Training", [Picture("Learning curves", caption, png, "learning_curves.png")])
