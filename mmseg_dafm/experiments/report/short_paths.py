"""Paths without the disk that they lie on: the page is handed on, and whose disk it was is nobody's concern."""

import re
from pathlib import Path

# two or more names after a slash at the start of a word; so neither fog/mIoU, nor an address with ://, nor a fraction
ABSOLUTE = re.compile(r'(?<![\w.~:/\-])~?(?:/[^\s/\'",;:=()\[\]{}<>|]+){2,}/?')


def short_paths(text: str, out: Path | None = None) -> str:
    """Absolute paths as the run's folder and the file; those below the suite's folder relative to it.

    Args:
        text: With or without paths.
        out: The suite's folder.
    """
    if out is not None:
        text = text.replace(f'{out}/', '')
    return ABSOLUTE.sub(lambda found: '/'.join(found[0].rstrip('/').split('/')[-2:]), text)
