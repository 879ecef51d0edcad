"""A suite's table as an HTML table; the cells are those of the Markdown file."""

from collections.abc import Mapping, Sequence
from html import escape

from mmseg_dafm.experiments.report.marks import Mark, swatch
from mmseg_dafm.experiments.report.markup import Markup, join, tag
from mmseg_dafm.experiments.suites.render import grid, letter
from mmseg_dafm.experiments.suites.table import Table

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
