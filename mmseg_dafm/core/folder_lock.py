"""A lock that keeps two processes from one folder, and that the programs started with it hold, too."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Hold a folder's lock: gives its file descriptor, None if another process holds it.

    Programs that are started with the descriptor hold the lock, too. So a training that outlives a killed driver keeps the folder
    until it ends, and nothing is left behind by a process that dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)
