"""Tables say what they do not know, pages escape, figures are drawn and say SIMULATED."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from evsim_assets.adapters.curve import learning_curve_figure
from evsim_assets.figures import canvas
from evsim_assets.figures.canvas import adapter_looks
from evsim_assets.metrics.histograms import histogram_figure
from evsim_assets.reports.page import Picture, Table, render_page
from evsim_assets.reports.rmse_kl import rmse_kl_figure
from evsim_assets.reports.summary import print_summary, summary_table
from evsim_assets.reports.tables import baseline_rows, percent, scoreboard_notes, scoreboard_rows

PNG = b"\x89PNG"


def board():
    """Two adapters at two temperatures; the pretrained one never answers at T=0."""
    table = pd.DataFrame(
        {
            "adapter": ["s~pretrained"] * 2 + ["s~qlora"] * 2,
            "model": "s",
            "method": ["pretrained"] * 2 + ["qlora"] * 2,
            "answers": "native",
            "temperature": [0.0, 1.0] * 2,
            "question": "q",
            "kl": [np.nan, 0.9, 0.5, 0.02],
            "rmse": [np.nan, 40.0, 31.0, 37.0],
            "reason": ["no test prompt was answered", None, None, None],
        }
    )
    rest = [
        "floor_kl",
        "w1",
        "floor_w1",
        "gap_closed_w1",
        "gap_closed_w1_pretrained",
        "rmse_mean",
        "best_baseline_kl",
        "best_baseline_rmse",
    ]
    table = table.assign(**dict.fromkeys(rest, 0.5), success_rate=[0.0, 0.4, 1.0, 0.9996])
    return table.assign(best_baseline_kl_by="random", best_baseline_rmse_by="svr")


CURVES = pd.DataFrame(
    {
        "algorithm": ["svr"] * 3 + ["random"],
        "question": "q",
        "answers": "native",
        "setting": list("abcd"),
        "kl": [1.0, 2.0, 90.0, 0.2],
        "rmse": [30.0, 28.0, 300.0, 42.0],
        "w1": 1.0,
        "on_front": [True, True, False, True],
    }
)
FLOORS = pd.DataFrame(
    {
        "question": ["q"],
        "answers": "native",
        "measure": "kl",
        "floor": 0.01,
        "floor_low": 0.005,
        "floor_high": 0.02,
    }
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were turned into PNG."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def words(figure):
    """Everything a figure says."""
    texts = [figure.get_suptitle(), *(t.get_text() for t in figure.texts)]
    for axis in figure.axes:
        texts += [axis.get_title(), *(t.get_text() for t in axis.texts)]
    for legend in figure.legends:
        texts += [legend.get_title().get_text(), *(t.get_text() for t in legend.get_texts())]
    return "\n".join(texts)


def test_the_scoreboard_writes_a_dash_where_nothing_is_known():
    rows = scoreboard_rows(board())
    assert len({len(row) for row in rows}) == 1
    assert rows[1][:4] == ["s~pretrained", "0.0", "q", "—"]
    assert rows[4][3] == "0.020"


def test_the_scoreboard_names_each_best_baseline_and_tells_draws_from_means():
    header, first, *_ = scoreboard_rows(board())
    shown = dict(zip(header, first, strict=True))
    assert (shown["best baseline KL"], shown["best baseline RMSE"]) == ("0.500 (random)", "0.50 (svr)")
    assert {"RMSE", "RMSE of mean"} <= set(header)
    unknown = board().assign(best_baseline_kl=None, best_baseline_kl_by=None)
    assert "—" in scoreboard_rows(unknown)[1]


def test_the_terminal_s_table_is_whole_on_a_narrow_terminal_and_names_baselines():
    written = io.StringIO()
    print_summary(
        Console(file=written, width=60),
        board().assign(rmse_mean=30.5, best_baseline_rmse=28.06),
        study="small",
        survey="ev_shift",
        simulated=True,
        report=Path("reports"),
    )
    lines = written.getvalue().splitlines()
    (row,) = [line for line in lines if line.startswith("s~qlora")]
    assert " ".join(row.split()) == "s~qlora q 1 0.020 0.500 0.50 0.50 37.0 30.5 1.000 0.500 random 28.1 svr"
    assert max(map(len, lines)) <= 118 and "…" not in written.getvalue()
    said = " ".join(lines)
    for part in ("SIMULATED", "of mean", "one drawn answer", "predict one answer a person"):
        assert part in said


def test_a_baseline_s_setting_is_written_without_punctuation():
    fit = {"algorithm": "svr", "question": "q", "answers": "native", "chosen_by": "kl"}
    chosen = pd.DataFrame(
        [{**fit, "kl": 0.1, "rmse": 2.0, "w1": 1.0, "setting": '{"C": 0.5, "kernel": "rbf"}'}]
    )
    assert baseline_rows(chosen)[1][3:] == ["validation KL", "0.100", "2.00", "1.00", "C 0.5, kernel rbf"]


def test_columns_of_words_stand_left_and_those_of_numbers_right():
    table = Table("h", "c", [["name", "value"], ["-", "0.1"], ["x", "—"]])
    page = render_page("t", "s", "o", simulated=False, tables=[table])
    assert '<th class="text">name</th><th>value</th>' in page
    assert '<td class="text">x</td><td>—</td>' in page


def test_a_rate_below_one_is_never_written_as_all():
    assert percent(0.9996) == "100.0 %"
    assert percent(1.0) == "100 %"
    assert percent(-0.25) == "-25 %"


def test_notes_name_adapter_reason_and_temperatures():
    assert scoreboard_notes(board()) == ["s~pretrained, q: no test prompt was answered (T = 0.0)"]


def test_the_page_escapes_everything():
    nasty = "<script>alert('x')</script>"
    page = render_page(
        nasty,
        nasty,
        nasty,
        simulated=False,
        note=nasty,
        pictures=[Picture(nasty, nasty, PNG)],
        tables=[Table(nasty, nasty, [[nasty], [nasty]])],
        remarks=[nasty],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_the_page_needs_no_other_file():
    page = render_page("t", "s", "o", simulated=False, pictures=[Picture("h", "c", PNG)])
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page and "<link" not in page


def test_the_page_says_simulated_before_any_number_and_only_then():
    table = Table("h", "c", [["head"], ["0.123"]])
    page = render_page("t", "s", "o", simulated=True, tables=[table])
    assert page.index("SIMULATED") < page.index("0.123")
    assert "SIMULATED" not in render_page("t", "s", "o", simulated=False, tables=[table])


def test_the_rmse_kl_plot_draws_every_adapter_and_says_who_is_missing(drawn):
    png = rmse_kl_figure(board(), CURVES, FLOORS, title="study", simulated=True)
    assert png.startswith(PNG)
    said = words(drawn[0])
    assert "SIMULATED" in said
    assert "for want of answers: s~pretrained" in said
    assert "1 of 4 baseline settings lie beyond the frame" in said
    assert {"s~qlora", "s~pretrained", "svr (Pareto front)", "random"} <= set(said.splitlines())
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == "log"
    assert axis.get_ylim()[1] < 50


def test_published_points_are_drawn_only_when_given(drawn):
    paper = pd.DataFrame({"question": ["q"], "label": ["7B"], "kl": [0.063], "rmse": [37.9]})
    rmse_kl_figure(board(), CURVES, FLOORS, title="t", simulated=False, paper=paper)
    rmse_kl_figure(board(), CURVES, FLOORS, title="t", simulated=False)
    assert "published (paper)" in words(drawn[0])
    assert "published" not in words(drawn[1])
    assert "SIMULATED" not in words(drawn[0])


def test_a_study_where_nobody_answers_still_has_a_plot():
    silent = board().assign(kl=np.nan, rmse=np.nan, reason="no test prompt was answered")
    assert rmse_kl_figure(silent, CURVES.iloc[:0], FLOORS.iloc[:0], title="t", simulated=True).startswith(PNG)


def test_adapters_differ_in_look_and_models_in_hue():
    names = pd.DataFrame(
        {
            "adapter": ["a~pretrained", "a~lora", "a~qlora", "b~qlora"],
            "model": ["a", "a", "a", "b"],
            "method": ["pretrained", "lora", "qlora", "qlora"],
        }
    )
    looks = adapter_looks(names)
    assert len({(look.colour, look.marker, look.trained) for look in looks.values()}) == 4
    assert looks["a~pretrained"].fill == "white"
    assert looks["b~qlora"].colour != looks["a~lora"].colour


def histograms():
    base = {"model": "s", "method": "qlora", "temperature": 1.0, "question": "q", "answer": range(101)}
    human = np.bincount([0, 50, 50, 100], minlength=101)
    spoken = pd.DataFrame({**base, "adapter": "s~qlora", "human": human, "simulated": np.eye(101)[50] * 4})
    silent = pd.DataFrame({**base, "adapter": "s~lora", "human": human, "simulated": 0.0})
    return pd.concat([spoken, silent])


def test_histograms_show_shares_and_adapters_that_never_answer(drawn):
    png = histogram_figure(histograms(), "q", 1.0, title="t", simulated=True)
    assert png.startswith(PNG)
    spoken, silent = drawn[0].axes
    heights = [bar.get_height() for bar in spoken.containers[0]]
    assert heights == pytest.approx([0.25, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.25])
    assert "never answers" in [t.get_text() for t in silent.texts]
    assert "highest: 100%" in words(drawn[0])


def test_learning_curves_mark_the_lowest_validation_loss(drawn):
    history = pd.DataFrame(
        {
            "adapter": "s~qlora",
            "epoch": [1, 2, 3, 1, 2, 3],
            "split": ["train"] * 3 + ["validation"] * 3,
            "loss": [3.0, 2.0, 1.0, 3.1, 2.5, 2.9],
        }
    )
    assert learning_curve_figure(history, title="t", simulated=True).startswith(PNG)
    marked = [line for line in drawn[0].axes[0].lines if line.get_label() == "lowest validation loss"]
    assert (marked[0].get_xdata()[0], marked[0].get_ydata()[0]) == (2, 2.5)


def test_the_same_figure_is_the_same_bytes():
    first, second = (rmse_kl_figure(board(), CURVES, FLOORS, title="t", simulated=True) for _ in range(2))
    assert first == second
    assert canvas.as_text("$5") == r"\$5"


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
    console = Console(file=io.StringIO(), width=200)
    console.print(summary_table(board, "many"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    (row,) = [line for line in shown.splitlines() if "s~qlora" in line]
    assert row.split()[:6] == ["s~qlora", "mean", "of", "9", "0", "0.400"] and " 4.00 " in row
    one = board[board["question"].isin(["q0", "q1"])]
    console.print(summary_table(one, "few"))
    assert "q1" in console.file.getvalue()  # type: ignore[attr-defined]
