"""The contrastive plugin: its loss against a loop that anyone can follow, and clips of one shot."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from examples.contrast import Contrast, SimilarityHead
from rushes.errors import UserError
from tests.pretext.shots import shot


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_loss_is_that_of_a_plain_loop(temperature: float) -> None:
    torch.manual_seed(0)
    head, features = SimilarityHead(12, projected=128, temperature=temperature), torch.randn(5, 2, 12)
    first, second = head.project(features).detach().unbind(1)
    losses = []
    for i in range(5):
        alike = [math.exp(float(F.cosine_similarity(first[i], other, dim=0)) / temperature) for other in second]
        losses.append(-math.log(alike[i] / sum(alike)))
    found = Contrast().loss(head(features), torch.zeros(5, dtype=torch.long))
    assert float(found.detach()) == pytest.approx(sum(losses) / 5, rel=1e-4)


def test_the_tuples_own_clip_is_the_first_answer() -> None:
    clips = torch.randn(6, 1, 16).expand(6, 2, 16)
    logits = Contrast().head(16)(clips)
    assert logits.shape == (6, 6)
    assert (logits.argmax(1) == 0).all()


@given(gap=st.integers(0, 20), clip_frames=st.integers(2, 16), slack=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_both_clips_are_whole_and_a_gap_apart(gap: int, clip_frames: int, slack: int, seed: int) -> None:
    task = Contrast(gap=gap)
    frames = task.span(clip_frames=clip_frames) + slack
    drawn = task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    assert (np.diff(drawn.frames, axis=1) == 1).all()
    assert abs(int(drawn.frames[0, 0] - drawn.frames[1, 0])) >= gap
    assert drawn.frames.min() >= 0 and drawn.frames.max() < frames
    assert drawn.label == 0


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"projected": 0}, {"gap": -1}])
def test_a_mistake_in_the_options_is_refused(option: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"pretrain.options: {next(iter(option))}: .* is not allowed"):
        Contrast(**option)
