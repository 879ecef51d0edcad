"""Execute cells side by side, each after those that it needs."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

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
