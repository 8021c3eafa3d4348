"""A wrong study gives one error that says where, what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.project import Project, find_project
from evsim_assets.specs.study import AdapterSpec, StudySpec, read_study, temperature_key
from evsim_resources.outputs import spec_hash

GOOD = """\
survey: snacks
title: A study
models:
  s: {path: data/models/s}
  m: {hub: owner/name}
training:
  epochs: 3
  rank: 8
adapters:
  - {models: [s, m], method: pretrained}
  - {models: [s], method: lora, training: {rank: 4}}
  - models: [m]
    method: qlora
    fractions: [0.5, 1.0]
    trials: 2
    penalty: [{alpha: 0.5, d: 10}]
temperatures: [1, 0, 0.5, 1]
baselines:
  svr: {kernel: [linear], C: [1], epsilon: [0.1], gamma: [1]}
"""


def read(folder: Path, text: str) -> StudySpec:
    path = folder / "snack_study.yaml"
    path.write_text(text, encoding="utf-8")
    return read_study(path)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_the_grid_of_adapters_unfolds_in_the_order_of_the_file(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert [spec.key for spec in study.adapter_specs] == [
        "s~pretrained",
        "m~pretrained",
        "s~lora",
        "m~qlora~alpha-0.5~d-10~fraction-0.5~trial-1",
        "m~qlora~alpha-0.5~d-10~fraction-0.5~trial-2",
        "m~qlora~alpha-0.5~d-10",
        "m~qlora~alpha-0.5~d-10~trial-2",
    ]
    assert study.adapter("s~pretrained").training is None


def test_a_line_s_training_replaces_only_the_fields_it_gives(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    training = study.adapter("s~lora").training
    assert training is not None and (training.rank, training.epochs) == (4, 3)
    other = study.adapter("m~qlora~alpha-0.5~d-10").training
    assert other is not None and (other.rank, other.epochs) == (8, 3)


def test_half_the_data_is_seen_twice_as_often(tmp_path: Path) -> None:
    training = read(tmp_path, GOOD).adapter("m~qlora~alpha-0.5~d-10~fraction-0.5~trial-1").training
    assert training is not None and training.epochs == 6


def test_full_takes_fractions_trials_and_penalties_as_lora_does(tmp_path: Path) -> None:
    study = read(tmp_path, changed("method: qlora", "method: full"))
    assert [spec.key for spec in study.adapter_specs][3:] == [
        "m~full~alpha-0.5~d-10~fraction-0.5~trial-1",
        "m~full~alpha-0.5~d-10~fraction-0.5~trial-2",
        "m~full~alpha-0.5~d-10",
        "m~full~alpha-0.5~d-10~trial-2",
    ]
    training = study.adapter("m~full~alpha-0.5~d-10~fraction-0.5~trial-1").training
    assert training is not None and training.epochs == 6


def test_what_a_study_says_of_lora_does_not_touch_its_full_adapters(tmp_path: Path) -> None:
    full = changed("method: qlora", "method: full").replace("lora, training: {rank: 4}", "lora")
    eight = read(tmp_path, full)
    nine = read(tmp_path, full.replace("rank: 8", "rank: 9"))
    same = {spec.key for spec in eight.adapter_specs if spec_hash(spec) == spec_hash(nine.adapter(spec.key))}
    assert {spec.key for spec in eight.adapter_specs} - same == {"s~lora"}
    said = eight.adapter("m~full~alpha-0.5~d-10").model_dump(mode="json")["training"]
    assert not {"rank", "lora_alpha", "dropout"} & set(said) and said["epochs"] == 3


def test_a_full_adapter_takes_from_a_preset_what_is_not_lora(tmp_path: Path) -> None:
    text = changed("{models: [s], method: lora, training: {rank: 4}}", "{models: [s], method: full}")
    text = text.replace("method: full}", "method: full, training: {preset: ev-shift-paper}}")
    training = read(tmp_path, text).adapter("s~full").training
    assert training is not None and (training.loss_on, training.learning_rate) == ("text", 2e-4)


def test_a_preset_and_its_values_written_out_are_one_spec_with_one_hash(tmp_path: Path) -> None:
    """The values are typed from the papers: QLoRA's B.2 and Table 9, EV-shift's App. H and I."""
    written = {
        "qlora-paper": "learning_rate: 2.0e-4",
        "qlora-paper-large": "learning_rate: 1.0e-4",
        "ev-shift-paper": "learning_rate: 2.0e-4\n  epochs: 3\n  loss_on: text",
    }
    qlora = "rank: 64\n  lora_alpha: 16\n  batch_size: 16\n  max_grad_norm: 0.3\n  schedule: constant"
    plain = GOOD.replace("  epochs: 3\n  rank: 8", "  PLACE")
    for preset, rest in written.items():
        short = read(tmp_path, plain.replace("PLACE", f"preset: {preset}")).adapter_specs
        long = read(tmp_path, plain.replace("PLACE", f"{qlora}\n  {rest}")).adapter_specs
        assert short == long
        assert [spec_hash(spec) for spec in short] == [spec_hash(spec) for spec in long]
    default = read(tmp_path, plain.replace("  PLACE\n", "  {}\n")).adapter_specs
    assert default == read(tmp_path, plain.replace("PLACE", "preset: qlora-paper")).adapter_specs


def test_what_is_written_beside_a_preset_wins_and_a_line_s_preset_wins_over_the_study(tmp_path: Path) -> None:
    text = changed("rank: 8", "preset: ev-shift-paper\n  rank: 8")
    text = text.replace("training: {rank: 4}", "training: {preset: qlora-paper-large, batch_size: 4}")
    study = read(tmp_path, text)
    lora, qlora = study.adapter("s~lora").training, study.adapter("m~qlora~alpha-0.5~d-10").training
    assert lora is not None and qlora is not None
    assert (qlora.rank, qlora.learning_rate, qlora.loss_on) == (8, 2e-4, "text")
    assert (lora.rank, lora.learning_rate, lora.batch_size, lora.loss_on) == (64, 1e-4, 4, "text")


def test_memory_settings_reach_the_adapter_and_leave_its_hash_alone(tmp_path: Path) -> None:
    """Or a study set to fit another machine would train everything anew."""
    line = "training: {rank: 4, gradient_checkpointing: true, micro_batch_tokens: 2048}"
    small = read(tmp_path, changed("training: {rank: 4}", line)).adapter("s~lora")
    plain = read(tmp_path, GOOD).adapter("s~lora")
    assert small.training is not None and plain.training is not None
    assert (small.training.gradient_checkpointing, small.training.micro_batch_tokens) == (True, 2048)
    assert (plain.training.gradient_checkpointing, plain.training.micro_batch_tokens) == (False, None)
    assert spec_hash(small) == spec_hash(plain)
    unweighted = changed("training: {rank: 4}", "training: {rank: 4, survey_weights: false}")
    assert spec_hash(read(tmp_path, unweighted).adapter("s~lora")) != spec_hash(plain)


def test_the_paper_s_study_says_by_presets_what_it_said_in_values() -> None:
    study = Project(Path(__file__).parents[2]).study("ev_shift_llama2")
    trained = {spec.key: spec.training for spec in study.adapter_specs if spec.training}
    assert {t.loss_on for t in trained.values()} == {"text"}
    assert {t.rank for t in trained.values()} == {64}
    rates = {key: t.learning_rate for key, t in trained.items()}
    assert rates.pop("70b~qlora") == 1e-4 and set(rates.values()) == {2e-4}
    epochs = {t.epochs for t in trained.values()}
    assert {round(e) for e in epochs} == {3, 6, 30}


def test_temperatures_are_sorted_and_unique_and_a_range_includes_both_ends(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).temperature_values == (0, 0.5, 1)
    spread = changed("[1, 0, 0.5, 1]", "{low: 0, high: 1, step: 0.1}")
    assert read(tmp_path, spread).temperature_values == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
    single = changed("[1, 0, 0.5, 1]", "{low: 0.5, high: 0.5, step: 0.1}")
    assert read(tmp_path, single).temperature_values == (0.5,)
    assert [temperature_key(t) for t in (0, 0.25, 1)] == ["0.0", "0.25", "1.0"]


TEMPERATURES, LORA = "[1, 0, 0.5, 1]", "{models: [s], method: lora, training: {rank: 4}}"
LINES = GOOD[GOOD.index("\n  - {models: [s, m]") : GOOD.index("temperatures")]
CASES = {
    "unknown method": (
        "method: qlora",
        "method: dora",
        13,
        "adapters.2.method",
        "dora",
        "no such choice",
        "pretrained, lora, qlora, full",
    ),
    "unknown model": (
        "models: [m]\n",
        "models: [xl]\n",
        12,
        "adapters.2.models.0",
        "xl",
        "no such model",
        "s, m",
    ),
    "temperature below zero": (
        TEMPERATURES,
        "[0, -0.5]",
        17,
        "temperatures.1",
        -0.5,
        "below zero",
        "0 (greedy)",
    ),
    "temperature in words": (TEMPERATURES, "[0, warm]", 17, "temperatures.1", "warm", "not a number", "0.5"),
    "temperature a truth": (TEMPERATURES, "[true]", 17, "temperatures.0", True, "not a number", "0.5"),
    "infinite temperature": (
        TEMPERATURES,
        "[.inf]",
        17,
        "temperatures.0",
        float("inf"),
        "not a number",
        "0.5",
    ),
    "no temperature": (TEMPERATURES, "[]", 17, "temperatures", None, "no temperature", "[0, 1]"),
    "bare temperature": (TEMPERATURES, "1", 17, "temperatures", 1, "neither a list nor a range", "[0, 1]"),
    "range below zero": (
        TEMPERATURES,
        "{low: -1, high: 1, step: 1}",
        17,
        "temperatures.low",
        -1,
        "equal to 0",
        "range",
    ),
    "empty range": (
        TEMPERATURES,
        "{low: 1, high: 0, step: 1}",
        17,
        "temperatures",
        None,
        "below low 1",
        "set high",
    ),
    "range past its end": (
        TEMPERATURES,
        "{low: 0, high: 1, step: 0.6}",
        17,
        "temperatures.step",
        None,
        "0.6",
        "divides",
    ),
    "range without a step": (
        TEMPERATURES,
        "{low: 0, high: 1}",
        17,
        "temperatures.step",
        None,
        "not there",
        "add",
    ),
    "unknown training field": (
        LORA,
        "{models: [s], method: lora, training: {rnk: 4}}",
        11,
        "adapters.1.training.rnk",
        4,
        "unknown field",
        "rank",
    ),
    "wrong training value": (
        LORA,
        "{models: [s], method: lora,\n     training: {learning_rate: -1}}",
        12,
        "adapters.1.training.learning_rate",
        -1,
        "greater than 0",
        "range",
    ),
    "half a rank": ("rank: 8", "rank: 8.5", 8, "training.rank", 8.5, "integer", "whole number"),
    "unknown preset": (
        LORA,
        "{models: [s], method: lora, training: {preset: qlora}}",
        11,
        "adapters.1.training.preset",
        "qlora",
        "no such choice",
        "qlora-paper, qlora-paper-large, ev-shift-paper",
    ),
    "presets in a list": (
        "rank: 8",
        "preset: [qlora-paper]",
        8,
        "training.preset",
        ["qlora-paper"],
        "no such choice",
        "qlora-paper-large",
    ),
    "wrong value beside a preset": (
        "rank: 8",
        "preset: qlora-paper\n  rank: 0",
        9,
        "training.rank",
        0,
        "equal to 1",
        "range",
    ),
    "a micro-batch of nothing": (
        "rank: 8",
        "micro_batch_tokens: 0",
        8,
        "training.micro_batch_tokens",
        0,
        "equal to 1",
        "range",
    ),
    "half a yes": (
        "rank: 8",
        "survey_weights: 3",
        8,
        "training.survey_weights",
        3,
        "boolean",
        "true or false",
    ),
    "LoRA where every weight is trained": (
        LORA,
        "{models: [s], method: full,\n     training: {rank: 4}}",
        12,
        "adapters.1.training.rank",
        4,
        "without LoRA",
        "method: lora",
    ),
    "a preset for a pretrained": (
        "{models: [s, m], method: pretrained}",
        "{models: [s, m], method: pretrained, training: {preset: qlora-paper}}",
        10,
        "adapters.0.training",
        None,
        "not trained",
        "change the method",
    ),
    "a trained pretrained": (
        "{models: [s, m], method: pretrained}",
        "{models: [s, m], method: pretrained, trials: 3}",
        10,
        "adapters.0.trials",
        None,
        "not trained",
        "change the method",
    ),
    "an adapter twice": (
        LORA,
        "{models: [s], method: pretrained}",
        11,
        "adapters.1",
        "s~pretrained",
        "twice",
        "keep one",
    ),
    "too much penalty": (
        "alpha: 0.5",
        "alpha: 1.5",
        16,
        "adapters.2.penalty.0.alpha",
        1.5,
        "equal to 1",
        "range",
    ),
    "model nowhere": ("{hub: owner/name}", "{}", 5, "models.m", None, "either path or hub", "exactly one"),
    "model in two places": (
        "{hub: owner/name}",
        "{hub: o/n, path: x}",
        5,
        "models.m",
        None,
        "either",
        "exactly one",
    ),
    "unknown model field": (
        "{hub: owner/name}",
        "{hubb: o/n}",
        5,
        "models.m.hubb",
        "o/n",
        "unknown field",
        "revision",
    ),
    "model's name": ("  s: {path", "  S: {path", 4, "models.S", "S", "pattern", "lower-case"),
    "unknown kernel": (
        "[linear]",
        "[cubic]",
        19,
        "baselines.svr.kernel.0",
        "cubic",
        "no such choice",
        "poly",
    ),
    "no kernel": ("[linear]", "[]", 19, "baselines.svr.kernel", [], "at least 1", "at least"),
    "no adapters": (LINES, " []\n", 9, "adapters", [], "at least 1", "at least"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_study_names_file_line_field_value_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, line, field, value, problem, remedy = CASES[case]
    with pytest.raises(BadInput) as caught:
        read(tmp_path, changed(old, new))
    error, message = caught.value, str(caught.value)
    assert message.startswith(f"{tmp_path / 'snack_study.yaml'}:{line}: {field}: ")
    assert (error.line, error.field, error.value) == (line, field, value)
    assert problem in error.problem
    assert error.remedy is not None and remedy in error.remedy and error.remedy in message
    assert "pydantic" not in message and "validation error" not in message


def test_the_remedy_for_an_unknown_method_lists_no_quotes(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, changed("method: qlora", "method: dora"))
    assert caught.value.remedy == "use one of: pretrained, lora, qlora, full"


def test_a_study_whose_file_has_an_impossible_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "My-Study.yaml"
    path.write_text(GOOD)
    with pytest.raises(BadInput, match="file is its name") as caught:
        read_study(path)
    assert (caught.value.file, caught.value.value) == (path, "My-Study")


def test_a_project_lists_what_there_is_when_a_name_is_not_there(tmp_path: Path) -> None:
    studies = tmp_path / "data" / "studies"
    studies.mkdir(parents=True)
    (studies / "one.yaml").write_text(GOOD)
    project = Project(tmp_path)
    with pytest.raises(BadInput, match="no such study") as caught:
        project.study("two")
    assert "one" in str(caught.value.remedy)
    with pytest.raises(BadInput) as caught:
        project.study("one")
    assert (caught.value.field, caught.value.value) == ("survey", "snacks")
    with pytest.raises(BadInput, match="no such survey"):
        project.survey("snacks")


def test_a_project_is_found_from_below_and_missed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVSIM_PROJECT", raising=False)
    (tmp_path / "p" / "data" / "studies").mkdir(parents=True)
    (tmp_path / "p" / "deep" / "er").mkdir(parents=True)
    assert find_project(tmp_path / "p" / "deep" / "er").root == tmp_path / "p"
    with pytest.raises(BadInput, match="data/studies") as caught:
        find_project(tmp_path)
    assert "EVSIM_PROJECT" in str(caught.value.remedy)


def test_an_adapter_s_factors_say_everything_its_key_says() -> None:
    spec = AdapterSpec.model_validate(
        {
            "model": "7b",
            "method": "qlora",
            "answers": "digit",
            "penalty": {"alpha": 0.5, "d": 2},
            "fraction": 0.1,
            "trial": 3,
        }
    )
    assert spec.key == "7b~qlora~digit~alpha-0.5~d-2~fraction-0.1~trial-3"
    assert spec.factors == {
        "adapter": spec.key,
        "model": "7b",
        "method": "qlora",
        "answers": "digit",
        "template": "default",
        "alpha": 0.5,
        "d": 2.0,
        "fraction": 0.1,
        "tuned": "",
        "trial": 3,
    }


@pytest.mark.parametrize("study", ["ev_shift", "ev_shift_llama2", "us_policy"])
def test_the_repository_s_own_studies_are_valid(study: str) -> None:
    project = Project(Path(__file__).parents[2])
    spec = project.study(study)
    assert project.survey(spec.survey).name == spec.survey
