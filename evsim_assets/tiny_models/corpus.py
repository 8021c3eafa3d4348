"""The text that the tiny models are pre-trained on, written by chance from `corpus.yaml`.

Belongs here: how a persona, a rating chat, a sentence is drawn. Not here: any word of it
(`material.py` and its file), tokens (`tokenizer.py`), training (`pretrain.py`).

A rating depends on its topic and scale alone. Whatever a trained model knows of how people of
some kind answer, it has learned from a survey, not from here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evsim_assets.specs.seeds import derived_seed
from evsim_assets.tiny_models.material import Manners, Material

Messages = list[dict[str, str]]
Text = str | Messages
"""Plain text, or a chat before its template."""

SPREAD = 0.06
"""Standard deviation of a rating around its topic's level, as a share of the scale."""

SHARE_ON_FIVES = 0.8
"""Of ratings on long scales (more than 20 answers), how many are rounded to a multiple of five."""


@dataclass(frozen=True)
class Asked:
    """A rating question and what filled it, so that an answer can be written to it."""

    system: str
    user: str
    fields: dict[str, str]


class Writer:
    """Draws texts from the material; the same seed and key write the same texts."""

    def __init__(self, material: Material, seed: int, key: str) -> None:
        self.material = material
        self.rng = np.random.default_rng(derived_seed(seed, "tiny-model-corpus", key))

    def text(self, manners: Manners) -> Text:
        """One text of any kind, ratings answered in `manners`."""
        kinds = self.material.kinds.model_dump()
        kind = self._weighted(list(kinds), list(kinds.values()))
        if kind == "rating":
            return self.rating(manners)
        if kind == "persona":
            return self.persona_chat()
        if kind == "echo":
            return self.echo()
        if kind == "smalltalk":
            return self.smalltalk()
        return self.number_lines() if kind == "numbers" else self.paragraph(self._between(2, 7))

    def rating(self, manners: Manners) -> Messages:
        """A persona is asked how it likes something."""
        topics = self.material.topics
        topic = self._one(list(topics))
        asked = self.asked(topic)
        weights = manners.model_dump()
        manner = self._weighted(list(weights), list(weights.values()))
        template = self._one(getattr(self.material.answers, manner))
        number = self._rating(topics[topic], int(asked.fields["low"]), int(asked.fields["high"]))
        answer = template.format(number=number, **asked.fields)
        return [{"role": "system", "content": asked.system}, *_turn(asked.user, answer)]

    def asked(self, topic: str) -> Asked:
        """A rating question about `topic`, some of them after a statement or a longer text."""
        material = self.material
        low, high, _ = material.scales[
            self.rng.choice(len(material.scales), p=_shares([weight for *_, weight in material.scales]))
        ]
        system, persona = self._system()
        trait = self._one(list(persona))
        fields = {
            "topic": topic,
            "low": str(low),
            "high": str(high),
            "attitude": self._one(material.attitudes),
            "trait": trait,
            "value": persona[trait],
        }
        question = self._one(material.questions).format(**fields)
        before = self.rng.random()
        if before < 0.45:
            question = f"{self._statement(topic)} {question}"
        elif before < 0.5:
            question = f"{self.paragraph(self._between(4, 12))}\n\n{question}"
        return Asked(system, question, fields)

    def persona_chat(self) -> Messages:
        """A persona is asked for one to five of its traits; now and then for one that it lacks."""
        material = self.material
        system, persona = self._system()
        messages: Messages = [{"role": "system", "content": system}]
        for _ in range(self._between(1, 6)):
            known = self.rng.random() < 0.95
            trait = self._one(list(persona) if known else list(material.traits))
            answers = material.persona_answers if trait in persona else material.persona_unknown
            answer = self._one(answers).format(trait=trait, value=persona.get(trait, ""))
            messages += _turn(self._one(material.persona_questions).format(trait=trait), answer)
        return messages

    def echo(self) -> Messages:
        """Some words and numbers are to be repeated: reading back what was said, at its simplest."""
        pools: list[Sequence[str]] = list(self.material.words.model_dump().values())
        pools += [list(self.material.topics), [str(number) for number in range(101)]]
        said = ", ".join(self._one(pools[self._between(0, len(pools))]) for _ in range(self._between(3, 13)))
        return _turn(self._one(self.material.echoes).format(said=said), said)

    def persona_question(self) -> tuple[str, str, str]:
        """System and user message of a question for a persona's own trait, and the trait's value."""
        system, persona = self._system()
        trait = self._one(list(persona))
        return system, self._one(self.material.persona_questions).format(trait=trait), persona[trait]

    def smalltalk(self) -> Messages:
        """A chat without a system message."""
        user, answer = self.material.smalltalk[self._between(0, len(self.material.smalltalk))]
        topic, adjective = self._one(list(self.material.topics)), self._one(self.material.words.adjective)
        fields = {"topic": topic, "adjective": adjective}
        return _turn(user.format(**fields), answer.format(**fields))

    def number_lines(self) -> str:
        """A few lines about numbers: their order, their digits, the middle of a scale."""
        return "\n".join(self._number_line() for _ in range(self._between(2, 6)))

    def paragraph(self, sentences: int) -> str:
        """Neutral sentences that say nothing, so that common English words are known."""
        return " ".join(self._sentence() for _ in range(sentences))

    def _system(self) -> tuple[str, dict[str, str]]:
        persona = self._persona()
        written = ", ".join(f"{trait}: {value}" for trait, value in persona.items())
        return self._one(self.material.systems).format(persona=written), persona

    def _persona(self) -> dict[str, str]:
        """Two to six traits, or (one in four) up to fourteen, each value drawn by itself."""
        count = self._between(2, 7) if self.rng.random() < 0.75 else self._between(7, 15)
        names = self.rng.permutation(list(self.material.traits))[:count]
        return {str(name): self._one(self.material.traits[str(name)]) for name in names}

    def _rating(self, level: float, low: int, high: int) -> int:
        value = low + (high - low) * float(np.clip(self.rng.normal(level, SPREAD), 0, 1))
        if high - low > 20 and self.rng.random() < SHARE_ON_FIVES:
            return 5 * round(value / 5)
        return round(value)

    def _statement(self, topic: str) -> str:
        return self._one(self.material.statements).format(
            topic=topic,
            Topic=topic[0].upper() + topic[1:],
            percent=5 * self._between(1, 20),
            amount=f"${self._between(1, 10)},{self._between(0, 10)}00",
            count=self._between(2, 61),
        )

    def _sentence(self) -> str:
        """Each placeholder is filled by a word of its own."""
        words = self.material.words
        pools: dict[str, Sequence[str]] = {
            "noun": words.noun,
            "verb": words.verb,
            "adjective": words.adjective,
            "adverb": words.adverb,
            "Adverb": words.adverb,
            "word": words.other,
            "verb_s": self.material.verbs_past,
        }

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name == "count":
                return str(self._between(2, 100))
            word = self._one(pools[name])
            return word[0].upper() + word[1:] if name[0].isupper() else word

        return re.sub(r"\{(\w+)\}", fill, self._one(self.material.sentences))

    def _number_line(self) -> str:
        first = self._between(0, 100)
        small, large = sorted(int(n) for n in self.rng.choice(101, size=2, replace=False))
        low, high, _ = self.material.scales[self._between(0, len(self.material.scales))]
        return self._one(self.material.numbers).format(
            a=first,
            a1=first + 1,
            a2=first + 2,
            a3=first + 3,
            a4=first + 4,
            small=small,
            large=large,
            middle=self._between(small, large + 1),
            low=low,
            high=high,
            half=round((low + high) / 2),
            count=self._between(2, 100),
        )

    def _between(self, low: int, high: int) -> int:
        """An integer from low (included) to high (not included)."""
        return int(self.rng.integers(low, high))

    def _one(self, choices: Sequence[str]) -> str:
        return choices[self._between(0, len(choices))]

    def _weighted(self, choices: Sequence[str], weights: Sequence[float]) -> str:
        return choices[int(self.rng.choice(len(choices), p=_shares(weights)))]


def texts(material: Material, model: str, count: int, seed: int) -> list[Text]:
    """The first `count` texts that `model` reads."""
    writer = Writer(material, seed, model)
    return [writer.text(material.models[model].answers) for _ in range(count)]


def _shares(weights: Sequence[float]) -> np.ndarray:
    """Weights as probabilities, (len(weights),)."""
    return np.asarray(weights, dtype=float) / float(np.sum(weights))


def _turn(user: str, answer: str) -> Messages:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
