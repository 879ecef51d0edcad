"""Write checkpoints atomically, and find the newest complete one in a work dir."""

import os
import re
import zipfile
from pathlib import Path

import torch
from mmengine.runner import checkpoint as upstream
from mmengine.runner import runner as upstream_runner

from mmseg_dafm.core.checkpoint import CheckpointError, read_checkpoint
from mmseg_dafm.core.files import replacing

SAVED = re.compile(r'(iter|epoch)_(\d+)\.pth')
# mmengine's pointer to the checkpoint to resume from, written after the checkpoint
LAST = 'last_checkpoint'
_original_save = upstream.save_checkpoint


def save_checkpoint(
    checkpoint: dict, filename: str, file_client_args: dict | None = None, backend_args: dict | None = None
) -> None:
    """Replace mmengine's ``save_checkpoint``: writes directly to the disk, and atomically.

    mmengine pickles into memory and copies the bytes, which takes twice the file's size on top of the model. It still writes to
    storage that is not a local folder.

    Args:
        checkpoint: Content of the file.
        filename: Path of the file; a missing folder is created.
        file_client_args: mmengine's; if given, mmengine writes.
        backend_args: mmengine's; if given, mmengine writes.

    Raises:
        CheckpointError: If the disk is full or not writable; an older file of this name is unchanged.
    """
    if file_client_args is not None or backend_args is not None or '://' in str(filename):
        _original_save(checkpoint, filename, file_client_args, backend_args)
        return
    try:
        with replacing(filename) as temporary:
            torch.save(checkpoint, temporary)
    except (OSError, RuntimeError) as error:
        # torch's writer reports a full disk as a RuntimeError
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f'checkpoint {filename} could not be written ({reason}). Free space or correct the folder, then go on with --resume; '
            'earlier checkpoints are unchanged.'
        ) from error


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is complete: torch.save writes the zip archive's directory last."""
    return file.is_file() and zipfile.is_zipfile(file)


def newest_checkpoint(folder: str | os.PathLike) -> tuple[Path, list[Path]] | None:
    """Find the checkpoint from which to resume a work dir, which may have been moved.

    First choice is the file that ``last_checkpoint`` names, in this folder. If it is broken or missing, the complete checkpoint
    with the most iterations below it is next. Checkpoints with more iterations belong to an earlier run in the same folder.

    Args:
        folder: The work dir.

    Returns:
        The checkpoint, and the list of newer ones that are broken or missing; None if there is no checkpoint at all.

    Raises:
        CheckpointError: If no checkpoint is complete; names those that were tried.
    """
    folder = Path(folder)
    pointer = folder / LAST
    named = pointer.read_text(errors='replace').strip() if pointer.is_file() else ''
    last = folder / re.split(r'[/\\]', named)[-1] if named else None
    if last is not None and is_whole(last):
        return last, []
    found = {path: SAVED.fullmatch(path.name) for path in folder.glob('*.pth')} if folder.is_dir() else {}
    match = SAVED.fullmatch(last.name) if last is not None else None
    steps = {path: int(saved[2]) for path, saved in found.items() if saved and (match is None or saved[1] == match[1])}
    tried = [] if last is None else [last]
    for path in sorted(steps, key=steps.get, reverse=True):
        if match is not None and steps[path] > int(match[2]):
            continue
        if is_whole(path):
            return path, tried
        if path not in tried:
            tried.append(path)
    if not tried:
        return None
    names = ', '.join(f'{path.name} ({"broken" if path.is_file() else "missing"})' for path in tried)
    others = sorted(path.name for path in folder.glob('*.pth') if is_whole(path))
    usable = f'; complete are {", ".join(others)}: give one as load_from' if others else ''
    raise CheckpointError(
        f'no checkpoint of {folder} can be resumed: {names}{usable}. Restore one of them, or remove {LAST} and the broken files '
        'to start afresh.'
    )


def load_from_local(filename: str, map_location: object = None) -> object:
    """Call :func:`~mmseg_dafm.core.checkpoint.read_checkpoint`; mmengine logs this function's name as the loader."""
    return read_checkpoint(filename, map_location)


def install() -> None:
    """Make mmengine read checkpoints without running code and write them atomically, also in mmseg's own tools."""
    upstream.CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    upstream.save_checkpoint = upstream_runner.save_checkpoint = save_checkpoint
