"""The command lines of a cell."""

import json
from pathlib import Path

from mmseg_dafm.experiments.suites.placeholders import fill, references
from mmseg_dafm.experiments.suites.plan import Cell, cell_of, folder_of, output_of
from mmseg_dafm.experiments.suites.run_config import read_config
from mmseg_dafm.experiments.suites.suite_file import Suite


def filled(suite: Suite, cell: Cell, out: Path, texts: list[str], waiting: bool = False) -> list[str]:
    """Options or arguments with every placeholder replaced.

    Args:
        suite: Of the cell.
        cell: Whose placeholders they are.
        out: The suite's folder.
        texts: With placeholders.
        waiting: Leave ``{options:NAME}`` as it is while the other run has no output, for a preview.

    Raises:
        RuntimeError: If the output of another run holds no ``cfg_options``.
    """

    def look_up(kind: str, name: str) -> str:
        if not name:
            return {'seed': cell.seed, 'work_dir': folder_of(suite, cell, out)}[kind]
        other = cell_of(suite, suite.run(name), cell.seed)
        folder = folder_of(suite, other, out)
        return folder / read_config(suite, suite.run(name)).checkpoint if kind == 'checkpoint' else folder

    found = []
    for text in texts:
        lists = [name for kind, name in references([text]) if kind == 'options']
        if not lists:
            found.append(fill(text, look_up))
            continue
        file = output_of(suite, cell_of(suite, suite.run(lists[0]), cell.seed), out)
        if waiting and not file.is_file():
            found.append(text)
            continue
        content = json.loads(file.read_text())
        if not isinstance(content.get('cfg_options'), list):
            raise RuntimeError(f'{suite.file}: run {cell.run!r} takes {text}, but {file} holds no list cfg_options')
        found += map(str, content['cfg_options'])
    return found


def config_options(suite: Suite, cell: Cell, out: Path, waiting: bool = False) -> list[str]:
    """The changes to a cell's config: its seed, then the suite's options, which come last and win."""
    return [f'randomness.seed={cell.seed}', *filled(suite, cell, out, list(suite.run(cell.run).options), waiting)]


def commands(suite: Suite, cell: Cell, out: Path, processes: int = 1, waiting: bool = False) -> list[list[str]]:
    """What a cell executes: a script below tools/ and its arguments, once for a command, twice for a config.

    Training validates nothing, because its final weights are tested right after.

    Args:
        suite: Of the cell.
        cell: To execute.
        out: The suite's folder.
        processes: Of a training and a test, one per GPU.
        waiting: As for :func:`filled`.
    """
    run, folder = suite.run(cell.run), folder_of(suite, cell, out)
    if run.kind == 'command':
        return [filled(suite, cell, out, list(run.command), waiting)]
    config = read_config(suite, run)
    options = ['--cfg-options', *config_options(suite, cell, out, waiting)]
    launch = ['--launcher', 'pytorch'] if processes > 1 else []
    train = [
        'train.py',
        config.file,
        '--resume',
        '--work-dir',
        folder,
        *launch,
        *options,
        f'train_cfg.val_begin={config.length + 1}',
    ]
    test = ['test.py', config.file, folder / config.checkpoint, '--work-dir', folder, *launch, *options]
    test += ['--targets', *run.targets] if run.targets else []
    return [[str(part) for part in command] for command in (train, test)]
