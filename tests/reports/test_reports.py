"""Tables say what they do not know, and pages escape and say SIMULATED."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from evsim_assets.reports.chosen_rows import beside, chosen_rows
from evsim_assets.reports.chosen_section import chosen_section
from evsim_assets.reports.page import Picture, Section, Table, render_page
from evsim_assets.reports.summary import print_summary, summary_table
from evsim_assets.reports.tables import (
    baseline_rows,
    floor_rows,
    null_rows,
    percent,
    scoreboard_notes,
    scoreboard_rows,
    with_interval,
)

PNG = b"\x89PNG"


def test_the_scoreboard_writes_a_dash_where_nothing_is_known(board):
    rows = scoreboard_rows(board())
    assert len({len(row) for row in rows}) == 1
    assert rows[1][:4] == ["s~pretrained", "0.0", "q", "—"]
    assert rows[4][3] == "0.020"


def test_the_scoreboard_names_each_best_baseline_and_tells_draws_from_means(board):
    header, first, *_ = scoreboard_rows(board())
    shown = dict(zip(header, first, strict=True))
    assert (shown["best baseline KL"], shown["best baseline RMSE"]) == ("0.500 (random)", "0.50 (svr)")
    assert {"RMSE", "RMSE of mean"} <= set(header)
    unknown = board().assign(best_baseline_kl=None, best_baseline_kl_by=None)
    assert "—" in scoreboard_rows(unknown)[1]


def test_the_terminal_s_table_is_whole_on_a_narrow_terminal_and_names_baselines(board, temperatures):
    written = io.StringIO()
    print_summary(
        Console(file=written, width=60),
        board().assign(rmse_mean=30.5, best_baseline_rmse=28.06),
        temperatures,
        study="small",
        survey="ev_shift",
        simulated=True,
        report=Path("reports"),
    )
    lines = written.getvalue().splitlines()
    (row,) = [line for line in lines if line.startswith("s~qlora")]
    assert " ".join(row.split()) == "s~qlora q 0 0.500 0.500 0.50 0.50 31.0 30.5 1.000 0.500 random 28.1 svr"
    assert max(map(len, lines)) <= 118 and "…" not in written.getvalue()
    said = " ".join(lines)
    for part in (
        "lowest KL on validation",
        "SIMULATED",
        "of mean",
        "one drawn answer",
        "predict one answer a person",
    ):
        assert part in said


def test_intervals_stand_behind_their_values(board):
    table = board().assign(kl_low=[np.nan, 0.8, 0.4, 0.01], kl_high=[np.nan, 1.0, 0.6, 0.04])
    rows = scoreboard_rows(table)
    assert [row[3] for row in rows[1:]] == [
        "—",
        "0.900 [0.800, 1.000]",
        "0.500 [0.400, 0.600]",
        "0.020 [0.010, 0.040]",
    ]
    assert with_interval(0.5, np.nan, np.nan) == "0.50"


def test_the_first_rows_are_those_chosen_on_validation_whatever_test_says(board, temperatures):
    shown = chosen_rows(board(), temperatures)
    assert list(zip(shown["adapter"], shown["temperature"], strict=True)) == [
        ("s~pretrained", 1.0),
        ("s~qlora", 0.0),
    ]
    assert chosen_rows(board().assign(kl=np.nan), temperatures).index.equals(shown.index)
    assert chosen_rows(board(), temperatures[:0])["temperature"].tolist() == [0.0, 0.0]
    other = board()[["adapter", "temperature", "question"]].assign(value=[1, 2, 3, 4])
    assert beside(other, shown)["value"].tolist() == [2, 3]


def test_the_chosen_adapters_have_their_test_figures_beside_those_of_validation(board, choices):
    table = board().assign(rmse_mean=[np.nan, 29.0, 31.0, 30.0], kl_low=0.4, kl_high=0.95)
    (part,) = chosen_section(choices, table).parts
    by_kl, near = (dict(zip(part.rows[0], row, strict=True)) for row in part.rows[1:])
    assert (by_kl["adapter"], by_kl["T"], by_kl["answer"]) == ("s~qlora", "0.0", "sample")
    assert (by_kl["validation KL"], by_kl["test KL"]) == ("0.100", "0.500 [0.400, 0.950]")
    assert (by_kl["validation RMSE"], by_kl["test RMSE"]) == ("32.00", "31.00")
    assert (near["validation RMSE"], near["test RMSE"]) == ("29.50", "29.00")
    assert near["test CRPS"] == "—" and near["prompts"] == "10"
    assert chosen_section(choices[:0], table).parts == []


def test_nulls_and_floors_are_shown_for_everybody_with_a_dash_for_what_is_missing(floors):
    null = {"null": "uniform", "question": "q", "answers": "native", "demographic": "all", "level": "all"}
    nulls = pd.DataFrame(
        [
            {**null, "point_answer": "none", "measure": "kl", "value": 0.25},
            {**null, "point_answer": "mean", "measure": "rmse", "value": None},
            {
                **null,
                "demographic": "age",
                "level": "18",
                "point_answer": "none",
                "measure": "kl",
                "value": 9,
            },
        ]
    )
    assert null_rows(nulls)[1:] == [["uniform", "q", "native", "0.250", "—", "—", "—"]]
    both = pd.concat([floors.assign(demographic="all"), floors.assign(demographic="age", floor=0.7)])
    assert [row[3] for row in floor_rows(both.assign(n=5, resamples=200))[1:]] == ["0.010"]


def test_a_baseline_s_setting_is_written_without_punctuation():
    fit = {"algorithm": "svr", "question": "q", "answers": "native", "chosen_by": "kl"}
    chosen = pd.DataFrame(
        [{**fit, "kl": 0.1, "rmse": 2.0, "w1": 1.0, "setting": '{"C": 0.5, "kernel": "rbf"}'}]
    )
    assert baseline_rows(chosen)[1][3:] == ["validation KL", "0.100", "2.00", "1.00", "C 0.5, kernel rbf"]


def test_a_baseline_s_reading_is_named_and_what_a_point_has_not_is_a_dash(curves):
    chosen = curves[:1].assign(chosen_by="kl", setting="{}", reading="point", mae=24.0, crps=np.nan, nll=None)
    row = dict(zip(*baseline_rows(chosen), strict=True))
    assert (row["reading"], row["MAE"], row["CRPS"], row["NLL"]) == ("point", "24.00", "—", "—")


def test_columns_of_words_stand_left_and_those_of_numbers_right():
    table = Table("h", "c", [["name", "value"], ["-", "0.1"], ["x", "—"]])
    page = render_page("t", "s", "o", simulated=False, sections=[Section("h", [table])])
    assert '<th class="text">name</th><th>value</th>' in page
    assert '<td class="text">x</td><td>—</td>' in page


def test_a_rate_below_one_is_never_written_as_all():
    assert percent(0.9996) == "100.0 %"
    assert percent(1.0) == "100 %"
    assert percent(-0.25) == "-25 %"


def test_notes_name_adapter_reason_and_temperatures(board):
    assert scoreboard_notes(board()) == ["s~pretrained, q: no test prompt was answered (T = 0.0)"]


def test_the_page_escapes_everything():
    nasty = "<script>alert('x')</script>"
    page = render_page(
        nasty,
        nasty,
        nasty,
        simulated=False,
        note=nasty,
        sections=[
            Section(nasty, [Picture(nasty, nasty, PNG, "a.png")]),
            Section(nasty, [Table(nasty, nasty, [[nasty], [nasty]])]),
        ],
        remarks=[nasty],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_the_page_needs_no_other_file():
    sections = [Section("h", [Picture("h", "c", PNG, "a.png")])]
    page = render_page("t", "s", "o", simulated=False, sections=sections)
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page and "<link" not in page


def test_the_page_says_simulated_before_any_number_and_only_then():
    table = Table("h", "c", [["head"], ["0.123"]])
    sections = [Section("h", [table])]
    page = render_page("t", "s", "o", simulated=True, sections=sections)
    assert page.index("SIMULATED") < page.index("0.123")
    assert "SIMULATED" not in render_page("t", "s", "o", simulated=False, sections=sections)


def test_sections_without_parts_are_left_out_and_the_others_are_linked():
    table = Table("h", "c", [["head"], ["1"]])
    sections = [Section("First", [table]), Section("Nothing", []), Section("Last", [table])]
    page = render_page("t", "s", "o", simulated=False, sections=sections)
    assert "Nothing" not in page
    assert '<a href="#1">Last</a>' in page and '<h2 id="1">Last</h2>' in page


def test_of_many_questions_the_terminal_shows_the_means() -> None:
    board = pd.DataFrame(
        [
            {"adapter": "s~qlora", "question": f"q{n}", "temperature": t, "kl": 0.1 * n + t, "w1": 1.0 * n}
            for n in range(9)
            for t in (0.0, 1.0)
        ]
    )
    rest = [
        "floor_kl",
        "floor_w1",
        "rmse",
        "rmse_mean",
        "success_rate",
        "best_baseline_kl",
        "best_baseline_rmse",
    ]
    board = board.assign(**dict.fromkeys(rest, 0.5), best_baseline_kl_by="svr", best_baseline_rmse_by="svr")
    alike = {"adapter": "s~qlora", "answers": "native", "validation_kl": 0.5}
    chosen = pd.DataFrame([{**alike, "question": f"q{n}", "temperature": float(n == 0)} for n in range(9)])
    console = Console(file=io.StringIO(), width=200)
    console.print(summary_table(board, "many", chosen))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    (row,) = [line for line in shown.splitlines() if "s~qlora" in line]
    kl = (1.0 + sum(0.1 * n for n in range(1, 9))) / 9  # q0 at T = 1, the others at T = 0
    assert row.split()[:6] == ["s~qlora", "mean", "of", "9", "0–1", f"{kl:.3f}"] and " 4.00 " in row
    one = board[board["question"].isin(["q0", "q1"])]
    console.print(summary_table(one, "few", chosen))
    assert "q1" in console.file.getvalue()  # type: ignore[attr-defined]
