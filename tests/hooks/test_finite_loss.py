"""Numbers that are not finite end a training with the iteration, the loss and the images, and are never saved."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_dafm.core.checkpoint import is_finite
from tests.tools.tiny import write_tiny_run

ROOT = Path(__file__).resolve().parents[2]


def runner_of(folder: Path, **options) -> Runner:
    cfg = Config.fromfile(write_tiny_run(folder, ROOT))
    cfg.merge_from_dict({'work_dir': str(folder / 'work'), 'train_cfg.val_interval': 100, **options})
    for part in (cfg.model.backbone, cfg.model.decode_head):
        part.norm_cfg.type = 'BN'
    cfg.experiment_name = cfg.visualizer.name = folder.name
    return Runner.from_cfg(cfg)


@pytest.mark.slow
def test_a_rate_far_too_high_stops_the_training_and_names_loss_iteration_and_images(tmp_path):
    runner = runner_of(tmp_path, **{'optim_wrapper.optimizer.lr': 1e30, 'train_cfg.max_iters': 12})
    assert 'FiniteLossHook' in [type(hook).__name__ for hook in runner.hooks], 'of the runtime that every config inherits'
    with pytest.raises(ValueError, match=r'loss=nan in iteration \d+, rank 0 .*images/\d\.png, .*images/\d\.png') as caught:
        runner.train()
    assert 'Lower the learning rate' in str(caught.value)
    saved = sorted((tmp_path / 'work').glob('*.pth'))
    states = [torch.load(path, weights_only=False)['state_dict'] for path in saved]
    assert all(is_finite(value) for state in states for value in state.values())


@pytest.mark.slow
def test_weights_that_are_not_finite_are_never_saved_though_the_loss_was_finite(tmp_path):
    """A gradient overflows in the last step, or another rank's loss was nan."""
    runner = runner_of(tmp_path, **{'train_cfg.max_iters': 2})
    step = runner.model.train_step

    def broken_step(data, optim_wrapper):
        outputs = step(data, optim_wrapper)
        if runner.iter == 1:
            runner.model.decode_head.conv_seg.bias.data[0] = float('inf')
        return outputs

    runner.model.train_step = broken_step
    with pytest.raises(ValueError, match=r'not finite after iteration 2 \(first decode_head.conv_seg.bias\); nothing was saved'):
        runner.train()
    assert [path.name for path in (tmp_path / 'work').glob('*.pth')] == ['iter_1.pth']


@pytest.mark.slow
def test_outputs_that_are_no_losses_and_infinite_masks_stop_nothing(tmp_path):
    runner = runner_of(tmp_path, **{'train_cfg.max_iters': 1})
    runner.model.register_buffer('mask', torch.tensor([0.0, -torch.inf]))
    step = runner.model.train_step
    runner.model.train_step = lambda *args, **kwargs: {**step(*args, **kwargs), 'acc': torch.tensor(float('nan'))}
    runner.train()
    assert (tmp_path / 'work' / 'iter_1.pth').is_file()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_is_finite_finds_one_bad_number_in_every_precision(value):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = torch.full((1000,), 300.0, dtype=dtype)
        assert is_finite(tensor), 'the sum itself must not overflow'
        tensor[7] = value
        assert not is_finite(tensor)
    assert is_finite(torch.arange(3))
