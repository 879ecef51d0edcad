"""Losses of single images, the samples they are taken on, and labels that a model gives itself."""

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmengine.structures import PixelData

from mmseg_dafm.fishertune.score_file import load_fisher
from mmseg_dafm.hooks import fisher_samples as fisher_losses
from mmseg_dafm.hooks.fisher_estimation import Estimation
from mmseg_dafm.hooks.fisher_samples import SampleLosses, SeededSamples, sample_source
from tests.hooks.fisher_run import build, config, mask2former, train
from tests.runs.common import tiny_config

SEEDS = [5, 6, 7]


@pytest.fixture(scope='module')
def runner(tmp_path_factory):
    runner = build(config(tmp_path_factory.mktemp('losses')))
    runner.model.eval()
    return runner


def some_samples(runner, count=3):
    return next(iter(sample_source(runner.cfg.train_dataloader, 0)([(0, list(range(count)))])))


@pytest.mark.slow
def test_losses_per_image_are_those_of_single_images(runner):
    losses, samples = SampleLosses(runner.model), some_samples(runner)
    together = losses(samples, SEEDS)
    alone = torch.cat([losses([sample], [seed]) for sample, seed in zip(samples, SEEDS, strict=True)])
    torch.testing.assert_close(together, alone)


def test_samples_follow_from_their_number(runner):
    read = sample_source(runner.cfg.train_dataloader, 3)
    pair = next(iter(read([(0, [4, 5])])))
    single = next(iter(read([(0, [5])])))
    assert torch.equal(pair[1]['inputs'], single[0]['inputs'])
    halves = [sample_source(runner.cfg.train_dataloader, 3, (i, 2)) for i in range(2)]
    paths = [{s['data_samples'].img_path for s in next(iter(half([(0, list(range(4)))])))} for half in halves]
    assert not paths[0] & paths[1]


def given_to_draw(tmp_path, monkeypatch, **changes):
    """What labels are drawn from, and what the model predicts."""
    runner = build(config(tmp_path, **changes))
    model, seen = runner.model.eval(), []
    samples = some_samples(runner, 1)
    draw = fisher_losses.draw_labels
    monkeypatch.setattr(fisher_losses, 'draw_labels', lambda scores, seeds: seen.append(scores) or draw(scores, seeds))
    SampleLosses(model, 'sample').label(samples, [3])
    return seen[0], predicted(model, samples)


@torch.no_grad()
def predicted(model, samples):
    data = model.data_preprocessor(pseudo_collate(samples), True)
    return model.encode_decode(data['inputs'], [sample.metainfo for sample in data['data_samples']])


def test_scores_of_mask_classification_are_taken_as_they_are(tmp_path, monkeypatch):
    scores, expected = given_to_draw(tmp_path, monkeypatch, model=mask2former())
    torch.testing.assert_close(scores, expected)


def test_logits_become_probabilities(tmp_path, monkeypatch):
    scores, expected = given_to_draw(tmp_path, monkeypatch)
    torch.testing.assert_close(scores, expected.softmax(1))


def test_labels_are_those_of_the_model_and_the_samples_stay(runner):
    samples = some_samples(runner)
    given = [sample['data_samples'].gt_sem_seg.data.clone() for sample in samples]
    # a smaller image, padded by the preprocessor; and ignored pixels
    samples[1]['inputs'] = samples[1]['inputs'][:, :40]
    given[1] = given[1][:, :40].clone()
    given[2][0, :5] = 255
    for sample, labels in zip(samples, given, strict=True):
        sample['data_samples'].gt_sem_seg = PixelData(data=labels.clone())
    assert SampleLosses(runner.model).label(samples, SEEDS) is samples
    labelled = SampleLosses(runner.model, 'argmax').label(samples, SEEDS)
    best = predicted(runner.model, samples).argmax(1)
    for sample, new, old, label in zip(samples, labelled, given, best, strict=True):
        assert torch.equal(sample['data_samples'].gt_sem_seg.data, old)
        kept = old == 255
        assert torch.equal(new['data_samples'].gt_sem_seg.data, torch.where(kept, old, label[None, : old.shape[1]]))
        assert new['inputs'] is sample['inputs']
        assert new['data_samples'].metainfo == sample['data_samples'].metainfo
    # the losses are taken at the labels given
    expected = torch.nn.functional.cross_entropy(predicted(runner.model, samples[:1]), best[:1])
    torch.testing.assert_close(SampleLosses(runner.model, 'argmax')(labelled[:1], SEEDS[:1])[0].detach(), expected)


