"""Config changes for command line options, such as ``--amp``, ``--resume`` and ``--tta``."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.logging import print_log
from mmseg.registry import OPTIM_WRAPPERS

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.core.saving import newest_checkpoint


def set_work_dir(cfg: Config, config_path: str | os.PathLike, work_dir: str | None = None) -> None:
    """Set `cfg.work_dir`: the argument, else the config's own, else `work_dirs/<config name>`."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(config_path).stem)


def try_folder(folder: str | os.PathLike, option: str) -> None:
    """Check on rank 0, before the work begins, that an output folder is writable.

    Raises:
        ValueError: If it cannot be written to.
    """
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        writable_folder(folder, option)


def set_resume(cfg: Config, resume: bool) -> None:
    """Resume from the newest complete checkpoint in the work dir.

    mmengine would resume from `load_from`, which may hold weights without training state, or from the absolute path in
    `last_checkpoint`, which is wrong after the folder was moved. Without a checkpoint, the run starts from the beginning, with
    `load_from` if it is set.

    Raises:
        ValueError: If the work dir holds checkpoints, but none is complete.
    """
    cfg.resume = resume
    if not resume:
        return
    found = newest_checkpoint(cfg.work_dir)
    if found is None:
        cfg.resume = False
        print_log(f'nothing to resume in {cfg.work_dir}: starting afresh', 'current', logging.WARNING)
        return
    newest, broken = found
    if broken:
        names = ', '.join(path.name for path in broken)
        print_log(f'{names} in {cfg.work_dir} cannot be read: going on from {newest.name}', 'current', logging.WARNING)
    cfg.load_from = str(newest)


def require_fit(cfg: Config) -> None:
    """Add `CheckpointFitHook` to the default hooks: the run refuses checkpoints that do not fit its model."""
    cfg.setdefault('default_hooks', ConfigDict()).setdefault('checkpoint_fit', ConfigDict(type='mmseg.CheckpointFitHook'))


def enable_amp(cfg: Config) -> None:
    """Switch the optimizer wrapper to mixed precision: bfloat16 if the GPU has it, else float16 with loss scaling.

    `XOptimWrapper` is replaced by `XAmpOptimWrapper`; a missing type counts as `OptimWrapper`.

    Raises:
        ValueError: If there is no GPU, or no `XAmpOptimWrapper` is registered.
    """
    if get_device() in ('cpu', 'mps'):
        raise ValueError(f'--amp needs a GPU, but the device is {get_device()!r}: run without --amp')
    name = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if 'AmpOptimWrapper' in name:
        print_log('mixed precision is already on in the config', 'current', logging.WARNING)
        return
    sibling = name.replace('OptimWrapper', 'AmpOptimWrapper')
    if sibling == name or OPTIM_WRAPPERS.get(sibling) is None:
        raise ValueError(f'--amp found no mixed precision version of optim_wrapper.type={name!r}: run without --amp')
    cfg.optim_wrapper.type = sibling
    half = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    cfg.optim_wrapper.dtype = 'bfloat16' if half else 'float16'
    # bfloat16 has float32's range: gradients do not underflow and need no loss scaling.
    cfg.optim_wrapper.loss_scale = 1.0 if half else 'dynamic'


def adapt_to_device(cfg: Config) -> None:
    """Without CUDA, replace SyncBN by BN and use the gloo backend; logs each change.

    Raises:
        ValueError: If the launcher is not `pytorch` (torchrun) and there is no CUDA device.
    """
    if torch.cuda.is_available():
        return
    count = _replace_value(cfg.model, 'SyncBN', 'BN')
    if count:
        print_log(f'no CUDA device: {count} x SyncBN in the model config became BN', 'current', logging.WARNING)
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs CUDA devices, and there are none: use --launcher pytorch')
    print_log('no CUDA device: the processes use gloo', 'current', logging.WARNING)
    cfg.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict()).backend = 'gloo'
    wrapper = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False}
    wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg = ConfigDict(cfg.get('model_wrapper_cfg') or wrapper, device_ids=None)


def join_processes(cfg: Config) -> None:
    """Form the process group of a CPU run, because mmengine would first set a CUDA device."""
    if cfg.get('launcher') == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')


def _replace_value(node: dict | list, old: str, new: str) -> int:
    """Replace every value equal to `old` in nested dicts and lists; return their number."""
    count = 0
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            count += _replace_value(value, old, new)
        elif isinstance(value, str) and value == old:
            node[key] = new
            count += 1
    return count


