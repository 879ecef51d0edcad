"""List missing packages, models and data with the command that fixes each: `python -m mmseg_dafm.doctor`."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from mmseg_dafm.core.files import data_root
from mmseg_dafm.doctor.checks import Check, environment_checks
from mmseg_dafm.doctor.data import DATA_LAYOUTS, check_data_root
from mmseg_dafm.doctor.files import check_checkpoint, check_config_files, check_hub_cache, check_model_dir

WIDTH, INDENT = 80, ' ' * 9
# do not break paths and commands, so that they can be copied
WHOLE_WORDS = dict(break_long_words=False, break_on_hyphens=False)


def collect(
    model_dirs: Sequence[str],
    data_roots: dict[str, str],
    configs: Sequence[str],
    all_sets: bool = False,
    checkpoint: str | None = None,
) -> list[Check]:
    """Run the requested checks.

    Args:
        model_dirs: Folders of models; each must pass.
        data_roots: Data set -> its folder; each must pass.
        configs: Config files. With any, the environment is not checked, only what the configs need.
        all_sets: Also check all other known data sets; they are optional.
        checkpoint: Checkpoint that must fit the model of each config.
    """
    checks = [check for path in configs for check in check_config_files(path)]
    if checkpoint is not None:
        checks += [check for path in configs for check in check_checkpoint(path, checkpoint)]
    if not configs:
        checks += environment_checks()
        checks += check_hub_cache() if not model_dirs else []
    checks += [check for path in model_dirs for check in check_model_dir(path)]
    checks += [check for name, root in data_roots.items() for check in check_data_root(name, root)]
    if all_sets:
        others = [name for name in DATA_LAYOUTS if name not in data_roots]
        checks += [check for name in others for check in check_data_root(name, data_root(name), required=False)]
    return checks


def as_text(checks: Sequence[Check]) -> str:
    """Format the checks for 80 columns: passed ones in one line each, then failed ones, grouped by their fix."""
    lines = [f'ok       {check.name}: {check.found}' for check in checks if check.ok]
    by_fix: dict[str, list[Check]] = {}
    for check in sorted((check for check in checks if not check.ok), key=lambda check: check.required):
        by_fix.setdefault(check.fix, []).append(check)
    for fix, group in by_fix.items():
        lines.append('')
        for check in group:
            needed = f' (needed: {check.needed})' if check.needed else ''
            lines.append(f'{"MISSING" if check.required else "optional"}'.ljust(9) + f'{check.name}: {check.found}{needed}')
        lines += [f'     ->  {fix}'] if fix else []
    return '\n'.join(textwrap.fill(line, WIDTH, subsequent_indent=INDENT, **WHOLE_WORDS) for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the checks and return the exit code: 1 if a required check failed."""
    parser = argparse.ArgumentParser(prog='python -m mmseg_dafm.doctor', description=__doc__)
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--model-dir', nargs='+', default=[], help='local folders of Stable Diffusion or CLIP')
    parser.add_argument('--data-root', nargs='+', default=[], metavar='NAME=FOLDER', help=f'of {sorted(DATA_LAYOUTS)}')
    parser.add_argument('--config', nargs='+', default=[], help='configs to run: only what they need is checked')
    parser.add_argument('--checkpoint', help='with --config: a checkpoint that must fit the model')
    parser.add_argument('--all', action='store_true', help='check every data set that our configs know')
    args = parser.parse_args(arguments)
    try:
        if bad := [item for item in args.data_root if '=' not in item]:
            raise ValueError(f'--data-root takes NAME=FOLDER, got {bad[0]}')
        if args.checkpoint and not args.config:
            raise ValueError('--checkpoint needs --config: give the config of its model')
        checks = collect(
            args.model_dir, dict(item.split('=', 1) for item in args.data_root), args.config, args.all, args.checkpoint
        )
    except ValueError as error:
        parser.error(str(error))
    missing = sum(check.required and not check.ok for check in checks)
    if args.json:
        print(json.dumps({'ok': missing == 0, 'checks': [asdict(check) for check in checks]}, indent=2))
    else:
        print(as_text(checks))
        print(f'\n{missing} required things are missing' if missing else '\neverything required is there')
    return 1 if missing else 0


if __name__ == '__main__':
    sys.exit(main())
