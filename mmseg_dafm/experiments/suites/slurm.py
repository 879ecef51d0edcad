"""Submit cells to slurm: one job each, which calls the suite's own tool for that cell alone."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg_dafm.core.files import replacing
from mmseg_dafm.experiments.suites.execute import read_json, write_json
from mmseg_dafm.experiments.suites.plan import Cell, folder_of, needs_of
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.tool_runs import ROOT

JOB = 'slurm.json'


@dataclass(frozen=True)
class Slurm:
    """How jobs are submitted.

    Attributes:
        partition: Of the cluster; None for its default.
        args: Further options of sbatch, such as ``--time=24:00:00``, or ``--time`` and ``24:00:00``.
        gpus: GPUs of a job, one process each; 0 for a job on CPUs.
    """

    partition: str | None = None
    args: Sequence[str] = ()
    gpus: int = 1


def script(suite: Suite, cell: Cell, out: Path, slurm: Slurm) -> str:
    """The text of a cell's job."""
    folder = folder_of(suite, cell, out)
    command = ['tools/run_suite.py', Path(suite.file).resolve(), '--out', out]
    command += ['--only', cell.run, '--seeds', cell.seed, '--no-table', '--gpus-per-run', max(slurm.gpus, 1)]
    # slurm names the GPUs of the job with commas between them
    gpus = ' --gpus ${CUDA_VISIBLE_DEVICES//,/ }' if slurm.gpus else ''
    return _job(f'{cell.run}_{cell.seed}', f'{folder}/slurm-%j.txt', command, gpus, slurm, slurm.gpus)


def table_script(suite: Suite, out: Path, slurm: Slurm, seeds: Sequence[int] | None = None) -> str:
    """The text of the job that writes the table, on CPUs.

    Args:
        suite: Whose table it is.
        out: The suite's folder.
        slurm: How the jobs of its runs were submitted.
        seeds: Instead of the suite's own.
    """
    command = ['tools/make_table.py', Path(suite.file).resolve(), '--out', out, *(['--seeds', *seeds] if seeds else [])]
    return _job(f'{Path(suite.file).stem}_table', f'{out}/slurm-table-%j.txt', command, '', slurm, 0)


def _job(name: str, output: str, command: Sequence, more: str, slurm: Slurm, gpus: int) -> str:
    lines = [[f'--job-name={name}'], [f'--output={output}']]
    lines += [[f'--partition={slurm.partition}']] if slurm.partition else []
    # one task, because torchrun starts the processes; a cut-off job goes on when it is queued again
    lines += [[f'--gres=gpu:{gpus}']] if gpus else []
    # one line for all of the user's, because an option and its value may be two words
    lines += [['--ntasks=1'], *([slurm.args] if slurm.args else [])]
    header = ''.join(f'#SBATCH {shlex.join(line)}\n' for line in lines)
    script, *arguments = command
    text = shlex.join(map(str, [sys.executable, ROOT / script, *arguments])) + more
    return f'#!/bin/bash\n{header}cd {shlex.quote(str(ROOT))} || exit 1\nexec {text}\n'


def sbatch_command(file: Path, dependencies: Sequence[str], failed: bool = False) -> list[str]:
    """The command that submits a script after other jobs; ``failed``: even if they fail."""
    after = []
    if dependencies:
        kind, more = ('afterany', []) if failed else ('afterok', ['--kill-on-invalid-dep=yes'])
        after = [f'--dependency={kind}:{":".join(dependencies)}', *more]
    return ['sbatch', '--parsable', *after, str(file)]


def queued(folder: Path) -> str | None:
    """The id of a cell's job if it waits or runs."""
    job = (read_json(folder / JOB) or {}).get('job')
    if job is None:
        return None
    # squeue fails for jobs that it has forgotten
    found = subprocess.run(['squeue', '--noheader', '--jobs', job], capture_output=True, text=True)
    return job if found.returncode == 0 and found.stdout.strip() else None


def submit(suite: Suite, cells: Sequence[Cell], out: Path, slurm: Slurm) -> Mapping[Cell, str]:
    """Write and submit a job for every cell, those that it needs before it; what is queued already is left alone.

    Args:
        suite: Of the cells.
        cells: Unfinished ones, each after those that it needs.
        out: The suite's folder, on a disk that the nodes share.
        slurm: How.

    Returns:
        Cell -> id of its job.

    Raises:
        RuntimeError: If slurm is not there or refuses a job.
    """
    for program in ('sbatch', 'squeue'):
        if shutil.which(program) is None:
            raise RuntimeError(f'--slurm needs {program}, which is not on PATH: run on a login node, or leave --slurm out')
    jobs: dict[Cell, str] = {}
    for cell in cells:
        folder = folder_of(suite, cell, out)
        job = queued(folder)
        if job is None:
            waits = [jobs[need] for need in needs_of(suite, cell) if need in jobs]
            job = _submit(folder / 'slurm.sh', script(suite, cell, out, slurm), waits)
            write_json(folder / JOB, dict(job=job))
        jobs[cell] = job
    return jobs


def submit_table(suite: Suite, jobs: Sequence[str], out: Path, slurm: Slurm, seeds: Sequence[int] | None = None) -> str:
    """Submit a job that writes the table when other jobs have ended, well or not; returns its id.

    Raises:
        RuntimeError: If slurm refuses it.
    """
    return _submit(out / 'slurm_table.sh', table_script(suite, out, slurm, seeds), jobs, failed=True)


def _submit(file: Path, text: str, waits: Sequence[str], failed: bool = False) -> str:
    with replacing(file) as temporary:
        temporary.write_text(text)
    done = subprocess.run(sbatch_command(file, waits, failed), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'sbatch refused {file}: {done.stderr.strip() or done.stdout.strip()}')
    # --parsable gives id or id;cluster
    return done.stdout.strip().split(';')[0]
