"""What the disk says of a cell."""

import json
from pathlib import Path

from mmseg_dafm.core.files import replacing

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
