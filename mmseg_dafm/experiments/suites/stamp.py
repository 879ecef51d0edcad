"""The protocol of a table: how its rows were tested, and a loud line where that differs."""

from collections.abc import Mapping, Sequence

from mmseg_dafm.evaluation.tables import show
from mmseg_dafm.experiments.suites.results import Result
from mmseg_dafm.experiments.suites.suite_file import Suite

# rows that differ in one of these must not be compared
PROTOCOL = ('data', 'scales', 'mode', 'crop', 'stride', 'tta', 'checkpoint')
# of the training; runs of other tools and by hand do not say
TRAINED = ('processes', 'batch_size')
VERSIONS = ('mmseg_dafm', 'torch')


def stamp(suite: Suite, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Lines of plain text: the protocol of every part of the table, versions and commits.

    Args:
        suite: Whose runs are shown.
        results: Run -> its finished seeds.
    """
    shown = [run for run in suite.runs if run.row is not None]
    tested = [(run, result) for run in shown for result in results.get(run.name, ())]
    if not tested:
        return ['Protocol: nothing was run.']
    lines = []
    for part in dict.fromkeys(run.part for run in shown):
        rows = [(run.row, result) for run, result in tested if run.part == part and result.protocol]
        if rows:
            lines += _of_part(f'Protocol of {part}' if part else 'Protocol', rows)
    for key in VERSIONS:
        found = sorted({str(result.protocol[key]) for _, result in tested if key in result.protocol})
        lines += [f'{key}: {", ".join(found)}'] if found else []
    commits = sorted({result.commit for _, result in tested})
    lines.append(f'commit: {", ".join(commits)}')
    return lines


def _of_part(title: str, rows: Sequence[tuple[str, Result]]) -> list[str]:
    same, differing = [], []
    for key in (*PROTOCOL, *TRAINED):
        found: dict[str, list[str]] = {}
        for row, result in rows:
            if key in TRAINED and result.protocol.get(key) is None:
                continue
            names = found.setdefault(show(result.protocol.get(key, 'unknown')), [])
            if row not in names:
                names.append(row)
        if len(found) == 1:
            same.append(f'{key} {next(iter(found))}')
        elif found:
            differing.append(f'{key} ' + '; '.join(f'{value} ({", ".join(names)})' for value, names in found.items()))
    lines = [f'WARNING, ROWS DIFFER IN PROTOCOL and cannot be compared: {text}' for text in differing]
    return [*lines, f'{title}: {", ".join(same)}']
