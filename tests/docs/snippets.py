"""The code blocks of the documentation."""

import re
from pathlib import Path

BLOCK = re.compile(r'^ *```(\w+)\n(.*?)^ *```', re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of one language, in the order of the page.

    Raises:
        ValueError: there is none.
    """
    found = [text for name, text in BLOCK.findall(page.read_text(encoding='utf-8')) if name == language]
    if not found:
        raise ValueError(f'{page} has no block of {language}')
    return found


def block_with(page: Path, text: str, language: str = 'python') -> str:
    """The one code block that holds a text.

    Raises:
        ValueError: no block or more than one holds it.
    """
    found = [block for block in blocks(page, language) if text in block]
    if len(found) != 1:
        raise ValueError(f'{len(found)} blocks of {page} hold {text!r}')
    return found[0]


def save(folder: Path, root: Path, name: str, text: str) -> Path:
    """Save a printed file into a folder that stands for the project's: ``configs`` is there."""
    if not (folder / 'configs').exists():
        (folder / 'configs').symlink_to(root / 'configs')
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return path
