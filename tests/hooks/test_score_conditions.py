"""Scores tell what they were estimated with; another head, loss, data set or part does not pass in silence."""

import logging
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config

from mmseg_dafm.fishertune.score_file import differences, fingerprint, load_fisher, save_fisher
from mmseg_dafm.hooks import fisher_tune
from mmseg_dafm.hooks.fisher_estimation import Estimation
from tests.hooks.fisher_run import build, config, train

OPTIONS = dict(images=6, bank_images=4, batch_size=2, estimator='plain')


def conditions(folder, change=lambda cfg: None, trained=lambda model: None):
    cfg = config(folder)
    change(cfg)
    runner = build(cfg)
    trained(runner.model)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    return Estimation(**OPTIONS).conditions(runner.model, wrapper, cfg.train_dataloader)


@pytest.fixture(scope='module')
def usual(tmp_path_factory):
    return conditions(tmp_path_factory.mktemp('usual'))


def weigh(cfg):
    cfg.model.decode_head.loss_decode.class_weight = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda cfg: cfg.model.decode_head.update(channels=16), 'decode_head: names and shapes of its weights'),
        (lambda cfg: cfg.model.decode_head.update(in_index=1), 'decode_head.in_index (2 there, 1 here)'),
        (weigh, 'decode_head.loss_decode.class_weight (None there, [1.0, 1.0, 1.0, 1.0, 1.0, 2.0] here)'),
        (lambda cfg: cfg.train_dataloader.dataset.update(length=10), 'dataset.length (9 there, 10 here)'),
        (lambda cfg: cfg.train_dataloader.dataset.update(conditions=['fog']), "dataset.conditions (nothing there, ['fog'] here)"),
        (
            lambda cfg: cfg.model.data_preprocessor.update(mean=[0.0] * 3),
            'data_preprocessor.mean ([127.5, 127.5, 127.5] there, [0.0, 0.0, 0.0] here)',
        ),
        (lambda cfg: cfg.model.backbone.update(depth=4), 'weights of the backbone that are no candidates'),
    ],
)
def test_what_differs_is_named(usual, tmp_path, change, text):
    assert text in differences(usual, conditions(tmp_path, change))


def test_values_of_the_head_and_places_do_not_matter(usual, tmp_path):
    def elsewhere(cfg):
        cfg.train_dataloader.dataset.pipeline[0].backend_args = dict(backend='local')
        cfg.train_dataloader.dataset.data_root = '/one/street'

    def warm(model):
        with torch.no_grad():
            for parameter in model.decode_head.parameters():
                parameter.add_(1.0)

    first = conditions(tmp_path / 'a', elsewhere, warm)
    assert differences(usual, first) == ["dataset.data_root (nothing there, 'street' here)"]

    def mounted(cfg):
        cfg.train_dataloader.dataset.data_root = '/two/mounts/street'

    assert differences(first, conditions(tmp_path / 'b', mounted)) == []


@pytest.fixture(scope='module')
def scores(tmp_path_factory):
    """A finished estimation's file."""
    folder = tmp_path_factory.mktemp('scores')
    train(config(folder, dict(warmup_iters=0), iterations=1))
    return folder / 'dr_fim.safetensors'


def warnings(folder, scores, monkeypatch, change=lambda cfg: None, **hook):
    """What a run with given scores warns of."""
    said = []
    monkeypatch.setattr(fisher_tune, 'print_log', lambda text, *rest: said.append(text) if logging.WARNING in rest else None)
    cfg = config(folder, dict(scores=str(scores), warmup_iters=0, **hook), iterations=1)
    change(cfg)
    train(cfg)
    return [text for text in said if 'scores=' in text]


@pytest.mark.slow
def test_a_run_warns_of_scores_of_another_loss(scores, tmp_path, monkeypatch):
    assert warnings(tmp_path / 'same', scores, monkeypatch) == []
    (text,) = warnings(tmp_path / 'other', scores, monkeypatch, weigh)
    assert 'decode_head.loss_decode.class_weight (None there' in text
    assert str(scores) in text


@pytest.mark.slow
def test_scores_of_a_part_must_be_asked_for(scores, tmp_path, monkeypatch):
    found = load_fisher(scores)
    half, weights = tmp_path / 'half.safetensors', found.meta.pop('weights')
    save_fisher(half, replace(found, meta=dict(found.meta, part=[0, 2])), weights)
    with pytest.raises(ValueError, match=r'are of part 0/2 of the training images, the config asks for 0/1: .*part=\(0, 2\)'):
        warnings(tmp_path / 'refused', half, monkeypatch)
    with pytest.raises(ValueError, match='are of part 0/1 of the training images, the config asks for 1/2'):
        warnings(tmp_path / 'whole', scores, monkeypatch, estimation=dict(part=(1, 2)))
    assert warnings(tmp_path / 'asked', half, monkeypatch, estimation=dict(part=(0, 2))) == []


@pytest.mark.slow
def test_scores_of_an_earlier_version_are_used_with_a_warning(scores, tmp_path, monkeypatch):
    found = load_fisher(scores)
    weights = found.meta.pop('weights')
    del found.meta['conditions']
    save_fisher(tmp_path / 'old.safetensors', found, weights)
    (text,) = warnings(tmp_path / 'run', tmp_path / 'old.safetensors', monkeypatch)
    assert 'do not tell the head, loss and data set' in text


def test_the_backbones_other_weights_count_but_not_the_candidates(usual, tmp_path):
    def moved(name):
        def move(model):
            with torch.no_grad():
                dict(model.backbone.named_parameters())[name].add_(1.0)

        return move

    names = [name for name, _ in build(config(tmp_path / 'names')).model.backbone.named_parameters()]
    other = next(name for name in names if 'norm' in name and name.endswith('weight'))
    candidate = next(name for name in names if name.endswith('qkv.weight'))
    assert differences(usual, conditions(tmp_path / 'a', trained=moved(other))) == [
        'weights of the backbone that are no candidates'
    ]
    assert differences(usual, conditions(tmp_path / 'b', trained=moved(candidate))) == []


def test_conditions_are_read_from_a_loader_too(tmp_path):
    cfg = config(tmp_path)
    runner = build(cfg)
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    loader = runner.build_dataloader(Config(cfg.train_dataloader.to_dict()))
    found = Estimation(**OPTIONS).conditions(runner.model, wrapper, loader)
    assert (found['dataset.type'], found['dataset.images']) == ('ToyDriveDataset', 9)
    assert fingerprint({}) != found['weights of the backbone that are no candidates']
