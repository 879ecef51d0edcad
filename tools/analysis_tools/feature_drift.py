"""Measure how far fine-tuning moved a network's features and weights: figures 1 and 2 of DAFT for any config.

python tools/analysis_tools/feature_drift.py CONFIG --reference PRE.pth --checkpoints FT=ft.pth DAFT=daft.pth --out DIR

Tables: drift.csv (per image), changes.csv (per tensor), drift.md and drift.json (medians and CKA); pictures: fig1.png, fig2.png.
"""

import argparse
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch

from mmseg_dafm.analysis.drift_run import measure_drift
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import writable_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file: model and test images')
    parser.add_argument('--reference', default='init', help="pre-trained checkpoint, or 'init': the config's own init_cfg")
    parser.add_argument('--checkpoints', nargs='+', required=True, metavar='NAME=FILE', help='tuned checkpoints')
    parser.add_argument(
        '--converted', nargs='+', default=[], metavar='NAME=FILE',
        help='weights between conversion and training (default: daft_converted.pth beside the checkpoint)',
    )  # fmt: skip
    parser.add_argument('--limit', type=int, help='at most this many images of each data set, evenly spread')
    parser.add_argument('--dataloader', default='test_dataloader', help='key of the data loader')
    parser.add_argument('--layers', nargs='+', default=['backbone'], help='parts whose outputs are compared')
    parser.add_argument('--out', type=Path, help='folder of tables and pictures (default: work_dirs/drift_<config>)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='KEY=VALUE changes to the config')
    return parser.parse_args()


def named_files(option: str, pairs: list[str]) -> dict[str, str]:
    """``NAME=FILE`` arguments as a dict.

    Raises:
        ValueError: An argument has no name, or two have the same.
    """
    files = {}
    for pair in pairs:
        name, equals, path = pair.partition('=')
        if not (name and equals and path):
            raise ValueError(f'{option} takes NAME=FILE, got {pair!r}')
        if name in files:
            raise ValueError(f'{option} has two files of the name {name!r}: give each its own')
        files[name] = path
    return files


def main() -> None:
    args = parse_args()
    try:
        checkpoints, converted = (named_files(f'--{key}', getattr(args, key)) for key in ('checkpoints', 'converted'))
        cfg = load_config(args.config, args.cfg_options)
        out = args.out or Path('work_dirs') / f'drift_{Path(args.config).stem}'
        writable_folder(out, '--out')
        if args.device == 'cpu':
            # the smallest numbers slow a CPU down many times, and count for nothing
            torch.set_flush_denormal(True)
        reference = None if args.reference == 'init' else args.reference
        found = measure_drift(
            cfg, reference, checkpoints, out, args.limit,
            converted=converted, dataloader=args.dataloader, layers=args.layers, device=args.device,
        )  # fmt: skip
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    for name, domains in found.items():
        for domain, values in domains.items():
            print(f'{name}, {domain}: ' + ', '.join(f'{key.replace("_", " ")} {value:.4f}' for key, value in values.items()))
    print(f'tables and pictures: {out}/drift.md, drift.csv, drift.json, changes.csv, fig1.png, fig2.png')


if __name__ == '__main__':
    main()
