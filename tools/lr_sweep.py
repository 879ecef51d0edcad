"""Sweep the learning rates of a config: DAFT's two steps, or one rate for FT, LP-FT and linear probing.

python tools/lr_sweep.py CONFIG --out work_dirs/sweep_daft --jobs 2 --budget 8
python tools/lr_sweep.py CONFIG --tied lp-ft --budget 8 --out work_dirs/sweep_lp_ft

Trials are scored on images held out of the training set. Finished trials are kept, those that were cut off go on. With the
same --budget every method gets the same number of trials: longer lists are thinned to both ends and evenly spaced values
between them (on the log axis), the two steps by their shares; shorter ones of the paper are refined between their values, and
given ones must be long enough.
"""

import argparse
import json
import math
import os
import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.experiments.sweep import plan
from mmseg_dafm.experiments.sweep import trials as trial_config
from mmseg_dafm.experiments.sweep import trials as trial_run
from mmseg_dafm.experiments.sweep.report import write_report
from mmseg_dafm.experiments.sweep.split import hold_out
from mmseg_dafm.hooks.bn_conversion import REPORT
from mmseg_dafm.optim import schedule_check


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='training config, usually with DAFTOptimWrapperConstructor')
    parser.add_argument('--out', type=Path, help='folder of trials and report (default: work_dirs/sweep_<config name>)')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--tied', nargs='?', const='ft', choices=sorted(plan.TIED_LRS), help="one rate for both, the paper's list")
    mode.add_argument('--head-only', action='store_true', help='feature_lr stays 0 (linear probing)')
    parser.add_argument(
        '--feature-lrs', type=float, nargs='+', help="values of feature_lr, or of the tied rate (default: the paper's)"
    )
    parser.add_argument('--head-lrs', type=float, nargs='+', help="values of head_lr (default: the paper's and smaller)")
    parser.add_argument('--fixed-head-lr', type=float, help=f'head_lr of step 1 (default: {plan.FIXED_HEAD_LR})')
    parser.add_argument('--rounds', type=int, help='how often the two steps alternate (default: 1)')
    parser.add_argument('--budget', type=int, help='this many trials, the same for every method')
    parser.add_argument('--iters', type=int, help="length of a trial; the schedule shrinks with it (default: the config's)")
    parser.add_argument('--select', choices=['holdout', 'val'], default='holdout', help='val: tune on the test data')
    parser.add_argument('--holdout', type=float, default=0.2, help='share of the training images that is held out')
    parser.add_argument('--group-by', help='regular expression on the image path; equal matches stay on one side')
    parser.add_argument('--split-seed', type=int, default=0)
    parser.add_argument('--metric', default='mIoU', help='key of the validation result, higher is better')
    parser.add_argument('--jobs', type=int, default=1, help='trials at the same time; GPUs are dealt out in turn')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='KEY=VALUE changes for all trials')
    return parser.parse_args()


def check_mode(args: argparse.Namespace) -> None:
    """Note the kind of the sweep, refuse options that it does not use, and fill in the defaults of the others.

    Raises:
        ValueError: Naming the options, or a rate that cannot be.
    """
    args.mode = 'tied' if args.tied else 'head-only' if args.head_only else 'two-step'
    idle = {'tied': ['head_lrs', 'fixed_head_lr', 'rounds'], 'head-only': ['feature_lrs', 'fixed_head_lr', 'rounds']}
    given = [f'--{name.replace("_", "-")}' for name in idle.get(args.mode, []) if getattr(args, name) is not None]
    if given:
        raise ValueError(f'--{args.mode} does not use {", ".join(given)}: leave it out, or sweep in two steps.')
    args.fixed_head_lr = plan.FIXED_HEAD_LR if args.fixed_head_lr is None else args.fixed_head_lr
    args.rounds = 1 if args.rounds is None else args.rounds
    if not 0 < args.fixed_head_lr < math.inf:
        raise ValueError(f'--fixed-head-lr must be a positive number, got {args.fixed_head_lr}.')
    if args.jobs < 1:
        raise ValueError(f'--jobs must be 1 or more, got {args.jobs}')


