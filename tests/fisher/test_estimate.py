"""The estimation of F(x) and F(x') against slow references, and its invariances."""

import pytest
import torch

from mmseg_dafm.fisher.candidates import block_paths, candidate_tensors, find_candidates
from mmseg_dafm.fisher.estimate import DomainFisherEstimator
from mmseg_dafm.fisher.feature_shift import FeatureShift
from mmseg_dafm.fisher.variational import prior_widths
from tests.fisher.vit import Segmenter, losses_of, samples

IMAGES = 6


def estimator(model=None, data=None, losses=None, positions=('embedding', 1), **options):
    model = model or Segmenter()
    data = data or samples(IMAGES)
    candidates = find_candidates(model.backbone)
    shift = FeatureShift(model.backbone, block_paths(candidates), positions, prefix_tokens=1)
    source = lambda groups: ([data[i] for i in ids] for _, ids in groups)  # noqa: E731
    options = {'images': len(data), 'estimator': 'plain', **options}
    return DomainFisherEstimator(
        model, candidate_tensors(model.backbone, candidates), losses or losses_of(model), source, shift, **options
    )


def close(first, second, tolerance=1e-10):
    for name, a in first.items():
        torch.testing.assert_close(second[name], a, rtol=tolerance, atol=tolerance * float(a.max()), msg=name)


def test_plain_is_the_mean_of_squared_per_sample_gradients():
    model, data = Segmenter(), samples(IMAGES)
    found = estimator(model, data, path='loop').run()
    model.eval()
    for name, tensor in candidate_tensors(model.backbone, find_candidates(model.backbone)).items():
        total = torch.zeros_like(tensor)
        for image, label in data:
            loss = torch.nn.functional.cross_entropy(model(image[None]), label[None])
            total += torch.autograd.grad(loss, tensor)[0] ** 2
        torch.testing.assert_close(found.clean[name], (total / IMAGES).detach(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize('kind', ['plain', 'von'])
def test_batched_path_equals_the_loop(kind):
    loop = estimator(path='loop', batch_size=3, estimator=kind).run()
    batch = estimator(path='batch', batch_size=3, estimator=kind).run()
    assert (loop.meta['path'], batch.meta['path']) == ('loop', 'batch')
    close(loop.clean, batch.clean)
    close(loop.shifted, batch.shifted)
    torch.testing.assert_close(loop.strengths, batch.strengths)


def test_auto_takes_the_batched_path_where_it_is_exact():
    assert estimator(batch_size=2).run().meta['path'] == 'batch'


def test_auto_falls_back_where_samples_are_coupled(caplog):
    model = Segmenter()

    def coupled(batch, seeds):
        losses = losses_of(model)(batch, seeds)
        return losses * losses.detach().mean()

    with caplog.at_level('INFO'):
        found = estimator(model, losses=coupled, batch_size=3).run()
    assert found.meta['path'] == 'loop'
    assert 'depends on the other images' in caplog.text
    with pytest.raises(ValueError, match='not exact for this model'):
        estimator(model, losses=coupled, batch_size=3, path='batch').run()


def test_functional_calls_fall_back_to_the_loop():
    model = Segmenter()
    attention = model.backbone.blocks[1].attn
    attention.qkv.forward_module, plain = None, attention.qkv
    # a projection that is used without being called, as nn.MultiheadAttention does
    attention.qkv = torch.nn.Identity()
    attention.weight_holder = plain
    attention.forward = lambda x, **_: torch.nn.functional.linear(x, plain.weight[:12], plain.bias[:12])
    data, losses = samples(IMAGES), losses_of(model)
    source = lambda groups: ([data[i] for i in ids] for _, ids in groups)  # noqa: E731
    shift = FeatureShift(model.backbone, [f'blocks.{i}' for i in range(3)], ('embedding',), prefix_tokens=1)
    tensors = {'w': plain.weight}
    found = DomainFisherEstimator(
        model, tensors, losses, source, shift, images=IMAGES, batch_size=2, estimator='plain', seed=1
    ).run()
    assert found.meta['path'] == 'loop'
    assert found.clean['w'][:12].any()
    assert not found.clean['w'][12:].any()


@pytest.mark.parametrize('path', ['loop', 'batch'])
def test_plain_does_not_depend_on_the_batch_split(path):
    whole = estimator(path=path, batch_size=6).run()
    for size in (1, 4):
        split = estimator(path=path, batch_size=size).run()
        close(whole.clean, split.clean)
        close(whole.shifted, split.shifted)


def test_plain_clean_does_not_depend_on_the_order():
    data = samples(IMAGES)
    close(estimator(data=data).run().clean, estimator(data=data[::-1]).run().clean)


def test_no_shift_gives_equal_fisher():
    model, data = Segmenter(), samples(IMAGES)
    run = estimator(model, data)
    run.shift.factor = 0.0
    found = run.run()
    close(found.clean, found.shifted, 1e-6)


def test_the_shift_changes_every_block():
    found = estimator(positions=('embedding',)).run()
    for name, F in found.clean.items():
        assert not torch.allclose(F, found.shifted[name], rtol=1e-2), name


def test_a_shift_behind_a_block_leaves_the_backward_of_later_blocks_only():
    """Weights behind the shift see other inputs, and those before it other gradients: both change."""
    found = estimator(positions=(0,)).run()
    assert not torch.equal(found.clean['blocks.2.mlp.fc1.weight'], found.shifted['blocks.2.mlp.fc1.weight'])


def test_model_is_left_as_it_was():
    model = Segmenter()
    model.train()
    model.backbone.blocks[0].eval()
    model.head.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for kind in ('plain', 'von', 'sgvb'):
        estimator(model, estimator=kind, batch_size=2).run()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not model.backbone.blocks[0].training
    assert not model.head.weight.requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.backbone.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_von_draws_weights_of_the_posterior():
    """With tau -> 0 the posterior is a point: F of the pretrained weights. With tau > 0 it is not."""
    plain = estimator().run()
    close(plain.clean, estimator(estimator='von', tau=1e-9).run().clean, 1e-5)
    wide = estimator(estimator='von', tau=0.5).run()
    assert not torch.allclose(plain.clean['blocks.0.mlp.fc1.weight'], wide.clean['blocks.0.mlp.fc1.weight'], rtol=0.05)


def test_sgvb_moves_from_the_prior():
    """Lambda starts at tau^-2, which is F = 0; Adam moves it."""
    still = estimator(estimator='sgvb', sgvb_lr=1e-12).run()
    moved = estimator(estimator='sgvb', sgvb_lr=0.1).run()
    assert max(float(part.max()) for part in still.clean.values()) < 1e-6 * still.damping
    assert any((part > 0.1 * moved.damping).any() for part in moved.clean.values())


def test_damping_is_the_mean_of_f():
    found = estimator().run()
    mean = torch.cat([part.flatten() for part in found.clean.values()]).mean()
    assert found.damping == pytest.approx(float(mean))
    assert found.tau == prior_widths(candidate_tensors(Segmenter().backbone, find_candidates(Segmenter().backbone)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(estimator='best'), "estimator='best' is unknown"),
        (dict(path='fast'), "path='fast' is unknown"),
        (dict(damping=0.0), 'must be above 0'),
        (dict(images=1), 'at least two images'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        estimator(**options).run()


def test_loss_that_is_not_finite():
    model = Segmenter()
    with pytest.raises(ValueError, match='NaN or infinite'):
        estimator(model, losses=lambda batch, seeds: losses_of(model)(batch, seeds) * float('nan')).run()
