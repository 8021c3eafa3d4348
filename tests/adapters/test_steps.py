import pytest

from evsim_assets.adapters.steps import plan_steps


def test_a_step_holds_whole_participants_until_the_batch_is_full() -> None:
    texts = [6, 6, 6, 1, 6, 2, 6]
    for step in plan_steps(texts, 8, 3, seed=1):
        counts = [texts[p] for p in step.participants]
        assert sum(counts[:-1]) < 8
        assert sum(counts) >= 8 or step.epoch == int(step.epoch)  # only an epoch's last step is smaller


def test_every_epoch_sees_every_participant_once_in_another_order() -> None:
    steps = plan_steps([2] * 20, 4, 2, seed=1)
    seen = [p for step in steps for p in step.participants]
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]
    assert [step.epoch for step in steps] == pytest.approx([(k + 1) / 10 for k in range(20)])


def test_a_part_of_an_epoch_ends_where_it_is_reached() -> None:
    assert plan_steps([2] * 20, 4, 1.25, seed=1) == plan_steps([2] * 20, 4, 2, seed=1)[:13]


def test_the_order_follows_from_the_seed() -> None:
    assert plan_steps([2] * 20, 4, 1, seed=1) == plan_steps([2] * 20, 4, 1, seed=1)
    assert plan_steps([2] * 20, 4, 1, seed=1) != plan_steps([2] * 20, 4, 1, seed=2)
