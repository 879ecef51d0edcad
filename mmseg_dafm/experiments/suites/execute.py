"""Run a suite on this machine: in order, in parallel, and after an interruption."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from mmseg_dafm.core.files import locked, replacing
from mmseg_dafm.experiments.suites.plan import Cell, commands, config_options, folder_of, output_of
from mmseg_dafm.experiments.suites.run_config import batch_size, read_config, run_hash
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.tool_runs import checked_out_commit, run_tool

STARTED, DONE = 'started.json', 'done.json'


def state(folder: Path, identity: str, checkpoint: str | None = None) -> str:
    """``'done'``, ``'trained'`` (but not tested), ``'started'`` or ``'missing'``.

    Args:
        folder: Of the cell.
        identity: Hash that the cell has now.
        checkpoint: Name of the final checkpoint; None for a command.

    Raises:
        ValueError: If a record is broken, or the folder holds another run, whose checkpoints must not be continued.
    """
    record = read_json(folder / DONE) or read_json(folder / STARTED)
    if not record:
        if any(folder.glob('*.pth')):
            raise ValueError(f'{folder} holds checkpoints that no suite has written: choose another --out or move the folder.')
        return 'missing'
    if record.get('hash') != identity:
        raise ValueError(f'{folder} holds a run with another config or other options: choose another --out or move the folder.')
    if (folder / DONE).is_file():
        return 'done'
    # the file alone may be half written
    return 'trained' if checkpoint and record.get('trained') and (folder / checkpoint).is_file() else 'started'


def read_json(path: Path) -> dict | None:
    """A file's content; None if there is no such file.

    Raises:
        ValueError: If the file holds no JSON dict.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON ({error}): remove it, and what it stands for is done again.') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} must hold a dict, got {content!r}: remove it, and what it stands for is done again.')
    return content


def write_json(path: Path, content: dict) -> None:
    """Write a file as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + '\n')


def cell_state(suite: Suite, cell: Cell, out: Path) -> str:
    """As :func:`mmseg_dafm.experiments.suites.execute.state`, for a cell."""
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


T, S = TypeVar('T'), TypeVar('S')


def run_all(
    cells: Sequence[T],
    needs: Mapping[T, Sequence[T]],
    execute: Callable[[T, S], bool],
    slots: Sequence[S],
    ended: Callable[[T, str], None],
    poll: float = 2.0,
) -> list[T]:
    """Execute every cell once; a failure stops only what needs the failed cell.

    Args:
        cells: To execute, in the wanted order.
        needs: Cell -> what it waits for; what is not among ``cells`` counts as finished.
        execute: Called in a thread with a cell and a free slot. Returns False if another process is at the cell, which is then
            tried again until it is finished.
        slots: Places to execute at, such as groups of GPUs; as many cells run at the same time.
        ended: Called for every cell with what went wrong, '' for a success.
        poll: Seconds between two attempts at a cell of another process.

    Returns:
        The cells that failed or could not start.
    """
    waiting, free = list(cells), list(slots)
    running: dict[Future, tuple[T, S]] = {}
    failed: list[T] = []
    finished: set[T] = set()
    later: dict[T, float] = {}

    def end(cell: T, problem: str) -> None:
        (failed.append if problem else finished.add)(cell)
        ended(cell, problem)

    def start(pool: ThreadPoolExecutor) -> None:
        for cell in list(waiting):
            wants = [need for need in needs.get(cell, ()) if need in cells]
            broken = [need for need in wants if need in failed]
            if broken:
                waiting.remove(cell)
                end(cell, f'not started, because {named(broken[0])} failed')
            elif free and all(need in finished for need in wants) and later.get(cell, 0) <= time.monotonic():
                waiting.remove(cell)
                slot = free.pop(0)
                running[pool.submit(execute, cell, slot)] = cell, slot

    with ThreadPoolExecutor(len(slots)) as pool:
        while waiting or running:
            start(pool)
            for future in wait(running, timeout=poll, return_when=FIRST_COMPLETED).done if running else []:
                cell, slot = running.pop(future)
                free.append(slot)
                problem = future.exception()
                if problem is None and not future.result():
                    later[cell] = time.monotonic() + poll
                    waiting.append(cell)
                else:
                    end(cell, '' if problem is None else str(problem) or repr(problem))
            if waiting and not running:
                # another process holds all that is left
                time.sleep(poll / 10)
    return failed


def named(cell: object) -> str:
    """How a cell is called in messages: ``NAME seed S``."""
    return f'{cell[0]} seed {cell[1]}' if isinstance(cell, tuple) else str(cell)


class Progress:
    """One line per cell that ends, with an estimate of what is left.

    Args:
        total: Number of cells.
        clock: Gives the time in seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.begin, self.count, self.timed = clock(), 0, 0

    def line(self, cell: object, problem: str) -> str:
        """The line for a cell that has ended."""
        self.count += 1
        # what was not started took no time
        self.timed += not problem.startswith('not started')
        minutes = (self.clock() - self.begin) / 60
        left = minutes / max(self.timed, 1) * (self.total - self.count)
        return f'[{self.count}/{self.total}] {named(cell)}: {problem or "done"}; {minutes:.1f} min, about {left:.0f} left'
