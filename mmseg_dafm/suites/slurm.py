"""Submit cells to slurm: one job each, which calls the suite's own tool for that cell alone."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg_dafm.files import replacing
from mmseg_dafm.suites.plan import Cell, folder_of, needs_of
from mmseg_dafm.suites.state import read_json, write_json
from mmseg_dafm.suites.suite_file import Suite
from mmseg_dafm.tool_runs import ROOT

JOB = 'slurm.json'


@dataclass(frozen=True)
class Slurm:
    """How jobs are submitted.

    Attributes:
        partition: Of the cluster; None for its default.
        args: Further lines for ``#SBATCH``, such as ``--time=24:00:00``.
        gpus: GPUs of a job, one process each; 0 for a job on CPUs.
    """

    partition: str | None = None
    args: Sequence[str] = ()
    gpus: int = 1


def script(suite: Suite, cell: Cell, out: Path, slurm: Slurm) -> str:
    """The text of a cell's job."""
    folder = folder_of(suite, cell, out)
    lines = [f'--job-name={cell.run}_{cell.seed}', f'--output={folder}/slurm-%j.txt']
    lines += [f'--partition={slurm.partition}'] if slurm.partition else []
    # one task, because torchrun starts the processes; a cut-off job goes on when it is queued again
    lines += [f'--gres=gpu:{slurm.gpus}'] if slurm.gpus else []
    lines += ['--ntasks=1', *slurm.args]
    command = [sys.executable, ROOT / 'tools/run_suite.py', Path(suite.file).resolve(), '--out', out]
    command += ['--only', cell.run, '--seeds', cell.seed, '--no-table']
    text = shlex.join(map(str, command))
    if slurm.gpus:
        # slurm names the GPUs of the job with commas between them
        text += f' --gpus-per-run {slurm.gpus} --gpus ${{CUDA_VISIBLE_DEVICES//,/ }}'
    header = ''.join(f'#SBATCH {line}\n' for line in lines)
    return f'#!/bin/bash\n{header}cd {shlex.quote(str(ROOT))} || exit 1\nexec {text}\n'


def sbatch_command(file: Path, dependencies: Sequence[str]) -> list[str]:
    """The command that submits a script after other jobs."""
    after = [f'--dependency=afterok:{":".join(dependencies)}', '--kill-on-invalid-dep=yes'] if dependencies else []
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
            file = folder / 'slurm.sh'
            with replacing(file) as temporary:
                temporary.write_text(script(suite, cell, out, slurm))
            waits = [jobs[need] for need in needs_of(suite, cell) if need in jobs]
            done = subprocess.run(sbatch_command(file, waits), capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f'sbatch refused {file}: {done.stderr.strip() or done.stdout.strip()}')
            # --parsable gives id or id;cluster
            job = done.stdout.strip().split(';')[0]
            write_json(folder / JOB, dict(job=job))
        jobs[cell] = job
    return jobs
