"""What `evsim survey new`, `check` and `add` print.

Belongs here: figures and prompts as text of a terminal. Not here: the figures (`surveys/look.py`,
`prompts/preview.py`), the commands (`survey_cli.py`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from evsim_assets.console import console, short
from evsim_assets.specs.questions import unfolded

if TYPE_CHECKING:
    from pathlib import Path

    from evsim_assets.drafting.draft import Draft
    from evsim_assets.prompts.preview import PreviewedPrompt
    from evsim_assets.specs.survey import SurveySpec
    from evsim_assets.surveys.look import Answers, Look, Unusable

BARS = 11
"""Lines of a histogram; a scale with more answers is shown in as many parts."""

BAR_WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉█"
HEIGHTS = " ▁▂▃▄▅▆▇█"

STATES = ("known", "missing", "refused", "quarantined")
"""What a demographic can be in a row."""

FEW_OF_A_TABLE = 3
"""Questions of one question table that are shown in full."""


def say(text: str, style: str | None = None) -> None:
    """Text as it is, however long its lines."""
    console.print(escape(text), style=style, highlight=False, soft_wrap=True)


def show_survey(survey: SurveySpec) -> None:
    """The codebook in a few lines."""
    simulated = "  [yellow](simulated)[/]" if survey.simulated else ""
    console.print(f"{survey.name}: {escape(survey.title)}{simulated}", highlight=False, soft_wrap=True)
    say(f"  {len(survey.demographics)} demographics, {len(survey.questions)} questions; codebook is valid")
    one = "each row is a person" if survey.participant is None else f"a person is one {survey.participant!r}"
    again = survey.duplicates
    several = (
        ""
        if survey.participant is None
        else (f"; several rows of one in a wave: {again.within_wave}; in several waves: {again.across_waves}")
    )
    say(f"  {one}{several}")


def show_idle(patterns: Sequence[tuple[str, str]]) -> None:
    """Names and patterns of waves in the codebook (field, pattern) that are of no wave there is."""
    for field, pattern in patterns:
        none = "no wave is so late" if field.endswith(".since") else "no wave is called so"
        say(f"  note: {field}: {pattern!r}: {none}; is it misspelt, or still to come?")


def show_refusals(look: Look, limit: float) -> None:
    """What of the wave will keep a run from using it: too many cells in quarantine."""
    counts, repeated = look.cleaned.counts, look.cleaned.repeated
    quarantined, cells = counts["quarantined"] - repeated, counts["cells"] - repeated
    over = [f"{quarantined:,} of {cells:,} answer cells"] if quarantined > limit * cells else []
    names = {d.slug: d.name for d in look.survey.demographics}
    for told in look.cleaned.demographics:
        people = sum(told[state] for state in STATES)
        if told["quarantined"] > limit * people:
            over.append(f"{told['quarantined']:,} of {people:,} cells of {names[told['demographic']]!r}")
    for share in over:
        say(f"  a run will refuse this wave: {share} are in quarantine, more than {limit:.0%}", "yellow")


def show_look(look: Look, tables: Mapping[str, Sequence[str]]) -> None:
    """Everything that there is in a wave, but for the prompts; `tables` as of `question_tables`."""
    counts = look.cleaned.counts
    console.print()
    say(f"wave {look.wave}: {look.rows:,} rows, {look.cleaned.people:,} participants with an answer", "bold")
    say(
        f"  {counts['cells']:,} answer cells = {counts['used']:,} used + {counts['missing']:,} missing"
        f" + {counts['quarantined']:,} quarantined"
    )
    for unusable in look.unusable:
        _show_unusable(unusable, short(look.file))
    _show_demographics(look)
    if look.survey.weight:
        say(f"  weighted by {look.survey.weight!r}")
    for held in look.held_out:
        say(f"  held out: {held.what} ({held.answers:,} answers)")
    _show_answers(look, tables)


def _show_unusable(found: Unusable, file: Path | str) -> None:
    said = []
    for value in found.values:
        at = f"row {value.row:,}" + (f", line {value.line:,}" if value.line else "")
        many = f"{value.count:,} times, first in {at}" if value.count > 1 else at
        said.append(f"{value.value[:60]!r} ({many})")
    more = (
        f" and {found.different - len(found.values):,} other values"
        if found.different > len(found.values)
        else ""
    )
    console.print(
        f"  [yellow]quarantine:[/] {escape(str(file))}: {escape(found.column)}: {escape(found.reason)}:"
        f" {found.count:,} in all\n"
        f"    {escape(', '.join(said))}{more}\n"
        f"    Remedy: {escape(found.remedy)}",
        soft_wrap=True,
        highlight=False,
    )


def _show_demographics(look: Look) -> None:
    table = Table("  demographics", *STATES, box=None, pad_edge=False, header_style="")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    names = {d.slug: d.name for d in look.survey.demographics}
    for told in look.cleaned.demographics:
        shown = [f"{told[state]:,}" if told[state] else "·" for state in STATES]
        table.add_row(f"    {escape(names[told['demographic']])}", *shown)
    console.print(table, highlight=False)


def _show_answers(look: Look, tables: Mapping[str, Sequence[str]]) -> None:
    by_id = {answers.question.id: answers for answers in look.answers}
    shown: set[str] = set()
    for answers in look.answers:
        members = [id for id in tables[answers.question.id] if id in by_id]
        if answers.question.id in shown:
            continue
        if len(members) > FEW_OF_A_TABLE:
            _show_compact([by_id[id] for id in members])
            shown |= set(members)
        else:
            _show_histogram(answers)


def question_tables(survey: SurveySpec) -> dict[str, list[str]]:
    """For every question, the ids of all questions of its question table; its own if it is of none."""
    tables = [[q.id for q in unfolded(entry, survey.folder)] for entry in survey.written]
    return {id: table for table in tables for id in table}


def _heading(answers: Answers) -> str:
    scale = answers.question.answer_scale
    mean = f", mean {answers.mean:.2f}" if answers.given else ""
    return f"({scale.low}–{scale.high}): {answers.given:,} answers{mean}"


def _show_histogram(answers: Answers) -> None:
    """One line an answer, or a part of a wide scale: what it is, how many, a bar."""
    say(f"  {answers.question.id} {_heading(answers)}")
    labels, bars = answers.question.labels, answers.bars(BARS)
    ranges = [f"{first}" if first == last else f"{first}–{last}" for first, last, _ in bars]
    width, most = max(map(len, ranges)), max((n for *_, n in bars), default=0)
    wide = max((len(f"{n:,}") for *_, n in bars), default=1)
    room = console.width - 4 - width - wide - 4 - BAR_WIDTH if labels else 0
    words = min(max(map(len, labels), default=0), room)
    for place, (shown, (_, _, count)) in enumerate(zip(ranges, bars, strict=True)):
        label = f"  {_cut(labels[place], words):<{words}}" if labels and len(labels) == len(bars) else ""
        say(f"    {shown:>{width}}{label}  {count:>{wide},} {_bar(count, most)}".rstrip())


def _show_compact(rows: Sequence[Answers]) -> None:
    """A question table: one line a question, with a histogram of one character an answer."""
    width = max(len(row.question.id) for row in rows)
    wide = max(len(f"{row.given:,}") for row in rows)
    scale = rows[0].question.answer_scale
    labels = rows[0].question.labels
    ends = f" ({_cut(labels[0], 30)} … {_cut(labels[-1], 30)})" if labels else ""
    say(f"  {len(rows)} questions on {scale.low}–{scale.high}{ends}:")
    for row in rows:
        bars = [count for *_, count in row.bars(BARS)]
        drawn = "".join(HEIGHTS[_part(count, max(bars), 8)] for count in bars)
        mean = f"{row.mean:6.2f}" if row.given else "     –"
        say(f"    {row.question.id:<{width}}  {row.given:>{wide},} answers  mean {mean}  ▕{drawn}▏")


def _part(count: int, most: int, parts: int) -> int:
    """How many of `parts` the count is of the most; never none for a count that is not."""
    return max(round(parts * count / most), 1) if count else 0


def _bar(count: int, most: int) -> str:
    full, rest = divmod(_part(count, most, 8 * BAR_WIDTH), 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def shown_prompts(
    survey: SurveySpec, tables: Mapping[str, Sequence[str]], few: bool
) -> tuple[list[str], dict[str, int]]:
    """The questions whose prompt is shown, and for how many more of its table one stands."""
    if not few:
        return [q.id for q in survey.questions], {}
    chosen, more = list[str](), dict[str, int]()
    for question in survey.questions:
        members = tables[question.id]
        place = members.index(question.id)
        if place < FEW_OF_A_TABLE:
            chosen.append(question.id)
        elif place == FEW_OF_A_TABLE:
            more[members[place - 1]] = len(members) - place
    return chosen, more


def show_prompts(survey: SurveySpec, prompts: Sequence[PreviewedPrompt], more: dict[str, int]) -> None:
    """Prompts with the humans' answers."""
    if not prompts:
        return
    console.print()
    say("prompts, one a question, with the human's answer:", "bold")
    questions = {question.id: question for question in survey.questions}
    system = ""
    for prompt in prompts:
        after = f", after intervention {prompt.intervention}" if prompt.intervention is not None else ""
        held = f", held out ({prompt.held_out})" if prompt.held_out else ""
        say(f"  {prompt.question}{after}{held}")
        _show_text("system", "(as above)" if prompt.system == system else prompt.system)
        _show_text("user", prompt.user)
        question = questions[prompt.question]
        meant = ""
        if question.labels and prompt.target == str(prompt.answer):
            scale = question.answer_scale.answers
            meant = f"  ({question.labels[scale.index(prompt.answer)]})"
        _show_text("answer", prompt.target + meant)
        system = prompt.system
        if count := more.get(prompt.question):
            say(f"  … and {count:,} more of this kind")


def _show_text(who: str, text: str) -> None:
    width = max(console.width - 14, 20)
    lines = [part for line in text.splitlines() or [""] for part in textwrap.wrap(line, width) or [""]]
    for number, line in enumerate(lines):
        console.print(
            f"    [dim]{who if not number else '':>6} │[/] {escape(line)}", highlight=False, soft_wrap=True
        )


def show_draft(draft: Draft, survey: SurveySpec, where: Path, check: str) -> None:
    """What was drafted, what a person has to look at, and what comes next."""
    say(f"wrote {where}", "bold")
    say(
        f"  {len(survey.demographics)} demographics, {len(survey.questions)} questions;"
        f" {len(draft.unused)} of the file's columns not used{' (listed at its end)' if draft.unused else ''}"
    )
    if draft.checks:
        say(f"  {len(draft.checks)} lines to look at, marked CHECK:")
        for line, said, todo in draft.checks:
            say(f"  {line:>5}  {_cut(said, 42):<42}  {_cut(todo, max(console.width - 53, 30))}".rstrip())
    say(f"next: correct them, then: {check}")
