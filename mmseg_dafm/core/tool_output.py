"""Output of the tools: progress with remaining time, and one-sentence errors."""

import errno
import linecache
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import mmseg.registry
from mmengine.registry import Registry
from rich.progress import track as rich_track

from mmseg_dafm.core.checkpoint import CheckpointError
from mmseg_dafm.core.config_file import nearest

PACKAGE = 'mmseg_dafm'
# An error in a DataLoader worker: the traceback as text, with the message last.
WORKER = re.compile(
    r'Caught (\w+) in DataLoader worker process.*File "[^"]*[/\\]mmseg_dafm[/\\][^"]*"(?:(?!File ").)*?\n\1: (.*)', re.DOTALL
)
FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn this package's errors, and known errors of other packages, into ``error: ...`` and exit code 1.

    All other errors keep their traceback.

    Raises:
        SystemExit: If such an error occurs; its message is the sentence.
    """
    try:
        yield
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        raise SystemExit(f'error: {sentence}') from None


def sentence_of(error: Exception) -> str | None:
    """The sentence to print for an error; None to print its traceback."""
    text = str(error)
    if isinstance(error, CheckpointError) or (isinstance(error, ValueError | FileNotFoundError) and _raised_here(error)):
        return text
    if match := WORKER.search(text):
        return match[2].strip()
    if isinstance(error, OSError) and error.errno in FULL:
        return f'the disk is full ({error.filename or text}): free some space, then go on with --resume.'
    if isinstance(error, OSError) and error.errno in CLOSED:
        return f'{error.filename or text} cannot be written or read ({error.strerror}): check its permissions.'
    if match := re.search(r'(\w+) is not in the ([\w:]+) registry', text):
        name, registry = match[1], match[2].split('::')[-1].replace(' ', '_')
        found = [r for r in vars(mmseg.registry).values() if isinstance(r, Registry) and r.name == registry.replace('_', ' ')]
        known = {key for r in found for key in (*r.module_dict, *(r.parent.module_dict if r.parent else ()))}
        return f'type={name!r} is not a registered {registry}.{nearest(name, known)} (custom_imports registers others.)'
    return next((sentence for pattern, sentence in FORESEEN if re.search(pattern, text, re.IGNORECASE)), None)


# Message of another package, our sentence.
FORESEEN = (
    (
        r'EADDRINUSE|address already in use',
        'the port of the processes is in use: set another one, such as PORT=29501 tools/dist_train.sh ...',
    ),
    (
        r'PytorchStreamWriter failed|unexpected pos \d+',
        'a checkpoint could not be written whole: free space on the disk of the work dir, then go on with --resume.',
    ),
    (
        r'Expected more than 1 value per channel when training',
        'a batch norm layer saw one value per channel, as with one image in front of a 1x1 pooling: raise '
        'train_dataloader.batch_size to 2 or more, set train_dataloader.drop_last=True, or use SyncBN on several GPUs.',
    ),
)


def _raised_here(error: Exception) -> bool:
    """Whether a ``raise`` statement of this package or its tools raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    ours = frame.f_globals.get('__name__', '').split('.')[0] in (PACKAGE, '__main__')
    return ours and linecache.getline(frame.f_code.co_filename, trace.tb_lineno).strip().startswith('raise ')


def track(items: Iterable, total: int, title: str, say: Callable[[str], None], every: float = 30.0) -> Iterator:
    """Iterate and report progress and the remaining time.

    Args:
        items: Items to iterate.
        total: Number of items that will be taken.
        title: Name of the work, at the start of each line.
        say: Called with each line if standard error is not a terminal.
        every: Seconds between two lines; shorter work reports nothing.
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
