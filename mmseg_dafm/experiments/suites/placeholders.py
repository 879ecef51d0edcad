"""Placeholders in the options and commands of a suite.

========================  ===========================================================================================
``{seed}``                the run's seed
``{work_dir}``            the run's own folder
``{run:NAME}``            the folder of another run, with the same seed if that run has seeds
``{checkpoint:NAME}``     the final checkpoint of another run
``{options:NAME}``        an option of its own: the list ``cfg_options`` in the output of another run, such as a sweep
========================  ===========================================================================================

Other braces are refused, so a misspelt placeholder never reaches a config.
"""

import re
from collections.abc import Callable, Iterable

PATTERN = re.compile(r'\{([^{}]*)\}')
PLAIN = ('seed', 'work_dir')
REFERENCES = ('run', 'checkpoint', 'options')


def references(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The (kind, name) of every reference to another run, in order.

    Raises:
        ValueError: For a placeholder that does not exist.
    """
    found = []
    for text in texts:
        for content in PATTERN.findall(text):
            kind, colon, name = content.partition(':')
            if content in PLAIN:
                continue
            if kind not in REFERENCES or not colon:
                known = ', '.join([*(f'{{{key}}}' for key in PLAIN), *(f'{{{key}:NAME}}' for key in REFERENCES)])
                raise ValueError(f"'{{{content}}}' in {text!r} is no placeholder: use one of {known}")
            if kind == 'options' and text != f'{{{content}}}':
                raise ValueError(f"'{{{content}}}' in {text!r} stands for a list: make it an item of its own")
            found.append((kind, name))
    return found


def fill(text: str, look_up: Callable[[str, str], str]) -> str:
    """Replace every placeholder of a text.

    Args:
        text: Of an option or an argument.
        look_up: Gives the value of (kind, name); the name is empty for ``seed`` and ``work_dir``.
    """
    return PATTERN.sub(lambda match: str(look_up(*match[1].partition(':')[::2])), text)
