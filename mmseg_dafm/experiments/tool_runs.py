"""Run this project's own tools in processes of their own, for tables of many runs."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tool_command(name: str, arguments: Sequence[str], processes: int = 1) -> list[str]:
    """The command line of ``tools/<name>``, through torchrun if it has several processes."""
    script = [str(ROOT / 'tools' / name), *map(str, arguments)]
    if processes == 1:
        return [sys.executable, '-W', 'ignore', *script]
    # --standalone finds a free port, so several such runs fit on one machine
    return [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes), *script]


def run_tool(
    name: str,
    arguments: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    processes: int = 1,
    keep: Sequence[int] = (),
) -> None:
    """Run ``tools/<name>`` with one thread per process unless OMP_NUM_THREADS is set, its output appended to ``log``.

    Args:
        name: Path of the script below tools/.
        arguments: Its command line.
        log: File of the output.
        environment: Variables on top of this process's own.
        processes: Started together by torchrun.
        keep: File descriptors that the tool keeps open, such as those of locks.

    Raises:
        RuntimeError: If the tool fails; the sentence holds its error, or its last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {'OMP_NUM_THREADS': '1', **os.environ, **(environment or {})}
    command = tool_command(name, arguments, processes)
    before = log.stat().st_size if log.is_file() else 0
    with open(log, 'a') as file:
        code = subprocess.run(command, cwd=ROOT, env=variables, stdout=file, stderr=file, pass_fds=tuple(keep)).returncode
    if code:
        with open(log, 'rb') as file:
            file.seek(before)
            last = last_error(file.read().decode(errors='replace'))
        raise RuntimeError(f'{name} stopped with exit code {code}: {last} (all of it: {log})')


def last_error(output: str) -> str:
    """The line of a failed tool's output that says most: the last error, else the last line with a word in it."""
    lines = [line.strip() for line in output.splitlines() if re.search('[a-zA-Z]', line)]
    errors = [line for line in lines if re.match(r'error: |[\w.]*(Error|Exception): ', line)]
    return (errors or lines or ['no output'])[-1]


def checked_out_commit() -> str:
    """The commit that is checked out, marked when the tree differs from it; 'unknown' without git."""
    command = ['git', 'describe', '--always', '--dirty']
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or 'unknown'
