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

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import get_state_dict
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.core.fit import load_weights
from mmseg_dafm.core.saving import save_checkpoint
from mmseg_dafm.daft.layers import within
from mmseg_dafm.datasets.target_batches import build_target_loader
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.hooks.bn_conversion import MARK, BNConversionHook, draw_conversion


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
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
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
    needed = [key for key in model.state_dict() if any(within(key, [part]) for part in modules)]
    load_weights(model, checkpoint, needed)
    return model


def main() -> None:
    args = parse_args()
    if args.checkpoint and '://' not in args.checkpoint and not os.path.isfile(args.checkpoint):
        raise SystemExit(f'error: checkpoint {args.checkpoint} does not exist')
    try:
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        writable_folder(args.out.parent, 'the folder of OUT.pth,')
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
    save_checkpoint({'meta': meta, 'state_dict': get_state_dict(model)}, str(args.out))
    if args.picture:
        with replacing(args.picture) as path:
            draw_conversion(report, path)
    print(f'converted weights: {args.out}')


if __name__ == '__main__':
    main()
