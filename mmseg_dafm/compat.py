"""What the classic OpenMMLab packages need on newer PyTorch; nothing here acts on the maintained ones."""

import inspect
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version


def load_local_checkpoint(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint from the local disk, tensors only if it holds no more than that.

    A training checkpoint of mmengine also holds its message hub, which PyTorch >= 2.6 refuses to unpickle by default.
    Such a file is unpickled in full, which runs code from it: load only checkpoints from people you trust.

    Args:
        filename: Path of the file.
        map_location: As for `torch.load`.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint that PyTorch can read.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError:
            print_log(f'{path} holds more than tensors and is unpickled in full', 'current', logging.WARNING)
            return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:  # a file of another kind makes pickle raise almost anything
        reason = str(error).strip().splitlines()
        raise ValueError(
            f'{path} is no checkpoint that PyTorch can read ({type(error).__name__}: {reason[0][:120] if reason else ""}): give '
            'a file that torch.save wrote.'
        ) from error


def needs_checkpoint_loader() -> bool:
    """Say whether this mmengine cannot load its own checkpoints with this PyTorch (mmengine issue 1655)."""
    if digit_version(torch.__version__) < digit_version('2.6.0'):
        return False
    return 'weights_only' not in inspect.getsource(mmengine_checkpoint)


def install() -> None:
    """Register `load_local_checkpoint` for local files where mmengine needs it; otherwise do nothing."""
    if needs_checkpoint_loader():
        mmengine_checkpoint.CheckpointLoader.register_scheme(prefixes='', loader=load_local_checkpoint, force=True)
