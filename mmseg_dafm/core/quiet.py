"""Silence known messages of upstream packages in the tools' output."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# Printed by mmsegmentation at import, for an optional package.
PRINTED = ('Could not import OneDL',)
# Warning of an mmcv without compiled operators. Our configs do not need them; the doctor lists them as optional.
WARNED = ('Fail to import ``MultiScaleDeformableAttention``',)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Inside, drop known upstream messages of imports; other output is printed at exit."""
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
    """Inside, transformers and diffusers do not log loading reports; callers check the returned loading info instead.

    A text tower loaded from a full CLIP leaves hundreds of unused keys, which the log would list as UNEXPECTED.
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
