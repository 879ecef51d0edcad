"""Six ways of fine-tuning CGNet from CamVid to Boston, learning rates by equal sweeps, three seeds, one table.

python tools/run_daft_table.py --jobs 2 --out work_dirs/daft_table

Each method gets the same number of sweep trials, scored on photos held out of the training set. Then it is trained with the
chosen rates and every seed, and tested on Boston, on other cities and under corruptions; drift compares its features to the
pretrained ones.
Everything that is finished is kept: the same command goes on where it was cut off.
"""

import argparse
import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_dafm.evaluation.daft_table import last_layer, to_markdown
from mmseg_dafm.files import replacing
from mmseg_dafm.tool_runs import checked_out_commit, follow, run_tool

# every method has five trials; the rates of two-step sweeps are those of features, then those of the head
TIED = ['--tied', '--feature-lrs', '0.1', '0.03', '0.01', '0.003', '0.001']
TWO_STEPS = ['--feature-lrs', '0.03', '0.01', '0.003', '--head-lrs', '0.3', '0.03', '--fixed-head-lr', '0.1']
SWEEPS = {
    'lp': ['--head-only', '--head-lrs', '10.0', '3.0', '1.0', '0.3', '0.1'],
    'ft': TIED,
    'lp_ft': ['--tied', 'lp-ft', '--feature-lrs', '0.003', '0.001', '0.0003', '0.0001', '0.00003'],
    'ft_conversion': TIED,
    'integrated': TWO_STEPS,
    'daft': TWO_STEPS,
}
SPLIT = ['--budget', '5', '--group-by', '/([^/]+)__', '--holdout', '0.2']
CORRUPTIONS = ['gaussian_noise', 'motion_blur', 'fog', 'brightness', 'jpeg_compression']
LAST = 'iter_120.pth'
HEAD = 'model.init_cfg.checkpoint='  # where LP-FT takes its start


