"""Run this project's own tools in processes of one thread each, for tables of many small runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_tool(name: str, arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
    """Run ``tools/<name>``, its output appended to ``log``.

    Args:
        name: Path of the script below tools/.
        arguments: Its command line.
        log: File of the output.
        environment: Variables on top of this process's own.

    Raises:
        RuntimeError: If the tool fails; the sentence holds its last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / name), *map(str, arguments)]
    variables = {**os.environ, 'OMP_NUM_THREADS': '1', **(environment or {})}
    with open(log, 'a') as file:
        code = subprocess.run(command, cwd=ROOT, env=variables, stdout=file, stderr=file).returncode
    if code:
        last = next((line for line in reversed(log.read_text(errors='replace').splitlines()) if line.strip()), 'no output')
        raise RuntimeError(f'{name} stopped with exit code {code}: {last} (all of it: {log})')


def follow(futures: Mapping[tuple[int, str], Future], after: Callable[[int, str], None]) -> list[str]:
    """Wait for runs in their order, say how long the rest will take at most, and go on after failures.

    Args:
        futures: (seed, method) -> run.
        after: Called with seed and method when a run has ended.

    Returns:
        A sentence per failed run.
    """
    begin, failed = time.time(), []
    for finished, ((seed, method), future) in enumerate(futures.items(), 1):
        error = future.exception()
        failed += [f'{method} seed {seed}: {error}'] if error else []
        minutes = (time.time() - begin) / 60
        left = minutes / finished * (len(futures) - finished)
        print(
            f'[{finished}/{len(futures)}] {method} seed {seed}: {error or "done"}; {minutes:.0f} min, at most {left:.0f} left',
            flush=True,
        )
        after(seed, method)
    return failed


def checked_out_commit() -> str:
    """The commit that is checked out, marked when the tree differs from it; 'unknown' without git."""
    command = ['git', 'describe', '--always', '--dirty']
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or 'unknown'
