"""Atomic file writes, locks on folders, and where data sets lie."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path``; what was written there takes the place of ``path`` at exit.

    After an error, or if nothing was written, ``path`` is as before. The folder is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays last, because matplotlib and OpenCV choose the format by it
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_folder(folder: str | os.PathLike, option: str = 'the output folder') -> Path:
    """Try whether a folder can be written to, or made, before the work whose results are to lie there; makes nothing.

    Args:
        folder: The folder.
        option: What names it, for the error.

    Returns:
        The folder.

    Raises:
        ValueError: It is a file, or cannot be made or written to.
    """
    folder = Path(folder).expanduser()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # a trial, because os.access knows nothing of read-only file systems for root, or of a full disk
        with tempfile.NamedTemporaryFile(dir=there, prefix='.trial') as file:
            file.write(b'x')
    except OSError as error:
        raise ValueError(f'{option} {folder} cannot be written to ({error.strerror}): name another folder.') from error
    return folder


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


# Sets whose default folder is not data/<name>.
DEFAULTS = {'voc': 'data/VOCdevkit/VOC2012'}


def root_variable(name: str) -> str:
    """Name of the environment variable that holds a set's folder: ``'foggy_zurich'`` -> ``'FOGGY_ZURICH_ROOT'``."""
    return f'{name.upper()}_ROOT'


def data_root(name: str) -> str:
    """Folder of a set: its environment variable, with ``~`` expanded, else its default, as the configs have it."""
    return os.path.expanduser(os.environ.get(root_variable(name)) or DEFAULTS.get(name, f'data/{name}'))
