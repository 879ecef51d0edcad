"""Checks of the environment: Python, PyTorch, the OpenMMLab packages, model libraries."""

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from mmseg_dafm.core.quiet import quiet_imports

CLASSIC = ('mmengine', 'mmcv', 'mmsegmentation')
MAINTAINED = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation')


@dataclass(frozen=True)
class Check:
    """Result of one check: a line of the doctor's table.

    Attributes:
        name: Subject of the check.
        found: State on this machine.
        needed: Required state.
        ok: Whether the check passed.
        required: Whether the exit code depends on it.
        fix: Command or advice if the check failed.
    """

    name: str
    found: str
    needed: str
    ok: bool
    required: bool = True
    fix: str = ''


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def import_error(name: str) -> str | None:
    """Import a module; return the first line of the error, or None."""
    try:
        with quiet_imports():
            importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 (an incompatible package can fail in any way)
        return f'{type(error).__name__}: {error}'.splitlines()[0]
    return None


def numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: '2.12.1+cpu' -> (2, 12, 1)."""
    match = re.match(r'\d+(\.\d+)*', text)
    return tuple(map(int, match[0].split('.'))) if match else ()


def check_range(name: str, low: str, high: str | None = None, required: bool = True) -> Check:
    """Check that a distribution is installed with low <= version < high."""
    found = installed(name)
    needed = f'>= {low}' + (f', < {high}' if high else '')
    good = found is not None and numbers(low) <= numbers(found) and (high is None or numbers(found) < numbers(high))
    limit = f'>={low}' + (f',<{high}' if high else '')
    return Check(name, found or 'not installed', needed, good, required, f'pip install "{name}{limit}"')


def environment_checks() -> Iterator[Check]:
    """Yield the checks of Python, PyTorch, the OpenMMLab packages and the model libraries."""
    python = '.'.join(map(str, sys.version_info[:3]))
    yield Check('python', python, '>= 3.10', sys.version_info >= (3, 10), fix='use Python 3.10 or newer')
    yield from _torch_checks()
    yield from _openmmlab_checks()
    yield check_range('diffusers', '0.30', '1')
    yield check_range('transformers', '4.41', '6')
    yield check_range('safetensors', '0.4')
    for name, low in (('timm', '1.0.20'), ('scipy', '1'), ('peft', '0.11'), ('open_clip_torch', '3.0'), ('scikit-learn', '1')):
        check = check_range(name, low, required=False)
        yield replace(check, fix='pip install -e ".[all]" installs everything that our configs and tools need')


def _torch_checks() -> Iterator[Check]:
    yield check_range('torch', '2.3')
    if installed('torchvision') is not None:
        error = import_error('torchvision')
        fix = 'reinstall both from one index: pip install --force-reinstall torch torchvision'
        yield Check('torchvision', error or installed('torchvision'), 'matches torch', error is None, fix=fix)
    if import_error('torch') is None:
        import torch

        found = 'none: the CPU is used'
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            found = f'{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free'
        fix = 'the quickstart runs without; full-size training needs a GPU and a CUDA build of torch'
        yield Check('GPU', found, '24 GiB for SD-1.5 at 512 px', torch.cuda.is_available(), False, fix)


def _openmmlab_checks() -> Iterator[Check]:
    classic = [name for name in (*CLASSIC, 'mmcv-lite') if installed(name)]
    maintained = [name for name in MAINTAINED if installed(name)]
    found = ', '.join(f'{name} {installed(name)}' for name in (*maintained, *classic)) or 'nothing'
    if classic and maintained:
        fix = f'keep one family: pip uninstall {" ".join(classic)}, then pip install --force-reinstall {" ".join(MAINTAINED)}'
        yield Check('mmsegmentation stack', found, 'one family of packages', False, fix=fix)
    else:
        complete = len(maintained) == 3 or len(classic) >= 3
        fix = 'pip install "mmseg_dafm[onedl]" (maintained) or "mmseg_dafm[openmmlab]" (classic)'
        yield Check('mmsegmentation stack', found, 'mmengine, mmcv and mmsegmentation', complete, fix=fix)
    if classic:
        yield check_range('mmengine', '0.10.6')
        yield check_range('mmcv-lite' if installed('mmcv-lite') else 'mmcv', '2.1', '2.2')
        operators = find_spec('mmcv') is not None and find_spec('mmcv._ext') is not None
        fix = 'pip install "setuptools<81" ninja, then MMCV_WITH_OPS=1 pip install --no-build-isolation "mmcv==2.1.0"'
        yield Check('mmcv operators', 'built' if operators else 'missing', 'built', operators, fix=fix)
        setuptools = installed('setuptools')
        old = setuptools is not None and numbers(setuptools) < (82,)
        fix = 'pip install "setuptools<81": without it configs that inherit from mmseg:: fail'
        yield Check('setuptools', setuptools or 'not installed', '< 82 for mmengine 0.10', old, False, fix)
    if maintained:
        operators = find_spec('mmcv') is not None and find_spec('mmcv._ext') is not None
        fix = 'nothing to do: only configs with an operator such as deformable attention need a build with MMCV_WITH_OPS=1'
        yield Check('compiled operators of mmcv', 'built' if operators else 'missing', '', operators, False, fix)
    for name in ('ftfy', 'regex'):
        yield Check(name, installed(name) or 'not installed', 'any', installed(name) is not None, fix=f'pip install {name}')
    if installed('openmim'):
        fix = 'pip uninstall openmim: it downgrades setuptools and other packages'
        yield Check('openmim', installed('openmim'), 'absent', False, False, fix)
    if installed('mmdet') or installed('onedl-mmdetection'):
        error = import_error('mmdet')
        fix = 'uninstall mmdet, which is not needed here: mmsegmentation imports it where it is installed'
        yield Check('mmdet', error or 'works', 'absent or working', error is None, fix=fix)
    error = import_error('mmseg.apis')
    yield Check('import mmseg.apis', error or 'works', 'works', error is None, fix='mend the lines above first')
