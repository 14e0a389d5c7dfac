# SPDX-License-Identifier: Apache-2.0
"""When a training writes its checkpoints and pictures."""

from types import SimpleNamespace

import pytest
import torch
from crowdgaussian.core.optim import Descent, minimise, warmed_cosine
from crowdgaussian.core.progress import silent
from crowdgaussian.core.training import require_finite, run_steps
from crowdgaussian_shared.errors import Cancelled, SettingError


class Steps:
    """A training that notes what it is asked."""

    def __init__(self, broken=None, votes=None):
        self.step, self.broken, self.saved, self.drawn = 0, broken, [], []
        self.accelerator = SimpleNamespace(
            num_processes=1 if votes is None else 2,
            device="cpu",
            reduce=lambda vote, how: vote + torch.tensor(float(self.step in votes)),
        )

    def iterate(self):
        if self.step + 1 == self.broken:
            raise KeyboardInterrupt
        self.step += 1
        return "all is well"

    def save(self):
        self.saved.append(self.step)

    def sample(self):
        self.drawn.append(self.step)


def test_checkpoints_and_pictures_come_when_asked_and_at_the_end():
    job, told = Steps(), []
    run_steps(job, 7, 3, 5, told.append)
    assert job.saved == [3, 6, 7] and job.drawn == [5, 7]
    assert [round(each.fraction * 7) for each in told] == list(range(1, 8))
    assert told[1].message == "step 2, all is well"
    run_steps(job, 7, 3, 5, told.append)
    assert job.step == 7 and len(told) == 7


def test_a_stop_between_steps_saves_and_one_in_a_step_does_not():
    def stop(progress):
        if progress.message.startswith("step 4"):
            raise Cancelled

    asked = Steps()
    with pytest.raises(Cancelled):
        run_steps(asked, 7, 3, 9, stop)
    assert asked.saved == [3, 4] and asked.step == 4
    broken = Steps(broken=5)
    with pytest.raises(KeyboardInterrupt):
        run_steps(broken, 7, 3, 9, silent)
    assert broken.saved == [3]


def test_all_processes_stop_after_the_same_step():
    job = Steps(votes={2})  # the other process was asked to stop
    with pytest.raises(Cancelled):
        run_steps(job, 7, 9, 9, silent)
    assert job.saved == [2] and job.step == 2


def test_a_fit_goes_down_until_it_is_told_to_end():
    place, seen = torch.tensor([3.0], requires_grad=True), []

    def ended(step, loss):
        seen.append(float(loss))
        return step == 9

    groups = [{"params": [place], "lr": 0.1}]
    minimise(groups, Descent(50, rate=lambda done: 1 - done), lambda _: place.square().sum(), ended)
    assert len(seen) == 10 and seen[-1] < seen[0] == 9.0


def test_a_training_warms_up_and_cools_down():
    rates = [warmed_cosine(2.0, step, 100, 4) for step in range(101)]
    assert rates[0] == pytest.approx(0.5, rel=1e-3) and max(rates) == rates[3]
    assert rates[-1] == pytest.approx(0.04)


@pytest.mark.parametrize("own, other", [(1.0, float("nan")), (float("inf"), 1.0)])
def test_a_loss_that_is_no_number_stops_every_process(own, other):
    """Each process asks all of them: who stopped alone would leave the others waiting."""
    finite = float(torch.tensor(other).isfinite())
    both = SimpleNamespace(reduce=lambda mine, how: {"mean": (mine + finite) / 2}[how])
    with pytest.raises(SettingError, match="The loss of step 7 is no number"):
        require_finite(torch.tensor(own), 7, both)
    alone = SimpleNamespace(reduce=lambda mine, how: mine)
    require_finite(torch.tensor(1.0), 7, alone)
