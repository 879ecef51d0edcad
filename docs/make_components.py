"""Write docs/components.md from the docstrings of the registered classes: python docs/make_components.py [--check]."""

import argparse
import re
import sys
from inspect import getdoc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmseg.registry as registries

import mmseg_dafm

PAGE = ROOT / 'docs/components.md'
# title of a table: mmseg's registry
TABLES = {
    'Models: backbones, necks, heads, norms, adapters, segmentors': 'MODELS',
    'Hooks': 'HOOKS',
    'Optimizer wrappers': 'OPTIM_WRAPPERS',
    'Constructors of optimizer wrappers': 'OPTIM_WRAPPER_CONSTRUCTORS',
    'Data sets': 'DATASETS',
    'Samplers': 'DATA_SAMPLERS',
    'Transforms': 'TRANSFORMS',
    'Metrics': 'METRICS',
    'Initialisers': 'WEIGHT_INITIALIZERS',
}
# configs that a reader should see first
FOLDERS = ('domino', 'daft', 'fishertune', 'baselines', 'quickstart', 'toy', '_base_')
HEAD = """# Components

Written by `python docs/make_components.py` from the first lines of the docstrings; do not edit it by hand. Add
`custom_imports = dict(imports=['mmseg_dafm'])` to a config and use any of these by name. The last column is a file that names it.
"""


def registered(registry: str) -> dict[str, type]:
    """Our classes in one of mmseg's registries, by registry name, sorted."""
    found = getattr(registries, registry).module_dict
    return {name: found[name] for name in sorted(found) if found[name].__module__.split('.')[0] == mmseg_dafm.__name__}


def first_line(component: type) -> str:
    """The first line of a docstring, as Markdown.

    Raises:
        ValueError: the class has no docstring.
    """
    text = getdoc(component)
    if not text:
        raise ValueError(f'{component.__module__}.{component.__name__} has no docstring: write what it is in the first line.')
    line = re.sub(r':\w+:`~?(?:[\w.]+\.)?(\w+)`', r'`\1`', text.splitlines()[0])
    return line.replace('``', '`').replace('|', r'\|').rstrip('.')


def rank(path: Path) -> tuple:
    """Sort key of a config: folders in the order of ``FOLDERS``, the upper ones first, then by name."""
    parts = path.relative_to(ROOT / 'configs').parts
    return FOLDERS.index(parts[0]) if parts[0] in FOLDERS else len(FOLDERS), len(parts), parts


def config_of(name: str, texts: dict[Path, str]) -> str:
    """The first config that names a component as a string, or 'none'."""
    return next((f'`{path.relative_to(ROOT)}`' for path, text in texts.items() if f"'{name}'" in text), 'none')


def page() -> str:
    """The whole page."""
    paths = sorted((path for path in (ROOT / 'configs').rglob('*.py') if 'suites' not in path.parts), key=rank)
    texts = {path: path.read_text(encoding='utf-8') for path in paths}
    lines = [HEAD]
    for title, registry in TABLES.items():
        lines += [f'## {title}\n', '| Registry name | What it is | Config |', '|---|---|---|']
        for name, component in registered(registry).items():
            lines.append(f'| `{name}` | {first_line(component)} | {config_of(name, texts)} |')
        lines.append('')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 if the page is out of step')
    args = parser.parse_args()
    if not args.check:
        PAGE.write_text(page(), encoding='utf-8')
    elif PAGE.read_text(encoding='utf-8') != page():
        raise SystemExit('error: docs/components.md is out of step. Run python docs/make_components.py.')


if __name__ == '__main__':
    main()