@pytest.mark.parametrize('path', ['loop', 'batched'])
def test_x_and_its_shift_share_labels_and_the_bank_sees_each_image_once(runner, monkeypatch, path):
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    seen, given = [], []
    call, label = SampleLosses.__call__, SampleLosses.label

    def recorded(self, samples, seeds):
        seen.extend((seed, s['data_samples'].gt_sem_seg.data) for s, seed in zip(samples, seeds, strict=True))
        return call(self, samples, seeds)

    def labelled(self, samples, seeds):
        given.extend(zip(seeds, label(self, samples, seeds), strict=True))
        return [sample for _, sample in given[-len(samples) :]]

    monkeypatch.setattr(SampleLosses, '__call__', recorded)
    monkeypatch.setattr(SampleLosses, 'label', labelled)
    counts = []
    estimation = Estimation(images=4, bank_images=4, batch_size=2, estimator='von', path=path, label_source='sample', updates=2)
    shift = estimation.feature_shift(wrapper)
    measured = type(shift).set_spreads
    monkeypatch.setattr(
        type(shift), 'set_spreads', lambda self: counts.extend(b.sums[0].max() for b in self.banks.values()) or measured(self)
    )
    estimation.run(runner.model, wrapper, runner.cfg.train_dataloader, None)
    assert counts
    assert all(int(count) == 4 for count in counts)
    of_label = {seed: sample['data_samples'].gt_sem_seg.data for seed, sample in given}
    # four images of the bank come with their own labels, the others with those drawn once on x
    for seed, labels in seen[4:]:
        assert torch.equal(labels, of_label[seed])
    pairs = seen[-8:]
    assert sorted(seed for seed, _ in pairs) == sorted(2 * [seed for seed, _ in given[-4:]])


@pytest.mark.slow
def test_label_sources_give_different_information(runner, tmp_path):
    found = {}
    for source in ('gt', 'sample', 'argmax'):
        folder = tmp_path / source
        train(config(folder, dict(estimation=dict(label_source=source)), iterations=3))
        found[source] = load_fisher(folder / 'dr_fim.safetensors').clean
    for name, F in found['gt'].items():
        assert not torch.allclose(F, found['sample'][name])
        assert not torch.allclose(found['argmax'][name], found['sample'][name])


def test_domain_aware_models_label_with_their_domain(tmp_path):
    cfg = tiny_config(tmp_path, 1, experiment_name='domain_labels')
    cfg.model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(32, 32))
    runner = Runner.from_cfg(cfg)
    model = runner.model.eval()
    samples = some_samples(runner, 2)
    labelled = SampleLosses(model, 'argmax').label(samples, SEEDS)
    data = model.data_preprocessor(pseudo_collate(samples), True)
    model.test_cfg = dict(mode='whole')
    with torch.no_grad():
        best = model.inference(data['inputs'], [sample.metainfo for sample in data['data_samples']]).argmax(1)
    for sample, label in zip(labelled, best, strict=True):
        assert torch.equal(sample['data_samples'].gt_sem_seg.data[0], label)


def test_ignored_pixels_shrink_an_image_unless_the_loss_leaves_them_out(runner):
    (sample,), model = some_samples(runner, 1), runner.model
    label = sample['data_samples'].gt_sem_seg.data
    label[..., : label.shape[-1] // 4] = 255
    share = (label == 255).float().mean()
    loss, weight = model.decode_head.loss_decode, model.decode_head.conv_seg.weight
    squares = {}
    try:
        for loss.avg_non_ignore in (True, False):
            value = SampleLosses(model)([sample], [0]).sum()
            squares[loss.avg_non_ignore] = torch.autograd.grad(value, weight)[0].square()
    finally:
        loss.avg_non_ignore = False
    assert 0.2 < share < 0.9
    torch.testing.assert_close(squares[False], (1 - share) ** 2 * squares[True])


def test_repetitions_of_an_image_are_one_image(runner):
    """mmseg's drive and stare repeat their sets 40,000 times."""
    from mmengine.dataset import RepeatDataset

    dataset = runner.train_dataloader.dataset
    plain, repeated = SeededSamples(dataset, 3), SeededSamples(RepeatDataset(dataset, times=4), 3)
    assert repeated.order == plain.order
    assert len(repeated.order) == 9
