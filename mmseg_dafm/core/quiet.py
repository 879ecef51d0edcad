"""Keep out of our tools' output what upstream packages say about themselves."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# mmsegmentation prints it at import, once per module that would use another of its publisher's products.
PRINTED = ('Could not import OneDL',)
# mmcv without compiled operators; no config of ours needs them, and `python -m mmseg_dafm.doctor` lists them as optional.
WARNED = ('Fail to import ``MultiScaleDeformableAttention``',)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Drop upstream's known remarks while packages are imported; everything else is printed afterwards."""
    for text in WARNED:
        warnings.filterwarnings('ignore', message=text)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line not in PRINTED:
                print(line)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' and diffusers' reports of loading off the screen: callers take the report as a value and judge it.

    A text tower out of a whole CLIP leaves hundreds of keys unused, which the report lists as UNEXPECTED.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    found = [(kind, kind.get_verbosity()) for kind in (transformers.utils.logging, diffusers.utils.logging)]
    try:
        for kind, _ in found:
            kind.set_verbosity_error()
        yield
    finally:
        for kind, verbosity in found:
            kind.set_verbosity(verbosity)
