"""Train and test the small VPD on CamVid in every fusion mode and seed, and write the table.

python tools/run_street_table.py --jobs 2 --out work_dirs/street_table

Runs that are finished are kept, runs that were cut off go on from their last checkpoint. Everything runs in
processes of one thread each, so that --jobs 2 fills two cores.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_dafm.files import replacing
from mmseg_dafm.tool_runs import checked_out_commit, follow, run_tool

MODES = ('none', 'add', 'sub', 'token')
COLUMNS = ('day', 'dusk', 'boston', 'target', 'mIoU%')


def run(mode: str, seed: int, folder: Path) -> None:
    """Train and test one mode and seed, unless its result is there already."""
    work_dir = folder / f'{mode}_seed{seed}'
    done = work_dir / 'done.json'
    if done.is_file():
        return
    config = str(ROOT / f'configs/domino/camvid/small_vpd_{mode}_camvid.py')
    checkpoint = work_dir / 'iter_300.pth'
    log, start = work_dir / 'stdout.txt', time.time()
    options = ['--cfg-options', f'randomness.seed={seed}']
    if not checkpoint.is_file():
        # without the validation at the end: the checkpoint is tested below
        run_tool('train.py', [config, '--resume', '--work-dir', work_dir, *options, 'train_cfg.val_begin=1000'], log)
    run_tool('test.py', [config, checkpoint, '--work-dir', work_dir, *options], log)
    summary = json.loads((work_dir / 'domain_iou_iter_300.json').read_text())['summary']
    stamp = dict(minutes=round((time.time() - start) / 60, 1), commit=checked_out_commit(), seed=seed, mode=mode)
    with replacing(done) as temporary:
        temporary.write_text(json.dumps({**stamp, 'scores': scores(summary)}, indent=1))


def scores(summary: dict) -> dict[str, float]:
    """The table's columns out of DomainIoUMetric's file."""
    values = {name: summary['domains'][name]['mIoU'] for name in ('day', 'dusk', 'boston')}
    return {**values, 'target': summary['target']['mIoU'], 'mIoU%': summary['percent']}


def table(folder: Path, seeds: list[int]) -> str:
    """Markdown table: mean and sample standard deviation over the finished seeds of each mode."""
    lines = ['| W on the tokens | ' + ' | '.join(COLUMNS) + ' | seeds | minutes per run | commit |']
    lines.append('|---' * (len(COLUMNS) + 4) + '|')
    for mode in MODES:
        files = [folder / f'{mode}_seed{seed}' / 'done.json' for seed in seeds]
        found = [json.loads(file.read_text()) for file in files if file.is_file()]
        if not found:
            lines.append(f'| {mode} | ' + 'not run | ' * (len(COLUMNS) + 3))
            continue
        cells = []
        for column in COLUMNS:
            values = [item['scores'][column] for item in found]
            spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
            cells.append(f'{statistics.mean(values):.2f}{spread}')
        minutes = statistics.median(item['minutes'] for item in found)
        commits = ', '.join(sorted({item['commit'] for item in found}))
        cells += [', '.join(str(item['seed']) for item in found), f'{minutes:.1f}', commits]
        lines.append(f'| {mode} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--jobs', type=int, default=2, help='runs at the same time, one core each')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/street_table'))
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # seeds outermost, so that a cut-off table has every mode
    jobs = [(seed, mode) for seed in args.seeds for mode in MODES]

    def write_table(*_) -> str:
        text = table(out, args.seeds)
        with replacing(out / 'table.md') as temporary:
            temporary.write_text(text)
        return text

    with ThreadPoolExecutor(args.jobs) as pool:
        failed = follow({(seed, mode): pool.submit(run, mode, seed, out) for seed, mode in jobs}, write_table)
    print(write_table())
    if failed:
        raise SystemExit('error: ' + '; '.join(failed))


if __name__ == '__main__':
    main()
