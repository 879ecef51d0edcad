"""BNConversionHook in mmengine runs: a plain classifier, and what lies around a conversion."""

import copy
import json

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner.checkpoint import load_checkpoint
from torch.utils.data import DataLoader

from mmseg_dafm.daft import convert_bn
from mmseg_dafm.datasets.target_batches import build_target_loader
from tests.daft.networks import norms
from tests.hooks.classifier import Classifier, Images, runner

HOOK = dict(type='mmseg.BNConversionHook', modules=['net.backbone'])
FILES = {'daft_converted.pth', 'bn_conversion.json', 'bn_conversion.png'}


def probe(model):
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return model.net(Images().images)


def test_a_plain_classifier_is_converted_and_trained(tmp_path):
    model = Classifier()
    before = probe(model)
    run = runner(tmp_path, [HOOK], model)
    run.train()
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    converted = Classifier()
    load_checkpoint(converted, str(tmp_path / 'daft_converted.pth'), strict=True)
    torch.testing.assert_close(probe(converted), before, rtol=1e-4, atol=1e-5)
    assert not torch.equal(converted.net.backbone[0].bn.running_mean, Classifier().net.backbone[0].bn.running_mean)
    assert torch.equal(converted.net.head[2].running_mean, Classifier().net.head[2].running_mean)
    record = json.loads((tmp_path / 'bn_conversion.json').read_text())
    assert record['num_batches'] == 6
    assert record['batch_size'] == 4
    assert len(record['layers']) == 5
    assert record['verify_error'] < 1e-5
    saved = torch.load(tmp_path / 'iter_3.pth', weights_only=False)
    assert saved['meta']['daft_bn']['layers'].keys() == record['layers'].keys()
    scalars = next(tmp_path.rglob('scalars.json')).read_text()
    assert 'daft_bn/ratio_median' in scalars
    assert not torch.equal(run.model.net.backbone[0].bn.weight, converted.net.backbone[0].bn.weight), 'and it trained on'


@pytest.mark.parametrize('workers', [0, 2])
def test_training_sees_the_same_batches_with_and_without_the_hook(tmp_path, workers):
    seen = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        run = runner(tmp_path / name, hooks, workers=workers, iterations=8)
        run.train()
        seen.append(torch.stack(run.model.seen))
    assert len(seen[0]) == 8
    assert torch.equal(*seen)


def test_a_resumed_run_does_not_convert_again(tmp_path, caplog):
    whole = runner(tmp_path / 'whole', [HOOK], iterations=4)
    whole.train()
    runner(tmp_path / 'cut', [HOOK], iterations=2).train()
    converted = (tmp_path / 'cut/daft_converted.pth').stat()
    resumed = runner(tmp_path / 'cut', [HOOK], iterations=4, resume=True)
    resumed.train()
    assert (tmp_path / 'cut/daft_converted.pth').stat().st_mtime_ns == converted.st_mtime_ns
    # the images' augmentation draws anew after resuming, the conversion would move statistics by far more than that
    for one, other in zip(norms(whole.model), norms(resumed.model), strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=0.05, atol=0.05)
    meta = torch.load(tmp_path / 'cut/iter_4.pth', weights_only=False)['meta']
    assert meta['daft_bn']['num_batches'] == 6, 'the record stays with the run'


def test_resume_with_an_empty_folder_converts(tmp_path):
    run = runner(tmp_path, [HOOK], resume=True)
    run.train()
    assert (tmp_path / 'daft_converted.pth').is_file()


def test_resuming_a_run_that_was_never_converted_leaves_it_alone(tmp_path):
    runner(tmp_path, iterations=1).train()
    run = runner(tmp_path, [HOOK], iterations=2, resume=True)
    run.train()
    assert not (tmp_path / 'daft_converted.pth').is_file()
    assert 'never converted' in next(tmp_path.glob('*/*.log')).read_text() + ''.join(
        p.read_text() for p in tmp_path.rglob('*.log')
    )


def test_converted_weights_of_another_run_are_converted_again_with_a_warning(tmp_path):
    runner(tmp_path / 'a', [HOOK], iterations=1).train()
    run = runner(tmp_path / 'b', [HOOK], iterations=1, load_from=str(tmp_path / 'a/daft_converted.pth'))
    run.train()
    log = ''.join(path.read_text() for path in (tmp_path / 'b').rglob('*.log'))
    assert 'were converted before, in another run' in log
    record = json.loads((tmp_path / 'b/bn_conversion.json').read_text())
    # the augmentation draws other numbers than in the first run, but not by much
    assert all(0.9 < layer['ratio_median'] < 1.1 for layer in record['layers'].values())


