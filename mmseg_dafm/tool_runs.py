"""Run this project's own tools in processes of one thread each, for tables of many small runs."""

import os
import subprocess
import sys
from collections.abc import Sequence
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


def checked_out_commit() -> str:
    """The commit that is checked out, marked when the tree differs from it; 'unknown' without git."""
    command = ['git', 'describe', '--always', '--dirty']
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or 'unknown'
