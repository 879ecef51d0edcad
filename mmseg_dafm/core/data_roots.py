"""Where data sets lie: an environment variable per set, with a folder below data/ as the default."""

import os

# Sets whose default folder is not data/<name>.
DEFAULTS = {'voc': 'data/VOCdevkit/VOC2012'}


def root_variable(name: str) -> str:
    """Name of the environment variable that holds a set's folder: ``'foggy_zurich'`` -> ``'FOGGY_ZURICH_ROOT'``."""
    return f'{name.upper()}_ROOT'


def data_root(name: str) -> str:
    """Folder of a set: its environment variable, with ``~`` expanded, else its default, as the configs have it."""
    return os.path.expanduser(os.environ.get(root_variable(name)) or DEFAULTS.get(name, f'data/{name}'))
