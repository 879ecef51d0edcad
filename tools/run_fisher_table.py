"""Eight ways of tuning a small ViT from Boston's photos to CamVid by day, three seeds, one table.

python tools/run_fisher_table.py --jobs 2 --out work_dirs/fisher_table

The ViT is pretrained first (once; --pretrained gives a checkpoint of it). Then every method is trained with every seed and
tested on CamVid by day, at dusk, and on other cities. The criteria of one seed share one estimation, which the first of them
makes. Two estimations on disjoint halves of the images show how far a selection depends on the images.
Everything that is finished is kept: the same command goes on where it was cut off.
"""

import argparse
import hashlib
import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_dafm.evaluation.fisher_table import to_markdown
from mmseg_dafm.files import replacing
from mmseg_dafm.tool_runs import checked_out_commit, follow, run_tool

FOLDER = ROOT / 'configs/fishertune/street'
# the first of the criteria estimates, the others wait for its file
CRITERIA = ('rank', 'random', 'F', 'dF', 'eq7', 'eq15')
METHODS = ('freeze', *CRITERIA, 'full')
LAST, PRETRAINED = 'iter_120.pth', 'iter_600.pth'


def config(method: str) -> Path:
    return FOLDER / f'vit_{"fishertune" if method in CRITERIA else method}_camvid.py'


def write(path: Path, record: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def pretrain(args: argparse.Namespace) -> dict:
    """The pretrained checkpoint and what is known of it; trained if there is none."""
    record = args.out / 'pretrained.json'
    if record.is_file():
        return json.loads(record.read_text())
    checkpoint = args.pretrained
    if checkpoint is None:
        folder = args.out / 'pretrain'
        checkpoint = folder / PRETRAINED
        if not checkpoint.is_file():
            run_tool('train.py', [FOLDER / 'vit_pretrain_boston.py', '--resume', '--work-dir', folder], folder / 'stdout.txt')
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    write(record, dict(checkpoint=str(checkpoint.resolve()), sha256=digest))
    return json.loads(record.read_text())


def run(method: str, seed: int, weights: str, estimated: Future | None, args: argparse.Namespace) -> Path:
    """Train and test a method with one seed; returns its folder."""
    folder = args.out / f'{method}_seed{seed}'
    checkpoint, log, done = folder / LAST, folder / 'stdout.txt', folder / 'done.json'
    if done.is_file():
        return folder
    # the fresh warm-up of every run is the same, so the scores of the first fit all
    options = ['--cfg-options', f'randomness.seed={seed}', f'model.backbone.init_cfg.checkpoint={weights}']
    if method in CRITERIA:
        options += [f'custom_hooks.0.criterion={method}', f'custom_hooks.0.seed={seed}']
    if estimated is not None:
        options.append(f'custom_hooks.0.scores={estimated.result() / "dr_fim.safetensors"}')
    begin = time.time()
    if not checkpoint.is_file():
        # without the validation at the end: the checkpoint is tested below
        run_tool('train.py', [config(method), '--resume', '--work-dir', folder, *options, 'train_cfg.val_begin=1000'], log)
    trained = time.time() - begin
    run_tool('test.py', [config(method), checkpoint, '--work-dir', folder, *options], log)
    domains = json.loads((folder / f'domain_iou_{checkpoint.stem}.json').read_text())['summary']['domains']
    record = dict(method=method, seed=seed, commit=checked_out_commit(), train_minutes=round(trained / 60, 1))
    record.update({name: domains[name]['mIoU'] for name in ('day', 'dusk', 'cities')})
    write(done, record)
    return folder


def halves(seed: int, weights: str, warm: Path, args: argparse.Namespace) -> None:
    """Estimate on two disjoint halves of the images, with the head of the frozen backbone, and compare."""
    folder = args.out / f'halves_seed{seed}'
    if (folder / 'overlap.json').is_file():
        return
    log = args.out / f'halves_seed{seed}.txt'
    files = [folder / f'half{part}.safetensors' for part in range(2)]
    for part, file in enumerate(files):
        if not file.is_file():
            options = ['--out', file, '--part', f'{part}/2', '--cfg-options', f'model.backbone.init_cfg.checkpoint={weights}']
            run_tool('estimate_dr_fim.py', [config('rank'), warm / LAST, *options], log)
    run_tool('analysis_tools/compare_scores.py', [*files, '--out', folder], log)


def write_table(args: argparse.Namespace, pretrained: dict) -> str:
    """The table of what is finished."""
    runs = [json.loads(path.read_text()) for path in sorted(args.out.glob('*_seed*/done.json'))]
    overlap = args.out / f'halves_seed{args.seeds[0]}/overlap.md'
    text = to_markdown(METHODS, [run for run in runs if run['seed'] in args.seeds])
    text += f'\nPretrained weights: SHA-256 {pretrained["sha256"]}\n'
    if overlap.is_file():
        text += f'\nTwo halves of the images, seed {args.seeds[0]}\n\n{overlap.read_text()}'
    with replacing(args.out / 'table.md') as path:
        path.write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--jobs', type=int, default=2, help='runs at the same time, one core each')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--pretrained', type=Path, help='checkpoint of vit_pretrain_boston.py; trained if it is not given')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/fisher_table'))
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.pretrained is not None and not args.pretrained.is_file():
        raise SystemExit(f'error: --pretrained {args.pretrained} does not exist')
    pretrained = pretrain(args)
    weights = pretrained['checkpoint']
    # seeds outermost, so that a cut-off table has every method
    jobs = [(seed, method) for seed in args.seeds for method in ('rank', *(name for name in METHODS if name != 'rank'))]
    with ThreadPoolExecutor(args.jobs) as pool:
        futures: dict[tuple[int, str], Future] = {}
        for seed, method in jobs:
            waits = futures[seed, 'rank'] if method in CRITERIA and method not in ('rank', 'random') else None
            futures[seed, method] = pool.submit(run, method, seed, weights, waits, args)
        extra = pool.submit(lambda: halves(args.seeds[0], weights, futures[args.seeds[0], 'freeze'].result(), args))
        failed = follow(futures, lambda seed, method: write_table(args, pretrained))
        failed += [f'halves: {extra.exception()}'] if extra.exception() else []
    print(write_table(args, pretrained))
    if failed:
        raise SystemExit('error: ' + '; '.join(failed))


if __name__ == '__main__':
    try:
        main()
    except RuntimeError as error:
        raise SystemExit(f'error: {error}') from None
