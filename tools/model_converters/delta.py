"""Store a fine-tuned model as its difference from the pretrained one, and put it together again.

python tools/model_converters/delta.py extract TRAINED.pth OUT.safetensors --base BASE.pth
python tools/model_converters/delta.py merge DELTA.safetensors OUT.pth --base BASE.pth
python tools/model_converters/delta.py info DELTA.safetensors

The base is a checkpoint of the same segmentor with the backbone as it was before training, or --config builds it: the model of
that config with its pretrained weights. A delta holds the base's SHA-256, and merging into any other base is refused.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from prettytable import PrettyTable

from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint, check_finite, read_checkpoint, state_dict_of
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.fishertune import delta


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest='action', required=True)
    for action, source, target in (
        ('extract', 'checkpoint of the trained model', 'delta to write'),
        ('merge', 'delta', 'checkpoint to write'),
    ):
        part = actions.add_parser(action)
        part.add_argument('source', type=Path, help=source)
        part.add_argument('out', type=Path, help=target)
        bases = part.add_mutually_exclusive_group(required=True)
        bases.add_argument('--base', type=Path, help='checkpoint before training')
        bases.add_argument('--config', help='config whose model, with its pretrained weights, is the base')
        if action == 'extract':
            part.add_argument('--module', default='backbone', help='path of the backbone in the model (default: backbone)')
        part.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to --config')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    actions.add_parser('info').add_argument('source', type=Path, help='delta')
    return parser.parse_args()


def read_parts(path: Path) -> tuple[dict, dict]:
    """State dict and meta of a checkpoint."""
    content = read_checkpoint(path)
    state = state_dict_of(content)
    check_finite(state, path)
    return state, content.get('meta') or {}


def read_base(args: argparse.Namespace) -> dict:
    """State dict of the base: a checkpoint's, or that of a config's model after loading its pretrained weights."""
    if args.base is not None:
        return read_parts(args.base)[0]
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    run_config.adapt_to_device(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.state_dict()


def table(found: delta.Delta) -> str:
    """Counts and sizes of a delta as text."""
    text = PrettyTable(['tensor', 'changed', 'of', 'share', 'MiB'])
    text.align, text.align['tensor'] = 'r', 'l'
    rows = delta.describe(found)
    inside = dict(
        name=f'all of {found.module}', changed=sum(row['changed'] for row in rows[:-1]), size=sum(found.sizes.values()),
        bytes=sum(row['bytes'] for row in rows[:-1]),
    )  # fmt: skip
    for row in (*rows[:-1], inside, rows[-1]):
        share = f'{row["changed"] / max(row["size"], 1):.2%}'
        text.add_row([row['name'], f'{row["changed"]:,}', f'{row["size"]:,}', share, f'{row["bytes"] / 2**20:.2f}'])
    return f'{text}\nbase: SHA-256 {found.base} of {found.module}'


def main() -> None:
    args = parse_args()
    try:
        if args.action != 'info':
            writable_folder(args.out.parent, 'the folder of OUT,')
        if args.action == 'extract':
            state, meta = read_parts(args.source)
            found = delta.extract(state, read_base(args), args.module, meta)
            delta.save_delta(found, args.out)
        else:
            found = delta.load_delta(args.source)
        if args.action == 'merge':
            merged = delta.merge(found, read_base(args))
            with replacing(args.out) as path:
                torch.save({'meta': found.meta, 'state_dict': merged}, path)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    print(table(found))
    if args.action != 'info':
        print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
