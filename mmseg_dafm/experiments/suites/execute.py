"""Execute one cell."""

import time
from pathlib import Path

from mmseg_dafm.core.folder_lock import locked
from mmseg_dafm.experiments.suites.commands import commands, config_options
from mmseg_dafm.experiments.suites.plan import Cell, folder_of, output_of
from mmseg_dafm.experiments.suites.run_config import batch_size, read_config, run_hash
from mmseg_dafm.experiments.suites.state import DONE, STARTED, read_json, state, write_json
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.tool_runs import checked_out_commit, run_tool


def cell_state(suite: Suite, cell: Cell, out: Path) -> str:
    """As :func:`mmseg_dafm.experiments.suites.state.state`, for a cell."""
    run = suite.run(cell.run)
    checkpoint = read_config(suite, run).checkpoint if run.kind == 'config' else None
    return state(folder_of(suite, cell, out), run_hash(suite, run), checkpoint)


def execute(suite: Suite, cell: Cell, out: Path, devices: str | None = None, processes: int = 1) -> bool:
    """Train and test a cell, or call its tool, from where it was cut off; ``done.json`` is written last.

    Args:
        suite: Of the cell.
        cell: To execute; what it needs must be finished.
        out: The suite's folder.
        devices: CUDA_VISIBLE_DEVICES of its programs; None leaves the variable alone.
        processes: Of a training and a test, one per GPU.

    Returns:
        Whether the cell is finished; False if another process is at it.

    Raises:
        RuntimeError: If a program fails or leaves no output.
        ValueError: If the folder holds another run.
    """
    run, folder = suite.run(cell.run), folder_of(suite, cell, out)
    with locked(folder) as lock:
        if lock is None:
            return False
        found = cell_state(suite, cell, out)
        if found == 'done':
            return True
        record = dict(run=cell.run, seed=cell.seed, hash=run_hash(suite, run))
        started = read_json(folder / STARTED) or {}
        before = started.get('minutes', 0)
        if found == 'trained':
            record.update((key, started[key]) for key in ('trained', 'processes', 'batch_size') if key in started)
        elif run.kind == 'config':
            record.update(processes=processes, batch_size=batch_size(read_config(suite, run).content, processes))
        begin = time.time()
        write_json(folder / STARTED, dict(record, minutes=before))
        variables = {} if devices is None else {'CUDA_VISIBLE_DEVICES': devices}
        for script, *arguments in commands(suite, cell, out, processes)[1 if found == 'trained' else 0 :]:
            several = processes if run.kind == 'config' else 1
            run_tool(script, arguments, folder / 'stdout.txt', variables, several, keep=(lock,))
            if script == 'train.py':
                record['trained'] = True
            # of a run that is cut off later, so that its time is not lost
            write_json(folder / STARTED, dict(record, minutes=before + (time.time() - begin) / 60))
        output = output_of(suite, cell, out)
        if not output.is_file():
            remedy = "let the config's test_evaluator be DomainIoUMetric" if run.kind == 'config' else "correct the run's output"
            raise RuntimeError(f'{suite.file}: run {cell.run!r} has ended without {output}: {remedy}')
        record.update(minutes=round(before + (time.time() - begin) / 60, 2), commit=checked_out_commit(), output=output.name)
        if run.kind == 'config':
            record.update(checkpoint=read_config(suite, run).checkpoint, options=config_options(suite, cell, out))
        write_json(folder / DONE, record)
    return True
