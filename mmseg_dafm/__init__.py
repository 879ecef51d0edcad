"""mmseg_dafm: domain-aware fine-tuning of foundation models for mmsegmentation.

Importing the package registers its components in mmsegmentation's registries; a config needs nothing but
``custom_imports = dict(imports=['mmseg_dafm'])``.
"""

import sys
import warnings
from importlib.util import find_spec

__version__ = '0.2.0'

# `python -m mmseg_dafm.doctor` must be able to speak on a machine where the rest cannot be imported.
if 'mmseg_dafm.doctor' not in sys.orig_argv:
    _missing = [name for name in ('mmengine', 'mmcv', 'mmseg') if find_spec(name) is None]
    _ADVICE = (
        'install it with `pip install "mmseg_dafm[onedl]"` (maintained packages) or `pip install "mmseg_dafm[openmmlab]"` '
        '(classic packages).'
    )
    if len(_missing) == 3:
        # nothing of OpenMMLab is there: what needs torch alone can be used all the same
        warnings.warn(f'mmseg_dafm without mmsegmentation: only mmseg_dafm.daft can be imported; {_ADVICE}', stacklevel=2)
    elif _missing:
        raise ImportError(f'mmseg_dafm needs mmsegmentation, but {", ".join(_missing)} cannot be imported: {_ADVICE}')
    else:
        from mmseg_dafm.core.quiet import quiet_imports

        with quiet_imports():
            from mmseg_dafm import datasets, evaluation, hooks, models, optim  # noqa: F401
            from mmseg_dafm.core import config_file, saving

        config_file.install()
        saving.install()
