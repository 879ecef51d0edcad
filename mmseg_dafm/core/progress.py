"""Progress of long work: a bar on a terminal, a line in the log now and then otherwise."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator

from rich.progress import track as rich_track


def track(items: Iterable, total: int, title: str, say: Callable[[str], None], every: float = 30.0) -> Iterator:
    """Iterate and report progress and the time that is left.

    Args:
        items: What to iterate.
        total: Number of items that will be taken.
        title: What is being done.
        say: Takes a line; used where standard error is no terminal.
        every: Seconds between two lines; work that ends sooner says nothing.
    """
    if sys.stderr.isatty():
        yield from rich_track(items, title, total=total)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            left = (now - start) / done * max(total - done, 0)
            say(f'{title}: {done} of {total}, about {left:.0f} s left')
