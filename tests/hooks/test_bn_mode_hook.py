"""BNModeHook: modes survive model.train(), by part and by scope."""

import pytest
import torch
from mmengine.hooks import Hook
from mmseg.models.backbones import ResNet
from torch import nn

from mmseg_dafm.hooks.bn_mode import BNModeHook, modules_by_mode
from tests.daft.networks import norms
from tests.hooks.classifier import Classifier, runner


class Watch(Hook):
    """Notes the modes inside the training step."""

    priority = 'LOWEST'

    def __init__(self):
        self.modes = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.modes.append([layer.training for layer in norms(runner.model)])


def train(tmp_path, loop, **options):
    watch = Watch()
    run = runner(tmp_path, [dict(type='mmseg.BNModeHook', **options), watch], epochs=1 if loop == 'epochs' else None)
    statistics = [layer.running_mean.clone() for layer in norms(run.model)]
    run.train()
    moved = [not torch.equal(old, layer.running_mean) for old, layer in zip(statistics, norms(run.model), strict=True)]
    return run.model, watch.modes, moved


@pytest.mark.parametrize('loop', ['iterations', 'epochs'])
def test_a_part_stays_in_test_mode_through_every_iteration(tmp_path, loop):
    model, modes, moved = train(tmp_path, loop, modes={'net.backbone': 'eval'})
    assert modes == [[False] * 5 + [True]] * (3 if loop == 'iterations' else 6)
    assert moved == [False] * 5 + [True]
    assert model.net.backbone[0].conv.training, 'other modules train'
    gamma = model.net.backbone[0].bn.weight
    assert not torch.equal(gamma, Classifier().net.backbone[0].bn.weight), 'gamma still trains'


def test_the_longest_path_decides(tmp_path):
    _, modes, moved = train(tmp_path, 'iterations', modes={'': 'eval', 'net.head': 'train', 'net.backbone.1': 'train'})
    assert modes[0] == moved == [False, True, False, False, False, True]


def test_scope_all_takes_dropout_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    assert modules_by_mode(model, {'': 'eval'}, 'bn') == {model[2]: False}
    assert modules_by_mode(model, {'': 'eval'}, 'all') == dict.fromkeys((model, *model), False)


def test_frozen_stages_can_be_put_back_into_train_mode():
    model = nn.Sequential()
    model.add_module('backbone', ResNet(18, base_channels=8, stem_channels=8, frozen_stages=1))
    chosen = modules_by_mode(model, {'backbone.layer1': 'train'}, 'bn')
    assert set(chosen) == set(norms(model.backbone.layer1))
    assert set(chosen.values()) == {True}


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(modes={}), "maps parts of the model to 'train' or 'eval'"),
        (dict(modes={'net': 'test'}), "got {'net': 'test'}"),
        (dict(modes={'net': 'eval'}, scope='norm'), "scope='norm' is unknown"),
    ],
)
def test_bad_settings_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        BNModeHook(**options)


def test_parts_must_exist_and_hold_something(tmp_path):
    with pytest.raises(ValueError, match="Classifier has no part 'backbone'"):
        modules_by_mode(Classifier(), {'backbone': 'eval'}, 'bn')
    with pytest.raises(ValueError, match=r"no batch normalisation in \['net.backbone.0.conv'\]"):
        modules_by_mode(Classifier(), {'net.backbone.0.conv': 'eval'}, 'bn')
