"""Tables and plots of classes on the report page."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from mmseg_dafm.experiments.report.markup import Mark, Markup, draw_mark, join, short_paths, swatch, tag
from mmseg_dafm.experiments.suites.results import Result
from mmseg_dafm.experiments.suites.suite_file import Column, Suite
from mmseg_dafm.experiments.suites.table import Row, Table, class_table
from mmseg_dafm.experiments.suites.write import grid, letter

MISSING = ('not run', '-')


def table_section(table: Table, marks: Mapping[str, Mark], notes: Sequence[str] = ()) -> Markup:
    """The table in a box that scrolls, footnotes and notes below.

    Args:
        table: To show.
        marks: Title of a method -> its mark.
        notes: Sentences under the table.
    """
    lines = grid(table, lambda text: f'<strong>{text}</strong>', escape, lambda sign: f'<sup>{sign}</sup>')
    head, body = lines[0], lines[1:]
    words = 2 if any(row.group for row in table.rows) else 1
    # the paper's rows must stay below those that they belong to
    sortable = not table.paper_rows
    texts = [tag('button', Markup(text), type='button') if sortable else Markup(text) for text in head]
    headings = [tag('th', text, scope='col', class_=_kind(head, i, words)) for i, text in enumerate(texts)]
    known = {escape(title): mark for title, mark in marks.items()}
    rows = [_row(head, cells, words, known) for cells in body]
    inner = tag('table', tag('thead', tag('tr', *headings)), tag('tbody', *rows), class_='sortable' if sortable else None)
    box = tag('div', inner, class_='scroll', tabindex=0, role='region', aria_label=table.title)
    footnotes = [tag('p', tag('sup', letter(i)), ' ', text, class_='note') for i, text in enumerate(table.footnotes, 1)]
    return join(box, *footnotes, *(tag('p', text, class_='note') for text in notes))


def _kind(head: Sequence[str], i: int, words: int) -> str:
    if i < words:
        return 'method' if i == words - 1 else 'group'
    return 'seeds' if i == len(head) - 1 else 'paper' if head[i] == 'paper' else 'number'


def _row(head: Sequence[str], cells: Sequence[str], words: int, known: Mapping[str, Mark]) -> Markup:
    title = cells[words - 1]
    of_paper = title not in known
    found = []
    for i, text in enumerate(cells):
        kind = _kind(head, i, words)
        if kind == 'method':
            mark = None if of_paper else swatch(known[title])
            # a phone has no place for a column of groups
            under = tag('span', Markup(cells[0]), class_='under') if words == 2 else None
            found.append(tag('th', mark, Markup(text), under, scope='row', class_='method'))
            continue
        if kind == 'seeds':
            # folders that were trained by hand have long names
            text = ', '.join(name.rsplit('/', 1)[-1] for name in text.split(', '))
        names = [kind, 'missing' if text in MISSING else '', 'best' if text.startswith('<strong>') else '']
        found.append(tag('td', Markup(text), class_=' '.join(filter(None, names))))
    return tag('tr', *found, class_='of-paper' if of_paper else None)


# of a panel, in units of about a CSS pixel: where the plot lies, and the height of a line
WIDTH, LEFT, RIGHT, LINE = 330, 142, 274, 22
# of an axis; all divide 100
TICKS = (1, 2, 5, 10, 20)
LETTERS = 17


def domains(suite: Suite, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Domains of which classes are shown: the suite's ``per_class``, those of its columns, then what else the results hold.

    The pooled target is left out where it is one domain alone, and all images where there are domains.
    """
    seen: dict[str, None] = {}
    for found in results.values():
        for result in found:
            scored = [name for name, values in result.values.items() if isinstance(values, Mapping) and 'IoU' in values]
            if result.classes:
                seen.update(dict.fromkeys([name for name in scored if name != 'all'] or scored))
    if len(seen) <= 3:
        seen.pop('target', None)
    named = [str(column.value).partition('/')[0] for column in suite.columns]
    return list(dict.fromkeys([*suite.per_class, *(name for name in named if name in seen), *seen]))


