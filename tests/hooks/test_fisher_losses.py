"""Labels that a model gives itself: scores of mask classification are no logits."""

import torch
from mmengine.dataset import pseudo_collate

from mmseg_dafm.hooks import fisher_losses
from mmseg_dafm.hooks.fisher_losses import SampleLosses
from mmseg_dafm.hooks.fisher_samples import sample_source
from tests.hooks.fisher_run import build, config, mask2former


def given_to_draw(tmp_path, monkeypatch, **changes):
    """What labels are drawn from, and what the model predicts."""
    runner = build(config(tmp_path, **changes))
    model, seen = runner.model.eval(), []
    samples = next(iter(sample_source(runner.cfg.train_dataloader, 0)([(0, [0])])))
    draw = fisher_losses.draw_labels
    monkeypatch.setattr(fisher_losses, 'draw_labels', lambda scores, seeds: seen.append(scores) or draw(scores, seeds))
    SampleLosses(model, 'sample')(samples, [3])
    data = model.data_preprocessor(pseudo_collate(samples), True)
    with torch.no_grad():
        predicted = model.encode_decode(data['inputs'], [sample.metainfo for sample in data['data_samples']])
    return seen[0], predicted


def test_scores_of_mask_classification_are_taken_as_they_are(tmp_path, monkeypatch):
    scores, predicted = given_to_draw(tmp_path, monkeypatch, model=mask2former())
    torch.testing.assert_close(scores, predicted)


def test_logits_become_probabilities(tmp_path, monkeypatch):
    scores, predicted = given_to_draw(tmp_path, monkeypatch)
    torch.testing.assert_close(scores, predicted.softmax(1))