def shorten(cfg: Config, iterations: int = 2) -> None:
    """Shorten a training config to a few iterations without validation and without worker processes.

    FisherTune's warm-up becomes one step, and its estimation uses one batch of images (at least two).
    """
    for hook in cfg.get('custom_hooks') or ():
        if str(hook.get('type')).rsplit('.', 1)[-1] == 'FisherTuneHook':
            step = cfg.optim_wrapper.get('accumulative_counts', 1)
            iterations = max(iterations, 2 * step)
            images = max(2, (hook.get('estimation') or {}).get('batch_size', 1))
            estimation = ConfigDict(hook.get('estimation') or {}, images=images, bank_images=images)
            hook.update(warmup_iters=step, interval=step, estimation=estimation)
    cfg.train_cfg = ConfigDict(type='IterBasedTrainLoop', max_iters=iterations, val_begin=iterations + 1)
    cfg.setdefault('default_hooks', ConfigDict()).logger = ConfigDict(type='LoggerHook', interval=1)
    for key in ('train_dataloader', 'val_dataloader'):
        if cfg.get(key):
            cfg[key].update(num_workers=0, persistent_workers=False)


def for_each_dataset(dataset: ConfigDict, action: Callable[[ConfigDict], None]) -> None:
    """Call `action` on every leaf of a dataset config; wrappers may hold their parts under any key."""
    children = _parts(dataset)
    if not children:
        action(dataset)
    for child in children:
        for_each_dataset(child, action)


def heads_of(model: Mapping) -> Iterator[tuple[str, Mapping]]:
    """Yield the key and config of each head of a segmentor."""
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key) or ()
        for head in heads if isinstance(heads, list | tuple) else (heads,):
            yield key, head


def set_pipeline(dataset: ConfigDict, pipeline: list) -> None:
    """Set the pipeline of every leaf of a dataset config, or of the `DomainConcatDataset` around them."""
    if _gives_pipeline(dataset) or not _parts(dataset):
        dataset['pipeline'] = pipeline
        return
    for child in _parts(dataset):
        set_pipeline(child, pipeline)


def pipelines(dataset: dict) -> list[list]:
    """The pipelines in effect in a dataset config, outermost first."""
    own = [dataset['pipeline']] if 'pipeline' in dataset else []
    children = [] if _gives_pipeline(dataset) else _parts(dataset)
    return own + [pipeline for child in children for pipeline in pipelines(child)]


def _parts(dataset: dict) -> list[dict]:
    """The dataset configs directly inside a dataset config."""
    values = [value for key, value in dataset.items() if key not in ('pipeline', 'metainfo', 'data_prefix')]
    values = [child for value in values for child in (value if isinstance(value, list | tuple) else [value])]
    return [child for child in values if isinstance(child, dict) and 'type' in child]


def _gives_pipeline(dataset: dict) -> bool:
    """Whether a dataset config overrides the pipelines of its parts."""
    return str(dataset.get('type')).rsplit('.', 1)[-1] == 'DomainConcatDataset'


def enable_tta(cfg: Config) -> None:
    """Wrap the model in `cfg.tta_model`, and set `cfg.tta_pipeline` for every test dataset.

    Raises:
        ValueError: If the config defines no `tta_pipeline`.
    """
    if not cfg.get('tta_pipeline'):
        raise ValueError(f'--tta needs tta_pipeline, which {cfg.filename} does not define')
    set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)
    cfg.model = ConfigDict(cfg.get('tta_model') or {'type': 'SegTTAModel'}, module=cfg.model)


def enable_drawing(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Turn on mmseg's visualization hook for a test run.

    Raises:
        ValueError: If the config has no visualization hook or no visualizer.
    """
    if 'visualization' not in cfg.get('default_hooks', {}) or 'visualizer' not in cfg:
        raise ValueError(f'--show and --show-dir need default_hooks.visualization and visualizer in {cfg.filename}')
    cfg.default_hooks.visualization.update(draw=True, interval=1, show=show, wait_time=wait_time)
    if show_dir:
        cfg.visualizer.save_dir = show_dir


def write_predictions(cfg: Config, folder: str) -> None:
    """Add an evaluator that writes each predicted label map below `folder` as a PNG."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluators, ConfigDict(type='DomainIoUMetric', format_only=True, output_dir=folder)]