def class_section(suite: Suite, results: Mapping[str, Sequence[Result]], marks: Mapping[str, Mark]) -> Markup:
    """Dot plots and table of every domain, the first one unfolded."""
    parts: list[Markup] = []
    run: set[str] = set()
    for domain in domains(suite, results):
        # sets of another part of the table can have other classes
        own = {name: [r for r in found if isinstance(r.values.get(domain), Mapping)] for name, found in results.items()}
        try:
            table = class_table(suite, own, domain)
        except ValueError as error:
            parts.append(tag('p', short_paths(str(error)), class_='warning'))
            continue
        run.update(row.title for row in table.rows if any(entry.values for entry in row.entries.values()))
        panels = [panel(table, column, marks) for column in (table.columns[-1], *table.columns[:-1])]
        figures = tag('details', tag('summary', 'Table'), table_section(table, marks))
        inner = join(tag('summary', tag('h3', domain)), tag('div', *panels, class_='panels'), figures)
        parts.append(tag('details', inner, class_='domain', open=not parts))
    if not parts:
        return tag('p', 'No run with scores of classes is finished.', class_='missing')
    said = (
        'Mean over the seeds; a line is its standard deviation, a ring the figure of the paper. Dots instead of bars, because '
        'bars must start at zero, where small differences cannot be seen: axes start near the values and differ between panels.'
    )
    return join(tag('p', said), legend({title: mark for title, mark in marks.items() if title in run}), *parts)


def legend(marks: Mapping[str, Mark]) -> Markup:
    """The marks of methods."""
    return tag('ul', *(tag('li', swatch(mark), title) for title, mark in marks.items()), class_='legend')


def panel(table: Table, column: Column, marks: Mapping[str, Mark]) -> Markup:
    """One class: its methods below each other on an axis that fits their values.

    Args:
        table: Of classes.
        column: Of the class.
        marks: Title of a method -> its mark.
    """
    name = column.title or column.name
    shown = [row for row in table.rows if row.entries[column.name].values or row.entries[column.name].paper is not None]
    reach = [end for row in shown for end in _ends(row, column)]
    if not reach:
        return tag('figure', tag('figcaption', name), tag('p', 'no value', class_='missing'), class_='panel')
    low, high, step = axis(min(reach), max(reach))

    def place(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - low) / (high - low)

    parts, y, group = [], 4, ''
    for row in shown:
        if row.group and row.group != group:
            parts.append(tag('text', row.group, x=0, y=y + 16, class_='group'))
            y += LINE
        group = row.group
        parts += _line(row, column, marks[row.title], place, y + LINE / 2)
        y += LINE
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    lines = [tag('line', x1=f'{place(t):.1f}', x2=f'{place(t):.1f}', y1=0, y2=y, class_='tick') for t in ticks]
    labels = [tag('text', f'{t:g}', x=f'{place(t):.1f}', y=y + 16, class_='tick') for t in (ticks[0], ticks[-1])]
    view = f'0 0 {WIDTH} {y + LINE}'
    alt = f'{name}: ' + ', '.join(f'{row.title} {row.entries[column.name].text(1)}' for row in shown)
    picture = tag('svg', *lines, *parts, *labels, viewBox=view, role='img', aria_label=alt)
    return tag('figure', tag('figcaption', name), picture, class_='panel mean' if column is table.columns[-1] else 'panel')


def axis(low: float, high: float) -> tuple[float, float, float]:
    """Ends and step of an axis of at most six steps that holds ``low`` to ``high``, both within 0 to 100."""
    step = next(step for step in TICKS if step * 5 >= high - low)
    first = min(step * (low // step), 100.0 - step)
    return first, max(first + step, -step * (-high // step)), step


def _ends(row: Row, column: Column) -> list[float]:
    entry = row.entries[column.name]
    found = [] if entry.paper is None else [entry.paper]
    if entry.values:
        found += [entry.mean - (entry.deviation or 0), entry.mean + (entry.deviation or 0)]
    return [min(max(value, 0.0), 100.0) for value in found]


def _line(row: Row, column: Column, mark: Mark, place: Callable[[float], float], y: float) -> list[Markup]:
    entry = row.entries[column.name]
    short = row.title if len(row.title) <= LETTERS else row.title[: LETTERS - 1] + '…'
    parts = [tag('text', tag('title', row.title), short, x=0, y=y + 5)]
    if entry.paper is not None:
        parts.append(tag('circle', cx=f'{place(entry.paper):.1f}', cy=y, r=6.5, class_='paper'))
    if entry.values:
        first, last = map(place, _ends(row, column)[-2:])
        if entry.deviation:
            parts.append(tag('line', x1=f'{first:.1f}', x2=f'{last:.1f}', y1=y, y2=y, stroke=mark.colour, stroke_width=3))
        parts.append(draw_mark(mark, place(entry.mean), y))
        parts.append(tag('text', f'{entry.mean:.1f}', x=WIDTH, y=y + 5, class_='best value' if entry.best else 'value'))
    return [tag('g', tag('title', f'{row.title}: {entry.text()}'), *parts)]
