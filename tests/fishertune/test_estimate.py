"""The estimation of F(x) and F(x') against slow references, and its invariances."""

from dataclasses import astuple

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mmseg_dafm.fishertune.candidates import block_paths, candidate_tensors, find_candidates
from mmseg_dafm.fishertune.criteria import score
from mmseg_dafm.fishertune.estimate import DomainFisherEstimator, EstimationOptions
from mmseg_dafm.fishertune.feature_shift import FeatureShift
from mmseg_dafm.fishertune.variational import WeightNoise, prior_widths
from tests.fishertune.vit import Segmenter, losses_of, samples

IMAGES = 6


def estimator(model=None, data=None, losses=None, positions=('embedding', 1), **options):
    model = model or Segmenter()
    data = data or samples(IMAGES)
    candidates = find_candidates(model.backbone)
    shift = FeatureShift(model.backbone, block_paths(candidates), positions, prefix_tokens=1)
    source = lambda groups: ([data[i] for i in ids] for _, ids in groups)  # noqa: E731
    options = {'images': len(data), 'estimator': 'plain', **options}
    others = {key: options.pop(key) for key in ('candidates', 'label', 'tolerance', 'name') if key in options}
    return DomainFisherEstimator(
        model,
        candidate_tensors(model.backbone, candidates),
        losses or losses_of(model),
        source,
        shift,
        EstimationOptions(**options),
        **others,
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
    batch = estimator(path='batched', batch_size=3, estimator=kind).run()
    assert (loop.meta['path'], batch.meta['path']) == ('loop', 'batched')
    close(loop.clean, batch.clean)
    close(loop.shifted, batch.shifted)
    torch.testing.assert_close(loop.strengths, batch.strengths)


def test_auto_takes_the_batched_path_where_it_is_exact():
    assert estimator(batch_size=2).run().meta['path'] == 'batched'


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
        estimator(model, losses=coupled, batch_size=3, path='batched').run()


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
        model, tensors, losses, source, shift, EstimationOptions(images=IMAGES, batch_size=2, estimator='plain', seed=1)
    ).run()
    assert found.meta['path'] == 'loop'
    assert found.clean['w'][:12].any()
    assert not found.clean['w'][12:].any()


@pytest.mark.parametrize('path', ['loop', 'batched'])
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
    assert not found.has_shift
    with pytest.raises(ValueError, match=r"criterion='dF' compares F\(x\) with .* shift.factor=0.0\): use criterion='F'"):
        score('dF', found)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_shift_is_told_from_rounding(dtype):
    model, data = Segmenter().to(dtype), [(image.to(dtype), label) for image, label in samples(IMAGES)]
    for factor, expected in ((0.0, False), (0.02, True), (1.0, True)):
        run = estimator(model, data)
        run.shift.factor = factor
        assert run.run().has_shift is expected


def test_the_shift_changes_every_block():
    found = estimator(positions=('embedding',)).run()
    for name, F in found.clean.items():
        assert not torch.allclose(F, found.shifted[name], rtol=1e-2), name


