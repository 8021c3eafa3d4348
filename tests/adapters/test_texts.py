import pandas as pd
import pytest

from evsim_assets.adapters.base_model import load_tokenizer
from evsim_assets.adapters.own_prompts import answer_labels, own_prompts
from evsim_assets.adapters.texts import fraction_of, texts_by_participant
from evsim_assets.prompts.chat import render
from evsim_assets.specs.errors import BadInput
from evsim_assets.specs.study import LossSpec
from tests.adapters.tiny_survey import PENALTY, WORDS, adapter, prompts, worded_prompts


def test_texts_are_the_rendered_chats_of_each_participant(base: str) -> None:
    tokenizer, table = load_tokenizer(base), prompts(1, 1)
    texts = texts_by_participant(table, tokenizer, adapter())
    assert [(p, len(t)) for p, t in texts.items()] == [("p0", 3), ("p1", 3)]
    row = table.iloc[1]
    assert (texts["p0"][1].prompt, texts["p0"][1].answer) == render(tokenizer, row.system, row.user, "90")
    assert texts["p0"][1].candidates == []


def test_candidates_are_the_answers_nearer_than_d_each_with_its_own_tokens(base: str) -> None:
    tokenizer, table = load_tokenizer(base), prompts(2, 1)
    text = texts_by_participant(table, tokenizer, adapter(penalty=PENALTY))["p0"][0]
    near = {tokenizer.decode(tokens, skip_special_tokens=True).strip(): m for m, tokens in text.candidates}
    assert near == pytest.approx({"78": 1 / 9, "79": 2 / 9, "80": 3 / 9, "81": 2 / 9, "82": 1 / 9})


def test_a_digit_adapter_learns_the_digit_form_on_0_to_9(base: str) -> None:
    tokenizer, table = load_tokenizer(base), prompts(2, 1)
    text = texts_by_participant(table, tokenizer, adapter(penalty=PENALTY, answers="digit"))["p0"][1]
    row = table.iloc[1]
    assert (text.prompt, text.answer) == render(tokenizer, row.system, row.user_digit, "8")
    near = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for _, tokens in text.candidates]
    assert near == ["6", "7", "8", "9"]
    with pytest.raises(BadInput, match="no 0–9 form"):
        texts_by_participant(table.assign(user_digit=None), tokenizer, adapter(answers="digit"))


def test_fractions_of_one_trial_are_nested_and_trials_differ() -> None:
    everyone = [f"p{k}" for k in range(100)]
    tenth, half = fraction_of(everyone, 0.1, 1), fraction_of(everyone, 0.5, 1)
    assert (len(tenth), len(half)) == (10, 50)
    assert set(tenth) < set(half) and half == sorted(half, key=everyone.index)
    assert set(fraction_of(everyone, 0.5, 2)) != set(half)
    assert fraction_of(everyone, 1.0, 1) == everyone


def test_a_question_answered_by_label_teaches_the_label_and_the_labels_beside_it(base: str) -> None:
    tokenizer, table = load_tokenizer(base), worded_prompts()
    texts = texts_by_participant(table, tokenizer, adapter(penalty=LossSpec(alpha=0.5, d=2)))
    row = table.iloc[5]
    assert (row.participant, row.target) == ("p1", "No")
    assert (texts["p1"][2].prompt, texts["p1"][2].answer) == render(tokenizer, row.system, row.user, "No")
    near = [(m, tokenizer.decode(t, skip_special_tokens=True).strip()) for m, t in texts["p1"][2].candidates]
    assert near == [(pytest.approx(2 / 3), "No"), (pytest.approx(1 / 3), "Probably not")]
    near = {tokenizer.decode(t, skip_special_tokens=True).strip() for _, t in texts["p1"][0].candidates}
    assert near == {"19", "20", "21"}


def test_a_text_carries_its_answer_s_survey_weight_unless_the_spec_says_otherwise(base: str) -> None:
    tokenizer, table = load_tokenizer(base), prompts(2, 1)
    table["weight"] = [2.5, 0.25, 0, 0, 0, 0, 1, 1, 1]
    weighted = texts_by_participant(table, tokenizer, adapter(penalty=PENALTY))
    plain = texts_by_participant(table, tokenizer, adapter(penalty=PENALTY, survey_weights=False))
    assert {p: [text.weight for text in texts] for p, texts in weighted.items()} == {
        "p0": [2.5, 0.25],  # an answer of weight 0 counts for nobody, and p1 has no other
        "p2": [1.0, 1.0, 1.0],
    }
    assert [text.weight for texts in plain.values() for text in texts] == [1.0] * 9
    assert [t.answer for t in weighted["p0"]] == [t.answer for t in plain["p0"][:2]]
    assert [sum(mass for mass, _ in t.candidates) for t in weighted["p0"]] == [pytest.approx(1)] * 2


def test_answers_that_all_weigh_nothing_are_an_error_and_not_an_empty_training(base: str) -> None:
    table = prompts(2, 0).assign(weight=0.0)
    with pytest.raises(BadInput, match="weight of 0") as caught:
        texts_by_participant(table, load_tokenizer(base), adapter())
    assert (caught.value.field, caught.value.value) == ("split", "train")
    assert "survey_weights" in str(caught.value.remedy)


def test_labels_are_read_from_their_cell_and_numbers_have_none() -> None:
    cells = worded_prompts()["labels"]
    assert answer_labels(cells[2]) == WORDS
    assert answer_labels(None) == answer_labels(float("nan")) == ()


def test_an_adapter_sees_its_own_wording_alone() -> None:
    table = pd.concat([prompts(2, 1), prompts(2, 1).assign(template="plain", user="?")])
    table.loc[table["participant"] == "p0", "split"] = "held_out"
    plain = own_prompts(table, "plain")
    assert set(plain["user"]) == {"?"} and len(plain) == len(table) / 2
    assert set(own_prompts(table, "plain", "train")["participant"]) == {"p1"}
    with pytest.raises(BadInput, match="adapter's wording"):
        own_prompts(table, "other")
