"""Test-only stand-in for mmcv's compiled operators, copied to `mmcv/_ext.py` beside mmcv-lite by `.ci/run`.

mmsegmentation 1.2.2 imports `mmcv.ops` although most of its models never call one. With this module the import works,
and a call says why it cannot.
"""

from typing import NoReturn


def __getattr__(name: str):
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args, **kwargs) -> NoReturn:
        raise RuntimeError(f'mmcv was installed without compiled operators, but {name} was called')

    return missing
