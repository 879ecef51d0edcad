"""Empirical and true Fisher of a softmax-linear model, whose values are known."""

import torch

from mmseg_dafm.fishertune.squared_gradients import (
    LayerGradients,
    add_squares_by_batch,
    add_squares_by_loop,
    draw_labels,
    new_accumulators,
)

CLASSES, WIDTH = 4, 5


def model_and_data(count):
    torch.manual_seed(0)
    model = torch.nn.Linear(WIDTH, CLASSES, bias=False).double()
    return model, torch.randn(count, WIDTH, dtype=torch.float64)


def test_true_label_fisher():
    """F = mean_i (p_i - e_{y_i})^2 x_i^2."""
    model, x = model_and_data(7)
    y = torch.randint(0, CLASSES, (7,), generator=torch.Generator().manual_seed(1))
    p = torch.softmax(model(x), 1).detach()
    expected = ((p - torch.eye(CLASSES)[y]) ** 2).T @ x**2

    def losses(batch, seeds):
        return torch.nn.functional.cross_entropy(model(torch.stack([a for a, _ in batch])), torch.stack([b for _, b in batch]),
                                                 reduction='none')  # fmt: skip

    data = list(zip(x, y, strict=True))
    loop, batch = new_accumulators({'w': model.weight}), new_accumulators({'w': model.weight})
    add_squares_by_loop(losses, {'w': model.weight}, data, [0] * 7, loop)
    with LayerGradients(model, {'w': model.weight}) as layers:
        add_squares_by_batch(losses, layers, data, [0] * 7, batch)
    torch.testing.assert_close(loop['w'], expected)
    torch.testing.assert_close(batch['w'], expected)


def test_sampled_label_fisher():
    """E_y~p (p - e_y)^2 x^2 = p (1 - p) x^2, reached by labels drawn from the model."""
    model, x = model_and_data(3)
    p = torch.softmax(model(x), 1).detach()
    expected = (p * (1 - p)).T @ x**2
    total, draws = new_accumulators({'w': model.weight}), 3000

    def losses(batch, seeds):
        logits = model(torch.stack(list(batch)))
        labels = draw_labels(torch.softmax(logits, 1).detach()[..., None, None], seeds)[:, 0, 0]
        return torch.nn.functional.cross_entropy(logits, labels, reduction='none')

    with LayerGradients(model, {'w': model.weight}) as layers:
        for seed in range(draws):
            add_squares_by_batch(losses, layers, list(x), [3 * seed, 3 * seed + 1, 3 * seed + 2], total)
    torch.testing.assert_close(total['w'] / draws, expected, rtol=0.08, atol=0.02)


def test_labels_are_drawn_from_the_probabilities():
    probabilities = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 100, 100)
    drawn = draw_labels(probabilities, [5])
    shares = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), atol=0.02, rtol=0)
    assert torch.equal(drawn, draw_labels(probabilities, [5]))
    assert not torch.equal(drawn, draw_labels(probabilities, [6]))
    # scores that do not add up to one are shares of their sum
    assert torch.equal(drawn, draw_labels(probabilities * 7, [5]))
