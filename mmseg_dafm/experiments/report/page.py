"""The whole page."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from mmseg_dafm.evaluation.tables import write_text
from mmseg_dafm.experiments.report.markup import Mark, Markup, join, marks, short_paths, tag
from mmseg_dafm.experiments.report.predictions import gather_shots, prediction_section
from mmseg_dafm.experiments.report.runs import RunRecord, picture_section, run_records, run_section
from mmseg_dafm.experiments.report.style import SCRIPT, STYLE
from mmseg_dafm.experiments.report.tables import class_section, table_section
from mmseg_dafm.experiments.suites.results import stamp
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.table import Table, main_table
from mmseg_dafm.experiments.suites.write import gather

# the page asks for nothing, and a browser would refuse it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# more warnings than this are folded, so that they do not hide the table
UNFOLDED = 4


def write_report(
    suite: Suite,
    out: Path,
    path: Path | None = None,
    images: int = 2,
    seeds: Sequence[int] | None = None,
    folders: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a suite's page: tables, classes, predictions, pictures, protocol, runs; all in one file.

    Args:
        suite: Whose runs are shown.
        out: The suite's folder; predictions are kept there.
        path: The page; a folder for ``report.html`` in it, None for ``report.html`` in the suite's folder.
        images: Per domain, with a prediction of every method; 0 for none.
        seeds: Instead of the suite's own.
        folders: Run -> folders that were trained by hand, one per seed, instead of the suite's.

    Returns:
        The page's path.

    Raises:
        ValueError: If a column's value is not in a result, ``images`` is negative, or a folder is not of a run or holds no
            results.
    """
    if images < 0:
        raise ValueError(f'--images must be 0 or more, got {images}.')
    path = path or out
    if path == out or path.is_dir():
        path = path / 'report.html'
    write_text(str(path), '<!doctype html>\n' + report(suite, out, images, seeds, folders))
    return path


def report(
    suite: Suite,
    out: Path,
    images: int,
    seeds: Sequence[int] | None = None,
    folders: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """The page as text; arguments as for :func:`write_report`."""
    out = out.resolve()
    results, problems = gather(suite, out, seeds, folders)
    table = main_table(suite, results)
    known = marks(row.title for row in table.rows)
    records = run_records(suite, results, out, seeds, by_hand=folders or ())
    lines = [short_paths(text, out) for text in stamp(suite, results)]
    problems = [short_paths(text, out) for text in problems]
    warnings = [*problems, *(line for line in lines if line.startswith('WARNING'))]
    commits = {result.commit for found in results.values() for result in found}
    if dirty := sorted(commit for commit in commits if commit.endswith('-dirty')):
        warnings.append(f'The working tree differed from its commit in some runs: {", ".join(dirty)}.')
    facts = [line for line in lines if not line.startswith('WARNING')]
    sections = {
        'Results': table_section(table, known, suite.notes),
        'Classes': class_section(suite, results, known),
        'Predictions': _predictions(suite, results, out, images, table, known),
        'Pictures': picture_section(records),
        'Protocol': _facts(facts),
        'Runs': run_section(records, out),
    }
    sections = {title: content for title, content in sections.items() if content}
    parts = [tag('section', tag('h2', title), content, id=title.lower()) for title, content in sections.items()]
    head = tag(
        'head',
        tag('meta', charset='utf-8'),
        tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
        tag('meta', http_equiv='Content-Security-Policy', content=POLICY),
        tag('meta', name='color-scheme', content='light dark'),
        tag('title', suite.title),
        tag('style', Markup(STYLE)),
    )
    main = tag('main', *parts)
    body = tag('body', _header(suite, records, warnings, list(sections), facts), main, tag('script', Markup(SCRIPT)))
    return tag('html', head, body, lang='en')


def _header(
    suite: Suite, records: Sequence[RunRecord], warnings: Sequence[str], sections: Sequence[str], facts: Sequence[str]
) -> Markup:
    done = sum(record.state == 'done' for record in records)
    versions = [line for line in facts if not line.startswith(('Protocol', 'commit'))]
    refused = sum(record.state == 'refused' for record in records)
    counts = [f'{done} of {len(records)} runs finished', *([f'{refused} refused'] if refused else [])]
    said = [*counts, date.today().isoformat(), *versions]
    box = None
    if warnings:
        lines = tag('ul', *(tag('li', text) for text in warnings))
        few = len(warnings) <= UNFOLDED
        box = tag('details', tag('summary', f'Warnings: {len(warnings)}'), lines, class_='warning', open=few)
    links = tag('nav', *(tag('a', title, href=f'#{title.lower()}') for title in sections), aria_label='Sections')
    return tag(
        'header',
        tag('h1', suite.title),
        tag('ul', *(tag('li', text) for text in said), class_='facts'),
        tag('progress', max=len(records), value=done, aria_label=said[0]),
        box,
        links,
    )


def _facts(lines: Sequence[str]) -> Markup:
    parts = [line.partition(': ') for line in lines]
    return tag('dl', *(join(tag('dt', key), tag('dd', value)) for key, _, value in parts))


def _predictions(suite: Suite, results, out: Path, images: int, table: Table, known: dict[str, Mark]) -> Markup | None:
    if not images:
        return None
    found, problems = gather_shots(suite, results, out, images)
    parts = [tag('p', 'Fixed images, evenly spread over each domain of the test; the first finished seed of every method.')]
    for part, shown in found.items():
        parts += [tag('h3', part) if part else None, prediction_section(shown, table, known)]
    if problems:
        lines = tag('ul', *(tag('li', short_paths(text, out)) for text in problems))
        parts.append(tag('details', tag('summary', f'Methods without a prediction: {len(problems)}'), lines, class_='warning'))
    return join(*parts) if found or problems else None
