"""Two gloo processes on this machine."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_ranks(script: Path, folder: Path, arguments: Sequence = (), world: int = 2, timeout: float = 240) -> None:
    """Run ``script RANK WORLD_SIZE INIT_FILE *arguments`` once per rank and wait; all must succeed.

    ``{rank}`` in an argument becomes the rank.
    """
    environment = os.environ | {
        'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'GLOO_SOCKET_IFNAME': 'lo',
    }  # fmt: skip
    processes = []
    for rank in range(world):
        own = [str(argument).replace('{rank}', str(rank)) for argument in arguments]
        command = [sys.executable, str(script), str(rank), str(world), str(folder / 'init'), *own]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * world, '\n'.join(error[-2000:] for error in errors)
