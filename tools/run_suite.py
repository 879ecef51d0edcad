"""Run what is missing of a suite, and write its table.

python tools/run_suite.py configs/suites/toydrive.py --jobs 2                              # CPU: one core per run
python tools/run_suite.py SUITE --gpus 0 1 2 3                                             # four runs, a GPU each
python tools/run_suite.py SUITE --gpus 0 1 2 3 --gpus-per-run 2                            # two runs, two GPUs each
python tools/run_suite.py SUITE --slurm --partition gpu --slurm-args --time=24:00:00 --gpus-per-run 4

Finished runs are kept and those that were cut off go on: the same command continues, and several may work on one folder.
A run that fails does not stop the others.
"""

import argparse
import shlex
import sys
from contextlib import suppress
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.experiments.report.page import write_report
from mmseg_dafm.experiments.suites.execute import Progress, cell_state, execute, named, run_all
from mmseg_dafm.experiments.suites.plan import Cell, commands, folder_of, needs_of, plan
from mmseg_dafm.experiments.suites.slurm import Slurm, sbatch_command, submit, submit_table
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.write import write_tables
from mmseg_dafm.experiments.tool_runs import tool_command


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', help='suite file, such as configs/suites/toydrive.py')
    parser.add_argument('--out', type=Path, help='folder of runs and tables (default: work_dirs/<suite name>)')
    parser.add_argument('--jobs', type=int, help='runs at the same time (default: 1, or as many as the GPUs allow)')
    parser.add_argument('--seeds', type=int, nargs='+', help="instead of the suite's")
    parser.add_argument('--only', nargs='+', default=[], metavar='NAME', help='these runs and what they need')
    parser.add_argument(
        '--gpus', nargs='*', default=[], metavar='ID', help='GPUs to share out (default: leave it to the programs)'
    )
    parser.add_argument(
        '--gpus-per-run', type=int, default=None, help="processes of a run, a GPU each (default: the suite's, or 1)"
    )
    parser.add_argument('--slurm', action='store_true', help='submit one job per run and one for the table, and return')
    parser.add_argument('--partition', help='of slurm')
    parser.add_argument('--slurm-args', default='', help="more options of sbatch: --slurm-args='--time=24:00:00 --mem=64G'")
    parser.add_argument('--dry-run', action='store_true', help='print the commands of what is missing')
    parser.add_argument('--no-table', action='store_true', help='leave the table to another call')
    parser.add_argument('--report', action='store_true', help='write report.html at the end, as tools/make_report.py')
    return parser.parse_args()


def places(args: argparse.Namespace) -> list[str | None]:
    """What each of the simultaneous runs sees as CUDA_VISIBLE_DEVICES.

    Raises:
        ValueError: For numbers that do not fit each other.
    """
    size = args.gpus_per_run
    if args.slurm and size >= 0:
        return []
    if size < 1 or (args.jobs is not None and args.jobs < 1):
        raise ValueError(f'--jobs {args.jobs} and --gpus-per-run {size} must be 1 or more: correct them')
    if not args.gpus:
        if size > 1:
            raise ValueError(f'--gpus-per-run {size} needs --gpus: name the GPUs to share out, or give another number')
        return [None] * (args.jobs or 1)
    groups = [','.join(args.gpus[i : i + size]) for i in range(0, len(args.gpus) - size + 1, size)]
    if not groups:
        raise ValueError(f'--gpus-per-run {size} is more than the {len(args.gpus)} of --gpus: name more, or lower it')
    idle = args.gpus[len(groups) * size :]
    if idle:
        print(f'warning: --gpus-per-run {size} leaves GPU {", ".join(idle)} of --gpus idle', file=sys.stderr)
    jobs = args.jobs or len(groups)
    return [groups[i % len(groups)] for i in range(jobs)]


def show(suite: Suite, cells: list[Cell], args: argparse.Namespace) -> None:
    """Print what would be executed."""
    for cell in cells:
        if args.slurm:
            waits = [f'<job of {named(need)}>' for need in needs_of(suite, cell) if need in cells]
            print(shlex.join(sbatch_command(folder_of(suite, cell, args.out) / 'slurm.sh', waits)))
            continue
        for name, *arguments in commands(suite, cell, args.out, max(args.gpus_per_run, 1), waiting=True):
            print(shlex.join(tool_command(name, arguments, max(args.gpus_per_run, 1))))


def run_here(suite: Suite, cells: list[Cell], args: argparse.Namespace) -> list[str]:
    """Execute cells on this machine; returns a sentence per failed one."""
    progress, problems = Progress(len(cells)), []

    def ended(cell: Cell, problem: str) -> None:
        print(progress.line(cell, problem), flush=True)
        problems.extend([f'{named(cell)}: {problem}'] if problem else [])
        if not args.no_table and not problem:
            # a column that does not fit is told at the end and stops no run
            with suppress(ValueError):
                write_tables(suite, args.out, args.seeds)

    needs = {cell: needs_of(suite, cell) for cell in cells}
    run_all(cells, needs, lambda cell, gpus: execute(suite, cell, args.out, gpus, args.gpus_per_run), args.places, ended)
    return problems


def main() -> None:
    args = parse_args()
    suite = load_suite(args.suite)
    args.out = (args.out or Path('work_dirs') / Path(args.suite).stem).resolve()
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f'--out {args.out} is a file: name a folder')
    if args.gpus_per_run is None:
        args.gpus_per_run = suite.gpus or 1
    elif suite.gpus not in (None, args.gpus_per_run):
        changed = f'{args.suite} is meant for gpus={suite.gpus}, so the batch of a step has another size'
        print(f'warning: --gpus-per-run {args.gpus_per_run}: {changed}', file=sys.stderr)
    args.places = places(args)
    if args.slurm and args.report:
        raise ValueError('--report has nothing to show while the jobs of --slurm run: call tools/make_report.py after them')
    cells, problems = [], []
    for cell in plan(suite, args.seeds, args.only):
        try:
            cells += [cell] if cell_state(suite, cell, args.out) != 'done' else []
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError('; '.join(problems))
    if args.dry_run:
        show(suite, cells, args)
        return
    writable_folder(args.out, '--out').mkdir(parents=True, exist_ok=True)
    print(f'{len(cells)} runs are missing in {args.out}', flush=True)
    if args.slurm:
        slurm = Slurm(args.partition, shlex.split(args.slurm_args), args.gpus_per_run)
        jobs = submit(suite, cells, args.out, slurm)
        for cell, job in jobs.items():
            print(f'{named(cell)}: job {job}')
        if not args.no_table:
            print(f'table: job {submit_table(suite, list(jobs.values()), args.out, slurm, args.seeds)}')
        return
    problems = run_here(suite, cells, args)
    try:
        if not args.no_table:
            print(write_tables(suite, args.out, args.seeds))
        if args.report:
            print(write_report(suite, args.out, seeds=args.seeds))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise SystemExit('\n'.join(f'error: {problem}' for problem in problems))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'error: {error}') from None
