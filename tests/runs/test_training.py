"""Training through mmengine's Runner: resume, gradient accumulation, averaged weights, bfloat16."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmseg.registry import MODELS

from tests.models_common import segmentor
from tests.runs.common import SIZE, run, tiny_config
from tests.runs.ddp_steps import batches


def weights(runner):
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.mark.slow
def test_resume_gives_the_weights_of_an_uninterrupted_run_to_the_bit(tmp_path):
    whole = weights(run(tiny_config(tmp_path / 'whole', 4), 'whole'))
    half = weights(run(tiny_config(tmp_path / 'parts', 2), 'half'))
    runner = run(tiny_config(tmp_path / 'parts', 4, resume=True), 'resumed')
    assert runner.iter == 4
    resumed = weights(runner)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert any(not torch.equal(whole[name], half[name]) for name in whole), 'the second half changed something'


def test_the_data_go_on_where_they_stopped(tmp_path):
    """The proof above would be empty if every batch were the same."""
    cfg = tiny_config(tmp_path / 'data', 1)
    loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    paths = [tuple(sample.img_path for sample in next(loader)['data_samples']) for _ in range(4)]
    assert len(set(paths)) == 4


def accumulated(counts: int, halves: list):
    torch.manual_seed(0)
    cfg = segmentor(stats='LN', data_preprocessor=dict(type='BaseDataPreprocessor'))
    model = MODELS.build(cfg).double().train()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper', constructor='VPDOptimWrapperConstructor', accumulative_counts=counts,
            optimizer=dict(type='SGD', lr=0.1),
        ),
    )  # fmt: skip
    wrapper.initialize_count_status(model, 0, counts * len(halves))
    for images, samples in halves:
        model.train_step(dict(inputs=images, data_samples=samples), wrapper)
    return model.state_dict()


def test_two_accumulated_halves_are_one_joined_batch():
    images, samples = batches(2)[0]
    joined = accumulated(1, [(images, samples)])
    halves = accumulated(2, [(images[:2], samples[:2]), (images[2:], samples[2:])])
    for name, value in joined.items():
        assert torch.allclose(halves[name], value, rtol=0, atol=1e-9), name


@pytest.mark.slow
def test_ema_hook_averages_the_weights_and_is_saved(tmp_path):
    hook = dict(type='EMAHook', momentum=0.5, update_buffers=True)
    cfg = tiny_config(tmp_path, 2, custom_hooks=[hook])
    runner = run(cfg, 'ema')
    saved = torch.load(tmp_path / 'iter_2.pth', weights_only=False)
    # mmengine saves the average as the model and the trained weights beside it
    average, trained = saved['state_dict'], saved['ema_state_dict']
    key = 'decode_head.conv_seg.weight'
    assert not torch.equal(average[key], trained[f'module.{key}'])
    assert torch.equal(trained[f'module.{key}'], runner.model.state_dict()[key])
    fresh = MODELS.build(cfg.model)
    fresh.load_state_dict(average)
    assert torch.isfinite(fresh.eval()(torch.zeros(1, 3, *SIZE))).all()


def test_a_step_under_bfloat16_autocast_is_finite_and_near_float32():
    images, samples = batches(1)[0]
    images = images.float()
    losses, gradients = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        # batch statistics over the two pixels of the coarsest level would amplify the rounding
        model = MODELS.build(segmentor(fuse='token', stats='LN')).train()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            found = model.loss(images, samples)
        found['decode.loss_ce'].backward()
        losses.append(found['decode.loss_ce'].item())
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32 for p in trained.values())
        gradients.append(torch.cat([p.grad.flatten() for p in trained.values()]))
    assert abs(losses[1] / losses[0] - 1) < 0.02
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95
