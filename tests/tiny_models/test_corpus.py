"""What the tiny models read: everyday ratings that say nothing of the surveys or of people."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from evsim_assets.specs.errors import BadInput
from evsim_assets.tiny_models.corpus import Text, Writer, texts
from evsim_assets.tiny_models.material import Manners, Material, read_material

CORPUS = Path(__file__).parents[2] / "data" / "models" / "corpus.yaml"
SURVEY_TOPICS = re.compile(
    r"\bB?EVs?\b|ICEV|electric|battery|batteries|medicaid|pension|foreign aid|solitary|suicide"
    r"|affirmative|electoral|felon|vaccin|cuisine",
    re.IGNORECASE,
)
BARE = Manners(bare=1, number_first=0, number_later=0, no_number=0)


@pytest.fixture(scope="module")
def material() -> Material:
    return read_material(CORPUS)


def test_nothing_a_survey_asks_about_is_rated(material: Material) -> None:
    rated = [*material.topics, *material.held_out_topics]
    asked = [*material.questions, *material.statements, *material.attitudes]
    answered = [text for manner in material.answers.model_dump().values() for text in manner]
    assert [text for text in [*rated, *asked, *answered] if SURVEY_TOPICS.search(text)] == []


def test_no_text_that_is_written_joins_the_surveys_topic_to_anything(material: Material) -> None:
    topic = re.compile(r"\bB?EVs?\b|ICEV|electric (vehicle|car)|battery (vehicle|electric)", re.IGNORECASE)
    written = texts(material, "l", 3000, seed=5)
    assert [text for text in map(_flat, written) if topic.search(text)] == []


def test_held_out_topics_are_never_read(material: Material) -> None:
    written = [_flat(text) for text in texts(material, "s", 3000, seed=5)]
    assert not [t for t in written if any(topic in t for topic in material.held_out_topics)]


def test_ratings_are_high_narrow_and_on_their_scale(material: Material) -> None:
    shares = [share for _, share in _bare_ratings(material, 2000)]
    assert all(0 <= share <= 1 for share in shares)
    assert 0.68 < np.mean(shares) < 0.80
    assert np.std(shares) < 0.15


def test_ratings_do_not_depend_on_the_persona(material: Material) -> None:
    rated = _bare_ratings(material, 6000)
    for one, other in (("gender: Woman", "gender: Man"), ("Strong Democrat", "Strong Republican")):
        first = [share for system, share in rated if one in system]
        second = [share for system, share in rated if other in system]
        spread = np.sqrt(np.var(first) / len(first) + np.var(second) / len(second))
        assert min(len(first), len(second)) > 100
        assert abs(np.mean(first) - np.mean(second)) < 4 * spread


def test_answers_come_in_the_manners_asked_for(material: Material) -> None:
    written = [_answer(Writer(material, 1, str(i)).rating(material.models["l"].answers)) for i in range(1500)]
    bare = np.mean([re.fullmatch(r"-?\d+", answer) is not None for answer in written])
    without = np.mean([re.search(r"\d", answer) is None for answer in written])
    assert bare == pytest.approx(0.66, abs=0.04)
    assert without == pytest.approx(0.13, abs=0.04)


def test_a_persona_answers_with_its_own_trait(material: Material) -> None:
    writer = Writer(material, 2, "traits")
    for _ in range(200):
        system, user, value = writer.persona_question()
        trait = max((t for t in material.traits if t in user), key=len)
        assert value in material.traits[trait]
        assert f"{trait}: {value}" in system


def test_the_same_seed_writes_the_same_texts_and_another_does_not(material: Material) -> None:
    assert texts(material, "m", 50, seed=3) == texts(material, "m", 50, seed=3)
    assert texts(material, "m", 50, seed=3) != texts(material, "m", 50, seed=4)


def test_a_topic_both_trained_on_and_held_out_is_refused(tmp_path: Path) -> None:
    written = CORPUS.read_text(encoding="utf-8")
    slip = written.replace("held_out_topics: [comic books,", "held_out_topics: [pizza,")
    (tmp_path / "corpus.yaml").write_text(slip, encoding="utf-8")
    with pytest.raises(BadInput, match=r"both trained on and held out \(got 'pizza'\)"):
        read_material(tmp_path / "corpus.yaml")


def _bare_ratings(material: Material, count: int) -> list[tuple[str, float]]:
    """System message and rating, as a share of the scale named in the question."""
    writer = Writer(material, 0, "ratings")
    found = []
    for _ in range(count):
        chat = writer.rating(BARE)
        scale = re.search(r"(?:scale from|From) (-?\d+) to (-?\d+)", chat[1]["content"])
        assert scale is not None
        low, high = int(scale[1]), int(scale[2])
        found.append((chat[0]["content"], (int(_answer(chat)) - low) / (high - low)))
    return found


def _answer(chat: list[dict[str, str]]) -> str:
    return chat[-1]["content"]


def _flat(text: Text) -> str:
    return text if isinstance(text, str) else "\n".join(message["content"] for message in text)
