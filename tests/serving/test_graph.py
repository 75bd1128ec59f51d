"""The served module: what it averages, and that videos in a batch do not see each other."""

import torch

from rushes.serving.graph import ServingGraph


def random_clips(videos: int, clips: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(videos, clips, 8, 48, 32, generator=generator)
    levels = torch.rand(videos, clips, 1, 1, 1, generator=generator)
    return (255 * noise * levels).to(torch.uint8)


def test_probabilities_are_the_softmax_of_the_mean_logits_over_clips(graph: ServingGraph) -> None:
    clips = random_clips(2, 3)
    with torch.no_grad():
        probabilities, embedding = graph(clips)
        single = [graph(clips[:, index : index + 1])[1] for index in range(3)]
        logits = torch.stack([graph.head(features) for features in single]).mean(0)
    assert probabilities.shape == (2, 5) and embedding.shape == (2, 16)
    assert torch.allclose(probabilities, logits.softmax(-1), atol=1e-6)
    assert torch.allclose(embedding, torch.stack(single).mean(0), atol=1e-6)
    assert torch.allclose(probabilities.sum(-1), torch.ones(2))


def test_a_video_gets_the_same_answer_alone_and_in_a_batch(graph: ServingGraph) -> None:
    clips = random_clips(4, 2)
    with torch.no_grad():
        together = graph(clips)[0]
        alone = torch.cat([graph(video[None])[0] for video in clips])
    assert torch.allclose(together, alone, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-3
