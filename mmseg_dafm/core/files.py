"""Atomic file writes, folder locks, and data set folders."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write ``path`` atomically: yields a temporary file name, and renames that file to ``path`` at exit.

    After an error, or if nothing was written, ``path`` is unchanged. A missing folder is created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # keep the suffix: matplotlib and OpenCV choose the format by it
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_folder(folder: str | os.PathLike, option: str = 'the output folder') -> Path:
    """Check before long work that its output folder is writable or can be created; leaves no file or folder.

    Args:
        folder: The folder.
        option: The option that names it, for the error.

    Returns:
        The folder, with ``~`` expanded.

    Raises:
        ValueError: If it is a file, or cannot be created or written to.
    """
    folder = Path(folder).expanduser()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # os.access misses full disks and, for root, read-only file systems
        with tempfile.NamedTemporaryFile(dir=there, prefix='.trial') as file:
            file.write(b'x')
    except OSError as error:
        raise ValueError(f'{option} {folder} cannot be written to ({error.strerror}): name another folder.') from error
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Hold a folder's lock; yields its file descriptor, or None if another process holds it.

    Child processes that inherit the descriptor hold the lock, too: a training that outlives its killed driver keeps the folder
    until it ends. The lock of a dead process is free.
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


# Data sets whose default folder is not data/<name>.
DEFAULTS = {'voc': 'data/VOCdevkit/VOC2012'}


def root_variable(name: str) -> str:
    """Environment variable of a data set's folder: ``'foggy_zurich'`` -> ``'FOGGY_ZURICH_ROOT'``."""
    return f'{name.upper()}_ROOT'


def data_root(name: str) -> str:
    """Folder of a data set: its environment variable (``~`` is expanded), else the configs' default."""
    return os.path.expanduser(os.environ.get(root_variable(name)) or DEFAULTS.get(name, f'data/{name}'))
