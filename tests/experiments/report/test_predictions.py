"""Predictions on chosen images, and the files they are kept in."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from mmseg.apis import init_model
from mmseg.registry import DATASETS

from mmseg_dafm.core.image_files import evenly_spread
from mmseg_dafm.experiments.report import predictions
from mmseg_dafm.experiments.report.page import report
from mmseg_dafm.experiments.report.predictions import cached_shots, choose
from mmseg_dafm.experiments.suites.results import read_folder
from tests.experiments.report.common import toy_run, toy_suite


@given(st.integers(1, 300), st.integers(1, 20))
def test_places_are_evenly_spread(total, count):
    places = evenly_spread(total, count)
    assert len(places) == len(set(places)) == min(total, count)
    assert all(0 <= place < total for place in places)
    gaps = np.diff([*places])
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@given(st.lists(st.sampled_from('abc'), min_size=1, max_size=60), st.integers(1, 4))
def test_every_domain_has_its_images(domains, count):
    found = [domains[i] for i in choose(domains, count)]
    assert {name: found.count(name) for name in domains} == {name: min(count, domains.count(name)) for name in domains}


@pytest.fixture
def run(root, tmp_path):
    return read_folder(toy_run(root, tmp_path / 'run'), 'x')


def test_predictions_are_those_of_the_checkpoint(run, tmp_path):
    shots = cached_shots(run, tmp_path / 'cache/run.npz', 2)
    assert shots.domains == [name for name in ('clear', 'fog', 'night', 'rain', 'snow') for _ in range(2)]
    model = init_model(str(run.file.parent / 'toy.py'), str(run.file.parent / 'iter_20.pth'), device='cpu')
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    for i, name in enumerate(shots.names):
        sample = dataset[paths.index(name)]
        with torch.no_grad():
            tested = model.test_step(pseudo_collate([sample]))[0]
        np.testing.assert_array_equal(shots.predictions[i], tested.pred_sem_seg.data[0])
        np.testing.assert_array_equal(shots.labels[i], tested.gt_sem_seg.data[0])
        np.testing.assert_array_equal(shots.images[i], sample['inputs'].permute(1, 2, 0).flip(-1))


def test_a_second_call_needs_no_model_until_the_checkpoint_or_the_number_changes(run, tmp_path, monkeypatch):
    first = cached_shots(run, tmp_path / 'run.npz', 1)

    def refuse(*_):
        raise RuntimeError('built')

    monkeypatch.setattr(predictions, 'predict', refuse)
    second = cached_shots(run, tmp_path / 'run.npz', 1)
    assert (second.names, second.domains, second.classes) == (first.names, first.domains, first.classes)
    for kind in ('images', 'labels', 'predictions'):
        np.testing.assert_array_equal(getattr(first, kind), getattr(second, kind))
    with pytest.raises(RuntimeError, match='built'):
        cached_shots(run, tmp_path / 'run.npz', 2)
    checkpoint = run.file.parent / 'iter_20.pth'
    os.utime(checkpoint, (1, 1))
    with pytest.raises(RuntimeError, match='built'):
        cached_shots(run, tmp_path / 'run.npz', 1)
    checkpoint.unlink()
    assert cached_shots(run, tmp_path / 'run.npz', 1).names == first.names
    with pytest.raises(ValueError, match='the checkpoint iter_20.pth is gone from run'):
        cached_shots(run, tmp_path / 'run.npz', 2)
    (tmp_path / 'run.npz').write_bytes(b'PK half of a file')
    with pytest.raises(ValueError, match='the checkpoint iter_20.pth is gone from run'):
        cached_shots(run, tmp_path / 'run.npz', 1)


def test_without_its_config_a_run_has_no_prediction(run, tmp_path):
    (run.file.parent / 'toy.py').unlink()
    with pytest.raises(ValueError, match='the config toy.py is gone from run'):
        cached_shots(run, tmp_path / 'run.npz', 1)


def test_a_run_on_other_images_is_left_out_with_a_sentence(root, tmp_path):
    suite = toy_suite(root, tmp_path)
    config = tmp_path / 'run1/toy.py'
    config.write_text(config.read_text().replace('length=20', 'length=40'))
    page = report(suite, tmp_path, 2)
    assert 'run1: no prediction, because its test images are not those of run0' in page
    assert page.count('prediction of A method with a long name0') == 10
    assert 'prediction of A method with a long name1' not in page
