"""Deprecated: the name that :mod:`mmseg_dafm.daft` had up to version 0.1."""

import warnings

from mmseg_dafm.daft import *  # noqa: F403

warnings.warn('mmseg_dafm.bn is now mmseg_dafm.daft: import from there.', DeprecationWarning, stacklevel=2)
