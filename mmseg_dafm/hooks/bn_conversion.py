"""BNConversionHook: convert batch norm to the target statistics before training, and plot the change per layer."""

import json
import logging
import os
import os.path as osp
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint
from mmseg.registry import HOOKS
from torch import nn

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.random_state import preserved_rng
from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.daft import convert_bn
from mmseg_dafm.daft.report import ConversionReport
from mmseg_dafm.datasets.target_batches import TrackedBatches, build_target_loader, model_forward

RATIO, SHIFT = '#1f5fa8', '#b3452c'


def draw_conversion(report: ConversionReport, path: str | os.PathLike) -> None:
    """Plot per layer the ratio of gamma (range, median) and the shift of the mean (in source standard deviations).

    Args:
        report: Returned by :func:`mmseg_dafm.daft.convert_bn`.
        path: PNG file to write.
    """
    # imported here, because `import mmseg_dafm` must not load matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    layers = list(report.layers.values())
    at = np.arange(len(layers))
    column = lambda name: np.array([getattr(layer, name) for layer in layers])  # noqa: E731
    figure = Figure(figsize=(max(7, 0.16 * len(layers) + 2), 6.4), layout='constrained')
    top, bottom = figure.subplots(2, 1, sharex=True)
    low, middle, high = (np.maximum(column(f'ratio_{name}'), 1e-12) for name in ('min', 'median', 'max'))
    top.vlines(at, low, high, color=RATIO, alpha=0.35, linewidth=3)
    top.plot(at, middle, 'o', color=RATIO, markersize=4)
    top.axhline(1, color='0.4', linewidth=0.8)
    top.set_yscale('log')
    top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    top.yaxis.set_major_formatter('{x:g}')
    top.yaxis.set_minor_formatter(NullFormatter())
    top.set_ylim(min(low.min(), 0.8), max(high.max(), 1.25))
    top.set_ylabel(r'$\gamma_t\,/\,\gamma_s$')
    top.set_title(f'Batch norm conversion: {len(layers)} layers, {sum(column("channels"))} channels; point = median, bar = range')
    # the axis is logarithmic: a shift of zero is drawn at 1e-3 sigma
    median, largest = (np.maximum(column(f'shift_{name}'), 1e-3) for name in ('median', 'max'))
    bottom.vlines(at, median, largest, color=SHIFT, alpha=0.35, linewidth=3)
    bottom.plot(at, median, 'o', color=SHIFT, markersize=4)
    bottom.set_yscale('log')
    bottom.set_ylabel(r'$|M_t - M_s|\,/\,\sqrt{\Sigma_s + \epsilon}$')
    names = list(report.layers)
    step = max(1, len(names) // 60)
    bottom.set_xticks(at[::step], names[::step], rotation=90, fontsize=6)
    bottom.set_xlim(-1, len(layers))
    for axes in (top, bottom):
        axes.grid(axis='y', alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(Path(path), dpi=130, format='png')


MARK = 'daft_bn'
CHECKPOINT, REPORT, PICTURE = 'daft_converted.pth', 'bn_conversion.json', 'bn_conversion.png'


@HOOKS.register_module()
class BNConversionHook(Hook):
    """DAFT's batch norm conversion to the training set before training starts; for any mmengine model.

    One pass over the training set, in test mode and on a separate loader, estimates the target statistics. Gamma and beta
    are rewritten so that the model computes the same function in test mode (:func:`mmseg_dafm.daft.convert_bn`). The hook
    runs at ``before_train``: weights are loaded, and the optimizer holds the parameters. It restores the random number
    generators: runs with and without the hook see the same batches. Several processes share the images and end with
    identical weights.

    Files in the work dir: ``daft_converted.pth`` (the converted weights), ``bn_conversion.json`` (per layer) and
    ``bn_conversion.png``. Checkpoints hold the record, too, so that a resumed run does not convert again.

    Args:
        modules: Parts to convert. They must be pretrained: leave out a fresh head. Layers that look untrained are skipped.
            After ``load_from`` of a whole segmentor: ``('backbone', 'neck', 'decode_head')``.
        estimator: ``'batch'`` (the paper's equation 3), or ``'pooled'`` where batches hold a single image.
        mode: ``'convert'`` (DAFT), or ``'stats'``: replace the statistics only (AdaBN, precise BN), which changes the function.
        num_batches: Batches per process; None: one epoch.
        source_weight: Weight of the source statistics in the new statistics, in [0, 1].
        max_ratio: Largest factor by which gamma may change; channels above it are not converted. None: no limit.
        forward: How to run the model: ``'auto'``, ``'extract_feat'``, ``'tensor'`` or ``'loss'``.
        dataloader: Config of the loader of target images; None: the run's ``train_dataloader``.
        amp: Estimate under autocast instead of in float32. The dtype is that of training's ``AmpOptimWrapper``; without
            one bfloat16, or float16 on a GPU without bfloat16.
        verify: Compare the model's output on one batch before and after the conversion.
        seed: Seeds the image order.
        weigh: Weight of each call of a layer: its number of values (``'values'``) or 1 (``'calls'``).

    Raises:
        ValueError: If :func:`mmseg_dafm.daft.convert_bn` refuses an option or a part; the model is unchanged.
        RuntimeError: If verification fails.

    Source: DAFT, algorithm 1.
    """

    # before hooks that copy the initial weights
    priority = 'VERY_HIGH'

    def __init__(
        self,
        modules: Sequence[str] = ('backbone',),
        estimator: str = 'batch',
        mode: str = 'convert',
        num_batches: int | None = None,
        source_weight: float = 0.0,
        max_ratio: float | None = None,
        forward: str = 'auto',
        dataloader: dict | None = None,
        amp: bool = False,
        verify: bool = True,
        seed: int = 0,
        weigh: str = 'values',
    ) -> None:
        if isinstance(modules, str):
            raise ValueError(f'BNConversionHook: modules must be a list of parts, got the string {modules!r}.')
        self.modules, self.forward, self.dataloader, self.seed, self.amp = tuple(modules), forward, dataloader, seed, amp
        self.options = dict(mode=mode, estimator=estimator, num_batches=num_batches, source_weight=source_weight)
        self.options.update(max_ratio=max_ratio, verify=verify, weigh=weigh)
        self.record: dict | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read the record of an earlier conversion from the checkpoint."""
        self.record = (checkpoint.get('meta') or {}).get(MARK)

    def before_train(self, runner) -> None:
        """Convert, unless the run is resumed."""
        if runner.iter > 0:
            if self.record is None:
                print_log(
                    f'BNConversionHook: resumed at iteration {runner.iter} from a run that was never converted; nothing is '
                    "converted now, because the optimizer's state belongs to the old gamma and beta",
                    'current', logging.WARNING,
                )  # fmt: skip
            else:
                print_log('BNConversionHook: the run was converted at its start; nothing to do', 'current')
            return
        if self.record is not None:
            print_log(
                'BNConversionHook: the loaded weights were converted before, in another run; they are converted again to this '
                "run's data, which leaves the model's function unchanged",
                'current', logging.WARNING,
            )  # fmt: skip
        model = unwrapped(runner.model)
        with preserved_rng():
            loader = self.loader(runner)
            report = self.convert(model, loader, runner.optim_wrapper)
        source = runner._load_from or _initial_weights(model)
        self.record = {**report.to_dict(), 'batch_size': loader.batch_size, 'source': source, 'modules': list(self.modules)}
        runner.message_hub.update_info(MARK, self.record)
        print_log(f'batch norm conversion:\n{report}', 'current')
        if is_main_process():
            self.write(runner, model, report)

    def loader(self, runner):
        """Build the loader of target images."""
        source = self.dataloader or runner.cfg.get('train_dataloader')
        return build_target_loader(source if isinstance(source, dict) else runner.train_dataloader, self.seed)

    def convert(self, model: nn.Module, loader, optim_wrapper: object = None) -> ConversionReport:
        """Convert an unwrapped model on a loader's batches; with ``amp`` in the dtype of ``optim_wrapper``."""
        _refuse_sharded(model)
        device = next(model.parameters()).device
        say = (lambda line: print_log(line, 'current')) if is_main_process() else None
        batches = TrackedBatches(loader, self.options['num_batches'], say)
        with torch.autocast(device.type, enabled=self.amp, dtype=_half(device, optim_wrapper) if self.amp else None):
            return convert_bn(
                model,
                batches,
                self.modules,
                forward=model_forward(model, self.modules, self.forward),
                amp=self.amp,
                **self.options,
            )

    def write(self, runner, model: nn.Module, report: ConversionReport) -> None:
        """Save the converted weights, the report and the picture, and log scalars."""
        meta = {
            MARK: self.record,
            'cfg': runner.cfg.pretty_text,
            'experiment_name': runner.experiment_name,
            'iter': 0,
            'epoch': 0,
        }
        dataset = runner.train_dataloader.dataset
        if hasattr(dataset, 'metainfo'):
            meta['dataset_meta'] = dataset.metainfo
        target = osp.join(runner.work_dir, CHECKPOINT)
        with replacing(target) as path:
            save_checkpoint({'meta': meta, 'state_dict': get_state_dict(model)}, str(path))
        with replacing(osp.join(runner.work_dir, REPORT)) as path:
            path.write_text(json.dumps(self.record, indent=1))
        with replacing(osp.join(runner.work_dir, PICTURE)) as path:
            draw_conversion(report, path)
        scalars = {f'{MARK}/{key}': value for key, value in report.summary.items()}
        if report.verify_error is not None:
            scalars[f'{MARK}/verify_error'] = report.verify_error
        runner.visualizer.add_scalars(scalars, step=0)
        print_log(f'converted weights: {target}', 'current')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the record into the checkpoint."""
        if self.record is not None:
            checkpoint['meta'][MARK] = self.record


def _half(device: torch.device, optim_wrapper: object) -> torch.dtype | None:
    """Autocast dtype of an AMP optimizer wrapper; without one bfloat16 if the device has it, else float16."""
    if hasattr(optim_wrapper, 'cast_dtype'):
        return optim_wrapper.cast_dtype  # None: autocast's default, as in training
    return torch.bfloat16 if device.type == 'cpu' or torch.cuda.is_bf16_supported() else torch.float16


def _initial_weights(model: nn.Module) -> str | None:
    """Checkpoint in ``init_cfg`` of the backbone or the model; None if there is none."""
    for part in (getattr(model, 'backbone', None), model):
        init = getattr(part, 'init_cfg', None)
        if isinstance(init, dict) and init.get('checkpoint'):
            return str(init['checkpoint'])
    return None


def _refuse_sharded(model: nn.Module) -> None:
    """Refuse models whose parameters are sharded over ranks.

    Raises:
        ValueError: If a part is wrapped by FSDP or DeepSpeed.
    """
    for module in model.modules():
        if type(module).__name__ in ('FullyShardedDataParallel', 'MMFullyShardedDataParallel', 'DeepSpeedEngine'):
            raise ValueError(
                f'BNConversionHook cannot convert a model inside {type(module).__name__}: convert offline with '
                'tools/model_converters/convert_bn.py and start from its output.'
            )
