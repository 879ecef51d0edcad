"""What is missing on this machine, and the command that mends it: `python -m mmseg_dafm.doctor`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmseg_dafm.data_roots import data_root
from mmseg_dafm.doctor_checks import Check, environment_checks
from mmseg_dafm.doctor_data import check_data_root
from mmseg_dafm.doctor_files import check_config_files, check_hub_cache, check_model_dir
from mmseg_dafm.doctor_layouts import DATA_LAYOUTS


def collect(model_dirs: Sequence[str], data_roots: dict[str, str], configs: Sequence[str]) -> list[Check]:
    """Run the checks of the environment and of the folders and configs given; those given are required."""
    checks = [*environment_checks()]
    if model_dirs:
        checks += [check for path in model_dirs for check in check_model_dir(path)]
    else:
        checks += check_hub_cache()
    for name in DATA_LAYOUTS:
        if name not in data_roots:
            checks += check_data_root(name, data_root(name), required=False)
    checks += [check for name, root in data_roots.items() for check in check_data_root(name, root)]
    return checks + [check for path in configs for check in check_config_files(path)]


def as_table(checks: Sequence[Check]) -> Table:
    """Lay the checks out as a table; the fix appears only where it is wanted."""
    table = Table(title='mmseg_dafm doctor', show_lines=True)
    for column in ('', 'check', 'found', 'needed', 'fix'):
        table.add_column(column, overflow='fold')
    for check in checks:
        mark = Text('ok', 'green') if check.ok else Text('MISSING', 'bold red') if check.required else Text('note', 'yellow')
        # Text, not markup: extras such as mmseg_dafm[onedl] would be read as a style.
        table.add_row(mark, *map(Text, (check.name, check.found, check.needed, '' if check.ok else check.fix)))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the checks and return the exit code: 1 if anything required is missing."""
    parser = argparse.ArgumentParser(prog='python -m mmseg_dafm.doctor', description=__doc__)
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--model-dir', nargs='+', default=[], help='local folders of Stable Diffusion or CLIP')
    parser.add_argument('--data-root', nargs='+', default=[], metavar='NAME=FOLDER', help=f'of {sorted(DATA_LAYOUTS)}')
    parser.add_argument('--config', nargs='+', default=[], help='configs whose files must all exist')
    args = parser.parse_args(arguments)
    try:
        if bad := [item for item in args.data_root if '=' not in item]:
            raise ValueError(f'--data-root takes NAME=FOLDER, got {bad[0]}')
        checks = collect(args.model_dir, dict(item.split('=', 1) for item in args.data_root), args.config)
    except ValueError as error:
        parser.error(str(error))
    missing = sum(check.required and not check.ok for check in checks)
    if args.json:
        print(json.dumps({'ok': missing == 0, 'checks': [asdict(check) for check in checks]}, indent=2))
    else:
        Console().print(as_table(checks))
        # The table folds long commands; here they can be copied.
        for check in checks:
            if not check.ok and check.fix:
                print(f'{check.name}: {check.fix}')
        print(f'{missing} required things are missing' if missing else 'everything required is there')
    return 1 if missing else 0


if __name__ == '__main__':
    sys.exit(main())
