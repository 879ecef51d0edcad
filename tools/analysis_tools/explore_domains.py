"""Draw what the domain embedding sees: python tools/analysis_tools/explore_domains.py IMAGES CONFIG [--checkpoint FILE]."""

import argparse
import os
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from rich.progress import track
from torch import nn

from mmseg_dafm.analysis import domain_explorer as explorer
from mmseg_dafm.core.checkpoint import TrustCheckpoint, read_weights
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.core.fit import require_fit

PREFIX = 'domain_embedding.'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw alpha of each image and its mean per domain.')
    parser.add_argument('images', help='folder with one sub-folder of images per domain')
    parser.add_argument('config', help='config whose model has a domain_embedding')
    parser.add_argument('--checkpoint', help='trained weights (default: the pretrained CLIP that the config names)')
    parser.add_argument('--out', default='explore_domains', help='folder for alphas.png and alphas.csv')
    parser.add_argument('--per-domain', type=int, default=3, help='images drawn per domain')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
    return parser.parse_args()


def load_domain_embedding(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build the domain embedding of a config alone, without the rest of the model.

    Raises:
        ValueError: If the config has none, or the checkpoint holds no weights for it.
    """
    if not cfg.model.get('domain_embedding'):
        raise ValueError(f'{cfg.filename} has no model.domain_embedding: give a Domino config')
    module = MODELS.build(cfg.model.domain_embedding)
    module.init_weights()
    if checkpoint is not None:
        state = {key.removeprefix(PREFIX): value for key, value in read_weights(checkpoint).items() if key.startswith(PREFIX)}
        module.load_state_dict(require_fit(module, state, checkpoint).state, strict=False)
    return module.eval()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        if args.checkpoint and not os.path.isfile(args.checkpoint):
            raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist')
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        out = writable_folder(args.out, '--out')
        found = explorer.find_images(args.images)
        module = load_domain_embedding(cfg, args.checkpoint).to(args.device)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None

    domains, paths = [domain for domain, _ in found], [path for _, path in found]
    results = explorer.compute_alphas(paths, lambda image: module.alpha(image.to(args.device)))
    alphas = np.stack(list(track(results, 'alpha', total=len(paths))))
    names = module.domain_names
    out.mkdir(parents=True, exist_ok=True)
    explorer.write_table(out / 'alphas.csv', paths, domains, alphas, names)
    pictures = [explorer.shrink(explorer.read_image(path)) for path in paths]
    figure = explorer.draw_alphas(pictures, alphas, domains, names, args.per_domain)
    with replacing(out / 'alphas.png') as temporary:
        figure.savefig(temporary, dpi=110)
    for domain in dict.fromkeys(domains):
        mean = alphas[[other == domain for other in domains]].mean(axis=0)
        print(f'{domain}: ' + ', '.join(f'{name} {value:.3f}' for name, value in zip(names, mean, strict=True)))
    print(f'wrote {out / "alphas.png"} and {out / "alphas.csv"}')


if __name__ == '__main__':
    main()