def test_ema_starts_from_the_converted_weights(tmp_path):
    ema = dict(type='EMAHook', momentum=1e-6, update_buffers=True)
    run = runner(tmp_path, [HOOK, ema], iterations=2, optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-9)))
    run.train()
    converted = Classifier()
    load_checkpoint(converted, str(tmp_path / 'daft_converted.pth'))
    averaged = next(hook for hook in run.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    for old, new in zip(norms(converted.net.backbone), norms(averaged.net.backbone), strict=True):
        torch.testing.assert_close(new.weight, old.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_training_step(tmp_path):
    data = Images(jitter=0)
    runner(tmp_path / 'plain', [HOOK], iterations=1, dataset=data).train()
    run = runner(tmp_path / 'compiled', [HOOK], iterations=2, dataset=data, cfg=dict(compile=dict(backend='aot_eager')))
    run.train()
    plain, record = (json.loads((tmp_path / name / 'bn_conversion.json').read_text()) for name in ('plain', 'compiled'))
    assert record['verify_error'] < 1e-5
    assert record['layers'].keys() == plain['layers'].keys()
    for name, layer in record['layers'].items():
        assert layer == pytest.approx(plain['layers'][name], rel=1e-4), name
    assert len(run.model.seen) == 2


@pytest.mark.slow
def test_the_estimate_can_run_in_half_precision(tmp_path):
    runner(tmp_path / 'half', [{**HOOK, 'amp': True}], iterations=1).train()
    runner(tmp_path / 'single', [HOOK], iterations=1).train()
    half, single = (torch.load(tmp_path / name / 'daft_converted.pth', weights_only=False) for name in ('half', 'single'))
    key = 'net.backbone.3.bn.running_var'
    ratio = half['state_dict'][key] / single['state_dict'][key]
    assert 0 < (ratio - 1).abs().max() < 0.05


def test_an_own_loader_and_a_number_of_batches(tmp_path):
    other = Images(8)
    other.images += 100
    loader = dict(dataset=other, batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'))
    run = runner(tmp_path, [{**HOOK, 'dataloader': loader, 'num_batches': 3}], iterations=1)
    run.train()
    record = json.loads((tmp_path / 'bn_conversion.json').read_text())
    assert (record['num_batches'], record['batch_size']) == (3, 2)
    assert record['layers']['net.backbone.0.bn']['shift_median'] > 10


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (dict(modules=['backbone']), "Classifier has no part 'backbone'; it has data_preprocessor, net"),
        (dict(modules='net'), 'modules must be a list'),
        (dict(forward='features'), "forward='features' is unknown"),
        (dict(forward='extract_feat'), 'Classifier has no such method'),
        (dict(mode='x'), "mode='x' is unknown"),
    ],
)
def test_bad_settings_are_named_before_training(tmp_path, change, text):
    with pytest.raises((ValueError, TypeError), match=text):
        runner(tmp_path, [{**HOOK, **change}]).train()
    assert not list(tmp_path.glob('*.pth'))


def test_images_that_overflow_leave_the_model_unchanged(tmp_path):
    data = Images()
    data.images[3] = float('inf')
    model = Classifier()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='not finite'):
        runner(tmp_path, [HOOK], model, dataset=data).train()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_loader_is_one_shuffled_epoch_without_the_partial_batch():
    data = Images(10)
    cfg = dict(
        dataset=data, batch_size=4, num_workers=2, persistent_workers=True, sampler=dict(type='InfiniteSampler'),
        collate_fn=dict(type='default_collate'),
    )  # fmt: skip
    loader = build_target_loader(cfg, seed=3)
    batches = [labels.tolist() for _, labels in loader]
    assert [len(batch) for batch in batches] == [4, 4]
    assert batches == [labels.tolist() for _, labels in build_target_loader(cfg, seed=3)]
    assert cfg['sampler']['type'] == 'InfiniteSampler', 'the config is untouched'
    shared = build_target_loader(DataLoader(data, batch_size=5), seed=3)
    assert shared.dataset is data
    assert len(shared) == 2
    with pytest.raises(ValueError, match='no full batch: 10 images per rank, batch_size=16'):
        build_target_loader({**cfg, 'batch_size': 16}, seed=0)


class ListedImages(BaseDataset):
    """Images as mmengine's wrappers want them."""

    def __init__(self, length):
        data = Images(length)
        self.images, self.labels = data.images, data.labels
        super().__init__()

    def load_data_list(self):
        return list(range(len(self.images)))

    def parse_data_info(self, raw):
        return raw

    def get_data_info(self, index):
        return index

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def test_an_epoch_is_every_distinct_image_once_whatever_repeats_it(tmp_path):
    data = ListedImages(10)
    options = dict(batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
    seen = lambda source: sorted(image.mean().item() for images, _ in build_target_loader(source, 3) for image in images)  # noqa: E731
    once = sorted(image.mean().item() for image in data.images)
    repeat = lambda times, dataset: dict(type='RepeatDataset', times=times, dataset=dataset)  # noqa: E731
    repeated, nested = repeat(40000, data), repeat(3, repeat(5, data))
    both = dict(type='ConcatDataset', datasets=[repeat(7, data), data, repeat(2, data)])
    for dataset, times in ((repeated, 1), (nested, 1), (both, 3), (repeat(2, both), 3)):
        for sampler in (dict(type='InfiniteSampler'), dict(type='DefaultSampler', shuffle=False)):
            cfg = dict(dataset=dataset, sampler=sampler, num_batch_per_epoch=2, **options)
            loader = build_target_loader(cfg, seed=3)
            assert (len(loader), len(loader.sampler)) == (10 * times // 4, 10 * times)
        assert seen({**cfg, 'batch_size': 5}) == pytest.approx(sorted(once * times))
    built = DataLoader(DATASETS.build(nested), batch_size=5)
    assert seen(built) == pytest.approx(once), 'a loader that was built already, too'
    runner(tmp_path, [HOOK], iterations=1, dataset=repeated).train()
    assert json.loads((tmp_path / 'bn_conversion.json').read_text())['num_batches'] == 2


def test_the_hook_does_what_the_function_does(tmp_path):
    data = Images()
    run = runner(tmp_path, [{**HOOK, 'seed': 7}], iterations=1, dataset=data)
    run.train()
    model = Classifier()
    torch.manual_seed(0)
    loader = build_target_loader(DataLoader(data, batch_size=4), seed=7)
    convert_bn(model, loader, ['net.backbone'], forward=lambda batch: model.net(batch[0]))
    saved = torch.load(tmp_path / 'daft_converted.pth', weights_only=False)['state_dict']
    # but for the augmentation's draws
    torch.testing.assert_close(saved['net.backbone.2.bn.weight'], model.net.backbone[2].bn.weight, rtol=0.03, atol=0.01)
