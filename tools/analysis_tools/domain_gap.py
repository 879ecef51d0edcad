"""How far apart domains lie in the features of networks: numbers, and the t-SNE picture of FisherTune's figure 7.

python tools/analysis_tools/domain_gap.py --run Rein CONFIG rein.pth --run FisherTune CONFIG fisher.pth --reference day

The images are those of the first config's test set (--data: of another config), drawn by a fixed seed and the same for all
networks. Written: domain_gap.md and .json (MMD, domain classifier, their null lines), tsne.png, features.npz.
"""

import argparse
import copy
import json
import os
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_dafm.analysis.domain_features import collect, sample_of
from mmseg_dafm.analysis.domain_gap import IMAGES, gap_table
from mmseg_dafm.analysis.domain_gap_picture import draw_domains, embed
from mmseg_dafm.analysis.drift_report import number
from mmseg_dafm.analysis.feature_hooks import filled_model
from mmseg_dafm.analysis.robustness import drop_pretrained
from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.evaluation.tables import without_nan


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--run', nargs=3, action='append', required=True, metavar=('NAME', 'CONFIG', 'CHECKPOINT'), help='a trained network'
    )
    parser.add_argument('--data', help='config whose images are used (default: that of the first run)')
    parser.add_argument('--dataloader', default='test_dataloader', help='key of the data loader')
    parser.add_argument('--reference', help='domain that the others are compared with (default: the first of the test set)')
    parser.add_argument('--per-domain', type=int, default=100, help='images of each domain, at most')
    parser.add_argument('--layers', nargs='+', default=['backbone'], help='parts whose outputs are taken; the last one is drawn')
    parser.add_argument('--permutations', type=int, default=500, help='relabellings of the test of MMD')
    parser.add_argument('--seed', type=int, default=0, help='of images, folds, relabellings and t-SNE')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/domain_gap'))
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='KEY=VALUE changes to every config')
    return parser.parse_args()


def read_config(path: str, changes: dict) -> Config:
    cfg = load_config(path, copy.deepcopy(changes))
    cfg.load_from = None
    drop_pretrained(cfg.model)
    run_config.adapt_to_device(cfg)
    return cfg


def measure(args: argparse.Namespace) -> tuple[dict, dict, list[dict], dict]:
    """Numbers and features of every network, and what is known of the images."""
    writable_folder(args.out, '--out')
    names = [name for name, _, _ in args.run]
    if len(set(names)) < len(names):
        raise ValueError(f'--run: two networks have one name among {names}; give each its own.')
    for _, _, checkpoint in args.run:
        if not os.path.isfile(checkpoint):
            raise FileNotFoundError(f'checkpoint {checkpoint} does not exist')
    configs = [read_config(path, args.cfg_options) for _, path, _ in args.run]
    data = configs[0] if args.data is None else read_config(args.data, args.cfg_options)
    if not data.get(args.dataloader):
        raise ValueError(f'{data.filename} defines no {args.dataloader}: name one that it has with --dataloader.')
    init_default_scope(data.get('default_scope', 'mmseg'))
    check_config(data, (args.dataloader,))
    loader, images = sample_of(data[args.dataloader], args.per_domain, args.seed)
    domains = [image['domain'] for image in images]
    reference = args.reference or domains[0]
    if reference not in domains:
        raise ValueError(f'--reference {reference!r} is none of the domains {sorted(set(domains))}.')
    tables, features = {}, {}
    for (name, _, checkpoint), cfg in zip(args.run, configs, strict=True):
        model = filled_model(cfg, checkpoint, args.layers).to(args.device).eval()
        found = collect(model, loader, args.layers, f'features of {name}')
        recordings = [image['recording'] for image in images]
        for layer, rows in found.items():
            features[name, layer] = rows
            tables.setdefault(name, {})[layer] = gap_table(rows, domains, recordings, reference, args.permutations, args.seed)
    protocol = dict(
        data=Path(data.filename or 'config').name, dataloader=args.dataloader, reference=reference, seed=args.seed,
        images={name: domains.count(name) for name in dict.fromkeys(domains)}, permutations=args.permutations,
        **{key: next(iter(next(iter(tables.values())).values()))[key] for key in ('unit', 'units')},
        runs={name: f'{Path(config).name}, {Path(checkpoint).name}' for name, config, checkpoint in args.run},
    )  # fmt: skip
    return tables, features, images, protocol


def to_markdown(tables: dict, protocol: dict) -> str:
    """A page of numbers; t-SNE has none."""
    columns = ['network', 'layer', 'domain', 'MMD²', 'p', 'classifier, %', 'proxy A-distance']
    lines = [f'| {" | ".join(columns)} |', '|---|---|---|---:|---:|---:|---:|']

    for name, layers in tables.items():
        for layer, table in layers.items():
            for domain, pair in table['pairs'].items():
                cells = [number(pair['mmd2']), number(pair['p']), f'{100 * pair["accuracy"]:.1f}', number(pair['proxy_distance'])]
                lines.append(f'| {name} | {layer} | {table["reference"]} : {domain} | {" | ".join(cells)} |')
            null = table['null']
            low, high = null['mmd2_range']
            accuracy = ' to '.join(f'{100 * value:.0f}' for value in null['accuracy_range'])
            halves = f'null line: halves of {table["reference"]}'
            lines.append(f'| {name} | {layer} | {halves} | {number(low)} to {number(high)} | | {accuracy} | |')
            all_of = f'{100 * table["accuracy"]:.1f} (chance {100 * table["chance"]:.1f})'
            lines.append(f'| {name} | {layer} | all domains | | | {all_of} | |')
    lines += ['', 'MMD² is unbiased: about 0, of either sign, for equal distributions; it saturates where they hardly overlap.']
    lines += ['Accuracies are balanced and cross-validated. Null lines are ranges over random halves.']
    if protocol['unit'] == IMAGES:
        lines += ['**Images count one by one: p assumes that they are independent, which frames of a video are not.**']
    lines += ['', '| protocol | |', '|---|---|']
    for key, value in protocol.items():
        text = '; '.join(f'{name}: {item}' for name, item in value.items()) if isinstance(value, dict) else value
        lines.append(f'| {key} | {text} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    args = parse_args()
    try:
        tables, features, images, protocol = measure(args)
        last = {name: list(layers)[-1] for name, layers in tables.items()}
        panels = {name: embed(features[name, layer], args.seed) for name, layer in last.items()}
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    except ImportError as error:
        raise SystemExit(f'error: {error}; install it with `pip install "mmseg_dafm[analysis]"`') from None
    text = to_markdown(tables, protocol)
    with replacing(args.out / 'domain_gap.md') as path:
        path.write_text(text, encoding='utf-8')
    with replacing(args.out / 'domain_gap.json') as path:
        path.write_text(json.dumps(without_nan(dict(tables=tables, protocol=protocol, images=images)), indent=1) + '\n')
    arrays = {f'{name}/{layer}': rows for (name, layer), rows in features.items()}
    with replacing(args.out / 'features.npz') as path:
        np.savez_compressed(path, domains=[image['domain'] for image in images], **arrays)
    draw_domains(
        panels, [i['domain'] for i in images], {name: tables[name][last[name]] for name in panels}, args.out / 'tsne.png'
    )
    print(text)
    print(f'tables and picture: {args.out}/domain_gap.md, domain_gap.json, tsne.png, features.npz')


if __name__ == '__main__':
    main()