def prepare(args: argparse.Namespace) -> tuple[Config, dict]:
    """The config of all trials and the settings that the report states."""
    cfg = load_config(args.config, args.cfg_options)
    check_config(cfg, ('train_dataloader', 'val_dataloader'))
    settings = dict(config=args.config, metric=args.metric, select=args.select)
    if args.select == 'holdout':
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        split = hold_out(cfg, args.holdout, args.split_seed, args.group_by)
        settings.update(images_trained=split['train'], images_held_out=split['held_out'], groups_held_out=split['groups'])
        print(f'rates are chosen on {split["held_out"]} held-out training images; {split["train"]} are trained on')
    else:
        print('--select val: rates are chosen on val_dataloader; if that is the test data, this is test-set tuning')
    trial_config.prepare(cfg, args.iters)
    settings.update(
        iterations=cfg.train_cfg.max_iters, budget=args.budget, rounds=args.rounds if args.mode == 'two-step' else None
    )
    return cfg, settings


def save_config(cfg: Config, folder: Path) -> Path:
    """Write the config of all trials, or check that the folder's trials were made with it."""
    path = folder / 'trial_config.py'
    if path.is_file():
        with open(path) as file:
            if file.read() != cfg.pretty_text:
                raise ValueError(f'{folder} holds a sweep with another config, split or length: choose another --out.')
    else:
        with replacing(path) as temporary:
            temporary.write_text(cfg.pretty_text)
    return path


def devices(jobs: int) -> 'queue.Queue[str]':
    """What each of the simultaneous trials sees as CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible is not None else [str(i) for i in range(torch.cuda.device_count())]
    free = queue.Queue()
    for job in range(jobs):
        free.put(names[job % len(names)] if names else '')
    return free


def feature_norm(out: Path) -> float | None:
    """The norm of the converted features that the trials have noted; None where nothing is converted."""
    noted = (json.loads(path.read_text()) for path in sorted(out.glob(f'trials/*/{REPORT}')))
    return next((record.get('feature_norm') for record in noted), None)


def run(args: argparse.Namespace) -> None:
    check_mode(args)
    steps = plan.plan_steps(args.mode, args.feature_lrs, args.head_lrs, args.rounds, tied=args.tied or 'ft')
    start = plan.Point(0.0, args.fixed_head_lr)
    if args.budget is not None:
        plan.check_budget(steps, start, args.budget)
    out = writable_folder(args.out or Path('work_dirs') / f'sweep_{Path(args.config).stem}', '--out').resolve()
    cfg, settings = prepare(args)
    # a config that cannot take these rates is refused before anything is trained
    trial_config.rate_options(cfg, start.moved(steps[0].axis, steps[0].values[0]))
    smallest = {f'the smallest {step.axis} rate': min(step.values) for step in steps}
    schedule_check.check_schedule(smallest, cfg.get('param_scheduler') or [], cfg.train_cfg.max_iters)
    config, iterations = save_config(cfg, out), cfg.train_cfg.max_iters
    free, begin = devices(args.jobs), time.time()

    def one(point: plan.Point) -> float:
        device, folder = free.get(), out / 'trials' / trial_run.trial_name(point)
        try:
            options = trial_config.as_arguments(trial_config.rate_options(cfg, point))
            record = trial_run.run_trial(config, folder, options, iterations, ROOT / 'tools' / 'train.py', device)
        finally:
            free.put(device)
        score = trial_run.score_of(record, args.metric)
        said = 'diverged' if math.isnan(score) else f'{args.metric}={score:.2f}'
        rates = f'feature_lr={point.feature_lr:g} head_lr={point.head_lr:g}'
        print(f'{rates}: {said} ({(time.time() - begin) / 60:.1f} min)', flush=True)
        return score

    def evaluate(number: int, points: list[plan.Point]) -> list[float]:
        print(f'step {number}, {steps[number - 1].axis}: {len(points)} trials', flush=True)
        with ThreadPoolExecutor(args.jobs) as pool:
            futures = [pool.submit(one, point) for point in points]
            try:
                scores = [future.result() for future in futures]
            except BaseException:
                # those that run come to their end and are kept; the others do not start
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if number == 1 and (norm := feature_norm(out)) is not None:
            print(f'mean feature norm after conversion: {norm:.3g}; the larger, the smaller the head_lr that is wanted')
        return scores

    outcome = plan.sweep(steps, start, evaluate, args.budget)
    options = trial_config.as_arguments(trial_config.rate_options(cfg, outcome.chosen.point))
    settings['feature_norm'] = feature_norm(out)
    write_report(out, outcome, [step.axis for step in steps], options, settings)
    print(*outcome.notes, sep='\n')
    print(f'{len(outcome.trials)} trials, report in {out}/sweep.md; chosen:\n--cfg-options {" ".join(options)}')


if __name__ == '__main__':
    try:
        run(parse_args())
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'error: {error}') from None