@pytest.mark.parametrize('size', [1, 3])
def test_features_that_are_not_per_image_are_refused(size):
    run = estimator(batch_size=size, positions=(1,))
    run.shift.widths = [12, 12, 12]
    assert run.run().has_shift
    block = run.model.backbone.blocks[1]
    for shape, message in (((size * 4, 5, 12), 'blocks.1'), ((size, 12, 5), r'not \(\d, ..., 12\)')):
        with run.shift.measuring(size):
            (look,) = block._forward_hooks.values()
            with pytest.raises(ValueError, match=message):
                look(block, (), torch.zeros(shape))


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
        (dict(images=1), 'images=1 must be at least 2'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        estimator(**options).run()


def test_loss_that_is_not_finite():
    """The first sample that spoils the estimate is named, before the others are looked at."""
    model, seen = Segmenter(), []
    data = samples(6)
    names = {id(image): f'image {number}' for number, (image, _) in enumerate(data)}

    def losses(batch, seeds, spoil=lambda loss: loss * float('nan')):
        seen.extend(names[id(image)] for image, _ in batch)
        found = losses_of(model)(batch, seeds)
        here = [names[id(image)] == 'image 2' for image, _ in batch]
        return torch.stack([spoil(one) if bad else one for one, bad in zip(found, here, strict=True)])

    name = lambda sample: names[id(sample[0])]  # noqa: E731
    with pytest.raises(ValueError, match=r'the loss of image 2 is not finite'):
        estimator(model, data, losses, images=6, name=name).run()
    assert 'image 3' not in seen
    # a finite loss of infinite slope
    steep = lambda loss: (loss - loss.detach()).sqrt()  # noqa: E731
    for path in ('loop', 'batched'):
        options = dict(images=6, batch_size=2, path=path, tolerance=float('inf'))
        with pytest.raises(ValueError, match=r'the gradient of .*image 2.* is not finite'):
            estimator(model, data, lambda batch, seeds: losses(batch, seeds, steep), name=name, **options).run()


def test_gradient_checkpointing_changes_nothing():
    """Blocks run again in backward, and must be shifted again."""
    plain = estimator(positions=('embedding', 0, 1)).run()
    model = Segmenter()
    model.backbone.set_grad_checkpointing(True)
    # timm checkpoints in training mode alone; a model that does always is the hard case
    checkpointed = estimator(model, positions=('embedding', 0, 1), losses=always_checkpointing(model)).run()
    close(plain.clean, checkpointed.clean)
    close(plain.shifted, checkpointed.shifted)


def always_checkpointing(model):
    def forward(images):
        tokens = model.backbone.patch_embed(images)
        tokens = model.backbone.norm_pre(model.backbone.patch_drop(model.backbone._pos_embed(tokens)))
        for block in model.backbone.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=False)
        tokens = model.backbone.norm(tokens)[:, 1:]
        return model.head(tokens).transpose(1, 2).unflatten(2, (4, 4))

    def losses(batch, seeds):
        logits = forward(torch.stack([image for image, _ in batch]))
        return torch.nn.functional.cross_entropy(logits, torch.stack([label for _, label in batch]), reduction='none').mean(
            (1, 2)
        )

    return losses


def test_von_step_by_step():
    """Written out: three blocks of two images, each drawn from the posterior of the blocks before."""
    model, data = Segmenter(), samples(IMAGES)
    run = estimator(model, data, estimator='von', updates=3, tau=0.3, damping=2.0, seed=4)
    run.shift.factor = 0.0
    found = run.run()
    model.eval()
    tensors, noise = run.tensors, WeightNoise(run.tensors)
    total = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    start = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    m = 0.0
    for i, (image, label) in enumerate(data):
        seen = i // 2 * 2
        if i % 2 == 0:
            posterior = {name: F / seen if seen else None for name, F in total.items()}
            if seen:
                m = 2.0 * sum(float(F.sum()) for F in posterior.values()) / sum(F.numel() for F in posterior.values())
        with torch.no_grad():
            for name, epsilon in noise.epsilon((4 * 3 + 1) * 10**7 + i).items():
                # Lambda = F / gamma + tau^-2 with gamma = m tau^2
                tau = 0.3 * float(start[name].square().mean().sqrt())
                precision = tau**-2 if not seen else posterior[name] / (m * tau**2) + tau**-2
                tensors[name].copy_(start[name] + epsilon * precision**-0.5)
        loss = torch.nn.functional.cross_entropy(model(image[None]), label[None])
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        for name, gradient in zip(tensors, gradients, strict=True):
            total[name] += gradient**2
    for name, F in total.items():
        torch.testing.assert_close(found.clean[name], (F / IMAGES).detach(), rtol=1e-5, atol=1e-5 * float(F.max()))


def test_damping_and_ranks_count_candidates_alone():
    model = Segmenter()
    candidates = find_candidates(model.backbone, kinds=['q'])
    whole = estimator(model)
    run = estimator(model, candidates=candidates)
    run.tensors = {name: tensor for name, tensor in whole.tensors.items() if name.endswith('qkv.weight')}
    run.tau = {name: run.tau[name] for name in run.tensors}
    found = run.run()
    queries = torch.cat([F[:12].flatten() for F in found.clean.values()])
    assert found.damping == pytest.approx(float(queries.mean()))
    found.meta['candidates'] = [list(astuple(candidate)) for candidate in candidates]
    scores = score('rank', found, 0.0)
    ranks = torch.cat([part[:12].flatten() for part in scores.values()])
    assert abs(float(ranks.max()) - 1) < 1e-2
    assert (ranks.double().mean() - 0.5).abs() < 0.01
    assert not any(part[12:].any() for part in scores.values())


def test_passes_without_gradients_are_not_counted():
    model = Segmenter()
    plain = losses_of(model)

    def losses(batch, seeds):
        with torch.no_grad():
            plain(batch, seeds)
        return plain(batch, seeds)

    assert estimator(model, losses=losses, batch_size=2).run().meta['path'] == 'batched'
