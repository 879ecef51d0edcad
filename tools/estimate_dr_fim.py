"""Estimate DR-FIM offline: python tools/estimate_dr_fim.py CONFIG CHECKPOINT --out scores.safetensors [--part 0/2].

The checkpoint is that of a segmentor whose head is warmed up and whose backbone has its pretrained weights, such as one of a run
with a frozen backbone. Options of the estimation come from the config's FisherTuneHook; --options KEY=VALUE changes them. The
seed is the hook's, else the config's randomness.seed, as in a run. A run then takes the file with
`--cfg-options custom_hooks.0.scores=scores.safetensors`.
"""

import argparse
import re
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from mmseg_dafm.analysis.feature_hooks import filled_model
from mmseg_dafm.analysis.robustness import drop_pretrained
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.core.random_state import preserved_rng
from mmseg_dafm.core.run_config import adapt_to_device
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.fishertune.candidates import candidate_tensors, find_candidates
from mmseg_dafm.fishertune.criteria import DomainFisher
from mmseg_dafm.fishertune.score_file import fingerprint, save_fisher
from mmseg_dafm.hooks.fisher_estimation import Estimation


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--out', type=Path, required=True, help='safetensors file')
    parser.add_argument('--part', default='0/1', help='i/n: the i-th of n disjoint parts of the training images')
    parser.add_argument('--options', nargs='+', action=ConfigOptions, default={}, help='changes to the estimation, as images=200')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
    return parser.parse_args()


def kind(hook: dict) -> str:
    """Name of a hook's class."""
    return hook.type if isinstance(hook.type, str) else hook.type.__name__


def estimate(args: argparse.Namespace) -> DomainFisher:
    """Build the model and estimate; bad input raises before anything is loaded.

    Raises:
        ValueError: For options, candidates or files that cannot be.
        FileNotFoundError: If a file is missing.
    """
    cfg = load_config(args.config, args.cfg_options)
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist.')
    writable_folder(args.out.parent, '--out')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    hook = next((hook for hook in cfg.get('custom_hooks', []) if kind(hook).endswith('FisherTuneHook')), {})
    if not re.fullmatch(r'\d+/\d+', args.part):
        raise ValueError(f'--part {args.part!r} must be i/n, for example 0/2.')
    number, parts = (int(text) for text in args.part.split('/'))
    seed = next((s for s in (hook.get('seed'), (cfg.get('randomness') or {}).get('seed')) if s is not None), 0)
    options = {**hook.get('estimation', {}), 'seed': seed, 'part': (number, parts), **args.options}
    estimation = Estimation.of(options)
    check_config(cfg, ('train_dataloader',))
    drop_pretrained(cfg.model)
    adapt_to_device(cfg)
    model = filled_model(cfg, args.checkpoint).to(get_device())
    choice = dict((cfg.optim_wrapper.get('paramwise_cfg') or {}).get('candidates', {}))
    backbone = model.get_submodule(choice.pop('module', 'backbone'))
    candidates = find_candidates(backbone, **choice)
    selected = SimpleNamespace(backbone=backbone, candidates=candidates, tensors=candidate_tensors(backbone, candidates))
    torch.manual_seed(estimation.seed)
    with preserved_rng():
        found = estimation.run(model, selected, cfg.train_dataloader, lambda line: print(line, flush=True))
    save_fisher(args.out, found, fingerprint(selected.tensors))
    return found


def main() -> None:
    args = parse_args()
    try:
        found = estimate(args)
    except (ValueError, FileNotFoundError, AttributeError) as error:
        raise SystemExit(f'error: {error}') from None
    about = found.meta
    print(f'{args.out}: {about["images"]} images, {about["estimator"]}, path {about["path"]}, seed {about["seed"]}')


if __name__ == '__main__':
    main()