def config(method: str) -> Path:
    return ROOT / f'configs/daft/street/cgnet_{method}_boston.py'


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def write(path: Path, record: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def sweep(method: str, args: argparse.Namespace) -> list[str]:
    """Choose a method's rates; returns them as config options."""
    folder = args.out / f'sweep_{method}'
    if not (folder / 'sweep.json').is_file():
        options = [*SWEEPS[method], *SPLIT, '--iters', args.trial_iters, '--jobs', args.jobs, '--out', folder]
        if method == 'lp_ft':
            options += ['--cfg-options', f'{HEAD}{probe_without_held_out(args)}']
        run_tool('lr_sweep.py', [config(method), *options], args.out / f'sweep_{method}.txt')
    found = read(folder / 'sweep.json')
    print(f'{method}: {" ".join(found["cfg_options"])} out of {found["trials_run"]} trials', flush=True)
    return found['cfg_options']


def probe_without_held_out(args: argparse.Namespace) -> Path:
    """The head of LP-FT's trials: linear probing that has not seen the held-out photos, either."""
    folder = args.out / 'lp_without_held_out'
    checkpoint = folder / f'iter_{args.trial_iters}.pth'
    if not checkpoint.is_file():
        options = [*sweep('lp', args), 'default_hooks.checkpoint.save_last=True', f'train_cfg.val_begin={args.trial_iters + 1}']
        trial = args.out / 'sweep_lp/trial_config.py'
        run_tool('train.py', [trial, '--resume', '--work-dir', folder, '--cfg-options', *options], folder / 'stdout.txt')
    return checkpoint


def run(method: str, seed: int, rates: list[str], start: Future | None, args: argparse.Namespace) -> Path:
    """Train and test a method with one seed; returns its checkpoint."""
    folder = args.out / f'{method}_seed{seed}'
    checkpoint, log, done = folder / LAST, folder / 'stdout.txt', folder / 'done.json'
    if done.is_file():
        return checkpoint
    options = ['--cfg-options', f'randomness.seed={seed}', *rates]
    if start is not None:
        options.append(f'{HEAD}{start.result()}')
    begin = time.time()
    if not checkpoint.is_file():
        # without the validation at the end: the checkpoint is tested below
        run_tool('train.py', [config(method), '--resume', '--work-dir', folder, *options, 'train_cfg.val_begin=1000'], log)
    trained = time.time() - begin
    run_tool('test.py', [config(method), checkpoint, '--work-dir', folder, *options], log)
    scores = read(folder / f'domain_iou_{checkpoint.stem}.json')['summary']
    corrupted = folder / 'robustness'
    images = ['--limit', args.corrupted_images, '--cache', args.out / 'corrupted', '--out', corrupted]
    names = ['--corruptions', *CORRUPTIONS, '--severities', '3']
    run_tool('analysis_tools/test_robustness.py', [config(method), checkpoint, *names, *images, *options], log)
    robustness = read(corrupted / 'robustness.json')['summaries']
    record = dict(method=method, seed=seed, commit=checked_out_commit(), rates=rates, train_minutes=round(trained / 60, 1))
    record.update(boston=scores['domains']['boston']['mIoU'], misc=scores['domains']['misc']['mIoU'], percent=scores['percent'])
    for name in ('boston', 'misc'):
        record[f'corrupted_{name}'] = robustness[name]['mPC']
    write(done, record)
    return checkpoint


def drift(seed: int, checkpoints: dict[str, Path], args: argparse.Namespace) -> None:
    """Compare the features of all methods with one seed to the pretrained ones, in one pass over the test photos."""
    folder = args.out / f'drift_seed{seed}'
    if (folder / 'drift.json').is_file():
        return
    given = [f'{name}={path}' for name, path in checkpoints.items()]
    options = ['--reference', 'init', '--checkpoints', *given, '--limit', args.drift_images, '--out', folder]
    run_tool('analysis_tools/feature_drift.py', [config('daft'), *options], args.out / f'drift_seed{seed}.txt')


def write_table(args: argparse.Namespace) -> str:
    """The table of what is finished."""
    runs = [read(path) for path in sorted(args.out.glob('*_seed*/done.json'))]
    files = {seed: args.out / f'drift_seed{seed}/drift.json' for seed in args.seeds}
    drifts = {seed: last_layer(read(file)['features']) for seed, file in files.items() if file.is_file()}
    text = to_markdown(list(SWEEPS), [run for run in runs if run['seed'] in args.seeds], drifts)
    with replacing(args.out / 'table.md') as path:
        path.write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--jobs', type=int, default=2, help='runs at the same time, one core each')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--trial-iters', type=int, default=50, help='iterations of a sweep trial; the runs have 120')
    parser.add_argument('--corrupted-images', type=int, default=30, help='images of each test set that are corrupted')
    parser.add_argument('--drift-images', type=int, default=60, help='images of each test set that drift is measured on')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/daft_table'))
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    rates = {method: sweep(method, args) for method in SWEEPS}
    # seeds outermost, so that a cut-off table has every method; linear probing first, because LP-FT starts from it
    jobs = [(seed, method) for seed in args.seeds for method in sorted(SWEEPS, key=lambda name: (name != 'lp', name == 'lp_ft'))]
    with ThreadPoolExecutor(args.jobs) as pool:
        futures: dict[tuple[int, str], Future] = {}
        for seed, method in jobs:
            start = futures[seed, 'lp'] if method == 'lp_ft' else None
            futures[seed, method] = pool.submit(run, method, seed, rates[method], start, args)
        drifts = {}

        def after(seed: int, method: str) -> None:
            write_table(args)
            if method == jobs[-1][1] and not any(futures[seed, name].exception() for name in SWEEPS):
                checkpoints = {name: futures[seed, name].result() for name in SWEEPS}
                drifts[seed] = pool.submit(drift, seed, checkpoints, args)

        failed = follow(futures, after)
        failed += [f'drift seed {seed}: {future.exception()}' for seed, future in drifts.items() if future.exception()]
    print(write_table(args))
    if failed:
        raise SystemExit('error: ' + '; '.join(failed))


if __name__ == '__main__':
    try:
        main()
    except RuntimeError as error:
        raise SystemExit(f'error: {error}') from None
