"""BNConversionHook beside gradient accumulation and mixed precision."""

import json

import pytest
import torch
from mmengine.optim import OptimWrapper

from tests.hooks.classifier import Classifier, Images, runner

HOOK = dict(type='mmseg.BNConversionHook', modules=['net.backbone'])
EVAL = dict(type='mmseg.BNModeHook', modes={'net': 'eval'})


def trained(folder, hooks, batch_size, iterations, counts, start=None):
    """Parameters after training on 24 images that are always the same, batch norm in test mode."""
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9), accumulative_counts=counts)
    options = dict(iterations=iterations, dataset=Images(jitter=0), batch_size=batch_size, optim_wrapper=wrapper)
    run = runner(folder, [*hooks, EVAL], load_from=start and str(start), **options)
    run.train()
    return {name: parameter.detach() for name, parameter in run.model.named_parameters()}


def test_a_converted_run_that_accumulates_ends_where_one_with_whole_batches_does(tmp_path):
    """In test mode two halves of a batch add up to it; the whole ones start from the converted weights, without the hook.

    So the hook leaves no gradient behind, does not move the count, and takes no image from training.
    """
    halves = trained(tmp_path / 'halves', [HOOK], batch_size=4, iterations=6, counts=2)
    converted = tmp_path / 'halves/daft_converted.pth'
    whole = trained(tmp_path / 'whole', [], batch_size=8, iterations=3, counts=1, start=converted)
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, rtol=1e-4, atol=1e-6)
    other = trained(tmp_path / 'unconverted', [], batch_size=4, iterations=6, counts=2)
    name = 'net.backbone.3.bn.weight'
    assert (other[name] - whole[name]).abs().max() > 0.1, 'the conversion is part of it'
    start = dict(Classifier().named_parameters())['net.backbone.3.conv.weight']
    assert (start - whole['net.backbone.3.conv.weight']).abs().max() > 1e-4, 'and so is training'


class Watched(Classifier):
    """Keeps the dtypes that its batch norms see in test mode."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()
        self.net.backbone[1].bn.register_forward_pre_hook(self.watch)

    def watch(self, layer, inputs):
        if not layer.training:
            self.dtypes.add(inputs[0].dtype)


class Casting(OptimWrapper):
    """Has AmpOptimWrapper's attribute; that one refuses to be built on a CPU."""

    def __init__(self, dtype, **kwargs):
        super().__init__(**kwargs)
        self.cast_dtype = dtype


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, None])
def test_half_precision_is_that_of_training(tmp_path, dtype):
    wrapper = dict(type=Casting, dtype=dtype, optimizer=dict(type='SGD', lr=0.01))
    run = runner(tmp_path, [{**HOOK, 'amp': True}], Watched(), iterations=1, optim_wrapper=wrapper)
    run.train()
    assert run.model.dtypes == {dtype or torch.bfloat16}, "None is autocast's own default on this device"
    run = runner(tmp_path / 'off', [HOOK], Watched(), iterations=1, optim_wrapper=wrapper)
    run.train()
    assert run.model.dtypes == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('amp', [False, True])
def test_mixed_precision_training_on_a_gpu(tmp_path, dtype, amp):
    wrapper = dict(type='AmpOptimWrapper', dtype=dtype, optimizer=dict(type='SGD', lr=0.01))
    run = runner(tmp_path, [{**HOOK, 'amp': amp}], Watched(), iterations=4, optim_wrapper=wrapper)
    run.train()
    assert next(run.model.parameters()).is_cuda
    assert run.model.dtypes == {getattr(torch, dtype) if amp else torch.float32}
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in run.model.parameters())
    record = json.loads((tmp_path / 'bn_conversion.json').read_text())
    assert record['verify_error'] < (5e-2 if amp else 2e-3)
    assert len(run.model.seen) == 4
