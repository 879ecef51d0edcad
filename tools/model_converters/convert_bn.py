"""Convert a model's batch norm layers to a data set: python tools/model_converters/convert_bn.py CONFIG OUT.pth.

The model and the training images are those of the config; weights come from the config's own init_cfg, or from --checkpoint. What
the config says in its BNConversionHook is the default of every option. OUT.pth can be given to load_from or init_cfg.
"""

import argparse
import inspect
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader, get_state_dict, load_state_dict, save_checkpoint
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm import run_config
from mmseg_dafm.analysis.bn_picture import draw_conversion
from mmseg_dafm.bn.layers import within
from mmseg_dafm.compat import load_local_checkpoint
from mmseg_dafm.config_check import check_config
from mmseg_dafm.files import replacing
from mmseg_dafm.hooks.bn_conversion import MARK, BNConversionHook
from mmseg_dafm.hooks.target_batches import build_target_loader


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file: model, training images and their pipeline')
    parser.add_argument('out', type=Path, help='checkpoint to write (.pth)')
    parser.add_argument('--checkpoint', help="weights to convert; default: the config's own init_cfg")
    parser.add_argument('--modules', nargs='+', help='parts to convert, for example: backbone decode_head')
    parser.add_argument('--estimator', choices=['batch', 'pooled'])
    parser.add_argument('--weigh', choices=['values', 'calls'], help='what a call of a layer counts')
    parser.add_argument('--mode', choices=['convert', 'stats'])
    parser.add_argument('--num-batches', type=int)
    parser.add_argument('--source-weight', type=float)
    parser.add_argument('--max-ratio', type=float)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--picture', type=Path, help='PNG of gamma ratios and mean shifts')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE changes to the config')
    return parser.parse_args()


def hook_options(cfg: Config, args: argparse.Namespace) -> dict:
    """Options of the conversion: the command line's, then those of the config's BNConversionHook."""
    # outside mmseg's scope the type is written mmseg.BNConversionHook
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if str(hook.get('type')).endswith('BNConversionHook')]
    options = {key: value for key, value in (hooks[0].items() if hooks else ()) if key not in ('type', 'priority')}
    names = inspect.signature(BNConversionHook).parameters
    options.update({key: value for key, value in vars(args).items() if key in names and value is not None})
    return options


def load_model(cfg: Config, checkpoint: str | None, modules: tuple[str, ...]) -> nn.Module:
    """Build the model and fill it.

    Raises:
        ValueError: If the checkpoint cannot be read, or lacks weights of the parts that are to be converted.
    """
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.init_weights()
        return model
    state = read(checkpoint)
    for key, value in model.state_dict().items():
        wanted = any(within(key, [part]) for part in modules) and not key.endswith('num_batches_tracked')
        if wanted and (key not in state or state[key].shape != value.shape):
            given = f'only {tuple(state[key].shape)}' if key in state else f'keys like {next(iter(state))}'
            raise ValueError(
                f'{checkpoint} lacks {key} {tuple(value.shape)} and holds {given}: is it a checkpoint of this model?'
            )
    load_state_dict(model, state, strict=False)
    return model


def read(checkpoint: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on this machine or behind a URL, by their names in a model that is not wrapped.

    Raises:
        ValueError: If there are none.
    """
    try:
        load = CheckpointLoader.load_checkpoint if '://' in checkpoint else load_local_checkpoint
        found = load(checkpoint, map_location='cpu')
    except Exception as error:  # a file that is no pickle raises anything
        raise ValueError(f'{checkpoint} cannot be read as a checkpoint ({type(error).__name__}): give a .pth file.') from error
    state = found.get('state_dict', found) if isinstance(found, dict) else {}
    state = {key.removeprefix('module.'): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise ValueError(f'{checkpoint} holds no tensors by name: give a checkpoint of this model.')
    return state


def main() -> None:
    args = parse_args()
    for path in filter(None, (args.config, args.checkpoint)):
        if '://' not in path and not os.path.isfile(path):
            raise SystemExit(f'error: {path} does not exist')
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    try:
        run_config.adapt_to_device(cfg)
        check_config(cfg, ('train_dataloader',))
        hook = BNConversionHook(**hook_options(cfg, args))
        model = load_model(cfg, args.checkpoint, hook.modules).to(args.device)
        loader = build_target_loader(hook.dataloader or cfg.train_dataloader.to_dict(), hook.seed)
        report = hook.convert(model, loader)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    print(report)
    record = {**report.to_dict(), 'batch_size': loader.batch_size, 'source': args.checkpoint, 'modules': list(hook.modules)}
    meta = {MARK: record, 'cfg': cfg.pretty_text}
    if hasattr(loader.dataset, 'metainfo'):
        meta['dataset_meta'] = loader.dataset.metainfo
    with replacing(args.out) as path:
        save_checkpoint({'meta': meta, 'state_dict': get_state_dict(model)}, str(path))
    if args.picture:
        with replacing(args.picture) as path:
            draw_conversion(report, path)
    print(f'converted weights: {args.out}')


if __name__ == '__main__':
    main()
