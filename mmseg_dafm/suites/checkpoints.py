"""Checkpoints that a kill has left half written."""

import re
import zipfile
from pathlib import Path

from mmseg_dafm.files import replacing

SAVED = re.compile(r'(?:iter|epoch)_(\d+)\.pth')
# mmengine's file of the checkpoint to resume from, written after that checkpoint
LAST = 'last_checkpoint'


def is_whole(file: Path) -> bool:
    """Whether a checkpoint was written to its end; torch.save ends with the directory of its zip archive."""
    return file.is_file() and zipfile.is_zipfile(file)


def mend_checkpoints(folder: Path) -> list[Path]:
    """Make ``train.py --resume`` work after a kill while mmengine, which writes in place, was saving.

    A broken last checkpoint is removed, and ``last_checkpoint`` names the newest whole one where it names none; it is removed
    if there is no whole one, so that training starts afresh.

    Args:
        folder: Of a training that nobody runs.

    Returns:
        What was removed.
    """
    saved = sorted((int(match[1]), path) for path in folder.glob('*.pth') if (match := SAVED.fullmatch(path.name)))
    removed = []
    while saved and not is_whole(saved[-1][1]):
        removed.append(saved.pop()[1])
        removed[-1].unlink()
    last = folder / LAST
    named = last.read_text().strip() if last.is_file() else ''
    if saved and not (named and is_whole(Path(named))):
        with replacing(last) as temporary:
            temporary.write_text(str(saved[-1][1]))
    elif not saved:
        last.unlink(missing_ok=True)
    return removed
