"""From results to rows, and to Markdown, CSV and LaTeX."""

import csv
import io
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_dafm.datasets.classes import CLASSES
from mmseg_dafm.experiments.suites.results import read_folder, stamp
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.table import Entry, class_table, main_table, mark_best
from mmseg_dafm.experiments.suites.write import letter, to_csv, to_latex, to_markdown, write_tables
from tests.experiments.suites.common import write_scores, write_suite

TEXT = """
title = 'A & B'
runs = [
    dict(name='freeze', title='Freeze', group='ViT', folder=FREEZE, paper=dict(fog=30.5, mean=31)),
    dict(name='full', title='Full_1', group='ViT', folder=FULL, paper=dict(fog=33.25), errata=dict(fog='a misprint')),
    dict(name='none', title='None', group='CNN', config=CONFIG, paper=dict(fog=1.0), errata=dict(fog='a misprint')),
]
columns = [
    dict(name='fog', title='Fog', value='fog/mIoU'),
    dict(name='snow', value='snow/mIoU', best=None),
    dict(name='mean', mean=['fog', 'snow']),
    dict(name='gain', of='mean', minus='freeze', digits=1),
]
per_class = ['fog']
notes = ['One note.']
"""


def suite_of(tmp_path, freeze=2, full=2, text=TEXT, **protocol):
    for i in range(freeze):
        write_scores(tmp_path / f'freeze{i}', fog=[30.0 + 2 * i, 32.0], snow=20.0)
    for i in range(full):
        write_scores(tmp_path / f'full{i}', fog=[40.0, 50.0 + i], snow=22.0 if i else None, protocol=protocol)
    for name, count in (('freeze', freeze), ('full', full)):
        text = text.replace(name.upper(), repr([str(tmp_path / f'{name}{i}') for i in range(count)]))
    return load_suite(write_suite(tmp_path, text))


def results_of(suite):
    return {run.name: [read_folder(folder, 'x') for folder in run.folder] for run in suite.runs}


def test_the_markdown_has_means_spreads_papers_and_what_was_not_run(tmp_path):
    suite = suite_of(tmp_path)
    lines = write_tables(suite, tmp_path).splitlines()
    assert lines[0] == '### A & B'
    assert lines[2] == '| group | method | Fog | paper | snow | mean | paper | gain | seeds |'
    assert lines[3] == '|---|---|---:|---:|---:|---:|---:|---:|---:|'
    labels = [f'{tmp_path}/full{i}' for i in range(2)]
    assert lines[5] == f'| ViT | Full_1 | **45.25 ± 0.35** | 33.25 (a) | 22.00 | 33.75 |  | - | {", ".join(labels)} |'
    assert lines[6] == '| CNN | None | not run | 1.00 (a) | not run | not run |  | not run |  |'
    freeze = lines[4].split('|')
    assert freeze[3].strip() == '31.50 ± 0.71'
    assert (freeze[4].strip(), freeze[7].strip()) == ('30.50', '31.0')
    assert freeze[8].strip() == '0.0 ± 0.0'
    assert '(a) a misprint' in lines
    assert 'One note.' in lines


def test_the_gain_is_taken_within_a_seed_and_the_mean_only_where_all_parts_are(tmp_path):
    text = TEXT.replace('minus=', "digits=1), dict(name='gain2', of='fog', minus=").replace(
        "of='mean', digits=1", "of='fog', minus='full'"
    )
    suite = suite_of(tmp_path, text=text)
    results = results_of(suite)
    # seeds of the suite's own runs are named by number
    results = {name: [item._replace(label=str(i)) for i, item in enumerate(found)] for name, found in results.items()}
    rows = {row.name: row.entries for row in main_table(suite, results).rows}
    assert rows['full']['mean'].values == {'1': 33.75}
    assert rows['full']['gain2'].values == {'0': 45.0 - 31.0, '1': 45.5 - 32.0}
    assert rows['freeze']['gain'].values == {'0': 31.0 - 45.0, '1': 32.0 - 45.5}


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=5), st.sampled_from(['max', 'min', None])
)
def test_the_best_is_marked_only_among_equal_numbers_of_seeds(rows, best):
    entries = [Entry(dict(enumerate(row))) for row in rows]
    mark_best([*entries, Entry()], best)
    means = [statistics.mean(row) for row in rows]
    alike = [Entry(dict(enumerate(row))) for row in rows]
    mark_best(alike, best, comparable=False)
    assert not any(entry.best for entry in alike)
    comparable = best and len(rows) > 1 and all(len(row) == len(rows[0]) for row in rows)
    top = {'max': max, 'min': min, None: max}[best](means)
    assert [entry.best for entry in entries] == [bool(comparable) and value == top for value in means]


def test_the_best_is_that_of_a_group_or_of_all_rows_and_none_under_two_protocols(tmp_path):
    grouped = TEXT.replace("title='Full_1', group='ViT'", "title='Full_1', group='CNN'")
    for text, best in ((grouped, False), (grouped + "best_of = 'all'", True)):
        suite = suite_of(tmp_path, text=text)
        for table in (main_table(suite, results_of(suite)), class_table(suite, results_of(suite), 'fog')):
            # each group has one finished row
            assert any(entry.best for row in table.rows for entry in row.entries.values()) == best
    suite = suite_of(tmp_path, text=TEXT, stride=[341, 341])
    for table in (main_table(suite, results_of(suite)), class_table(suite, results_of(suite), 'fog')):
        assert not any(entry.best for row in table.rows for entry in row.entries.values())
    with pytest.raises(ValueError, match=r"suite.py: best_of='row' must be 'group' or 'all'"):
        suite_of(tmp_path, text=TEXT + "best_of = 'row'")


def test_rows_of_the_paper_alone_are_not_called_not_run(tmp_path):
    alone = "    dict(name='theirs', title='Theirs', group='CNN', paper_only=True, paper=dict(fog=2.0)),\n]\ncolumns"
    text = TEXT.replace(']\ncolumns', alone)
    assert '| CNN | Theirs | - | 2.00 | - | - |  | - |  |' in write_tables(suite_of(tmp_path, text=text), tmp_path)
    with pytest.raises(ValueError, match="run 'theirs' must have one of .* paper_only, got config and paper_only"):
        suite_of(tmp_path, text=text.replace('paper_only=True', "paper_only=True, config='x.py'"))


def test_different_numbers_of_seeds_print_no_bold(tmp_path):
    assert '**' not in write_tables(suite_of(tmp_path, full=1), tmp_path).split('### A & B: IoU')[0]


def test_the_csv_can_be_read_back(tmp_path):
    suite = suite_of(tmp_path)
    rows = list(csv.DictReader(io.StringIO(to_csv(main_table(suite, results_of(suite))))))
    full = rows[1]
    assert (full['row'], full['fog.mean'], full['fog.n'], full['fog.paper'], full['fog.note']) == (
        'full', '45.2500', '2', '33.25', 'a misprint',
    )  # fmt: skip
    assert float(full['fog.std']) == pytest.approx(statistics.stdev([45.0, 45.5]), abs=1e-4)
    assert (rows[2]['fog.mean'], rows[2]['fog.std'], rows[2]['fog.n']) == ('', '', '0')
    write_tables(suite, tmp_path)
    lines = (tmp_path / 'suite.csv').read_text().splitlines()
    assert lines[4] == '# One note.'
    assert lines[5].startswith('# Protocol: data X')
    assert len(list(csv.reader(line for line in lines if not line.startswith('#')))) == 1 + len(rows)


def test_the_latex_has_booktabs_groups_and_no_bare_special_signs(tmp_path):
    suite = suite_of(tmp_path)
    text = to_latex(main_table(suite, results_of(suite)), ['WARNING: y', 'Protocol: x_1'], ['50 % of it, "so to say"'])
    lines = text.splitlines()
    assert lines[:5] == [r'\begin{table}', r'\centering', r'\caption{A \& B}', r'\begin{tabular}{llrrrrrrr}', r'\toprule']
    full = next(line for line in lines if 'Full' in line)
    assert r'Full\_1 & \textbf{45.25 $\pm$ 0.35} & 33.25\textsuperscript{a} & 22.00' in full
    assert full.endswith(r'\\')
    assert len({line.count('&') for line in lines if line.endswith(r'\\')}) == 1
    place = lines.index(full)
    assert lines[place + 1] == r'\midrule', 'a new group begins below a line'
    below = lines[lines.index(r'\end{tabular}') + 1 :]
    start = r'\par\raggedright\footnotesize '
    assert below == [
        start + r'\textsuperscript{a} a misprint', start + r"50 \% of it, ``so to say''", start + r'\textbf{WARNING: y}',
        start + r'Protocol: x\_1', r'\end{table}',
    ]  # fmt: skip


def test_classes_stand_in_columns_with_the_papers_row_below(tmp_path):
    text = TEXT.replace('paper=dict(fog=33.25)', 'paper=dict(fog=33.25), paper_classes=dict(fog=[1.0, 2.5, 1.75])')
    suite = suite_of(tmp_path, text=text)
    table = class_table(suite, results_of(suite), 'fog')
    lines = to_markdown(table, []).splitlines()
    assert lines[2] == '| group | method | a | b | mIoU | seeds |'
    assert lines[5].startswith('| ViT | Full_1 | **40.00 ± 0.00** | **50.50 ± 0.71** | **45.25 ± 0.35** |')
    assert lines[6] == '| ViT | Full_1 (paper) | 1.0 | 2.5 | 1.75 (a) |  |'
    assert lines[7].startswith('| CNN | None | not run | not run')
    assert len({line.count('|') for line in lines if line.startswith('|')}) == 1
    assert to_csv(table).startswith('row,group,title,a.mean,')
    wrong = suite_of(tmp_path, text=text.replace('[1.0, 2.5, 1.75]', '[1.0]'))
    with pytest.raises(ValueError, match=r"run 'full': paper_classes\['fog'\] has 1 figures for 3 columns"):
        class_table(wrong, results_of(wrong), 'fog')


def test_class_tables_name_their_classes_with_nothing_run_and_keep_errata_and_notes(tmp_path):
    text = TEXT.replace('paper=dict(fog=33.25)', 'paper=dict(fog=33.25), paper_classes=dict(fog=[1.0, 2.5, 1.75])')
    for added, names in (('', ['class 0', 'class 1']), ("class_names = ['sea', 'land']", ['sea', 'land'])):
        table = class_table(suite_of(tmp_path, text=text + added), {}, 'fog')
        assert [column.name for column in table.columns] == [*names, 'mIoU']
    full = '[' + '50.0, ' * 20 + ']'
    suite = suite_of(tmp_path, text=text.replace('[1.0, 2.5, 1.75]', full))
    assert [column.name for column in class_table(suite, {}, 'fog').columns] == [*CLASSES, 'mIoU']
    section = write_tables(suite_of(tmp_path, text=text), tmp_path).split('### A & B: IoU per class, fog')[1]
    assert '| 1.0 | 2.5 | 1.75 (a) |' in section
    assert '(a) a misprint' in section
    assert 'One note.' in section
    with pytest.raises(ValueError, match=r"paper_classes\['fog'\] has 3 figures for 2 columns"):
        class_table(suite_of(tmp_path, text=text + "class_names = ['sea']"), {}, 'fog')


def test_a_column_that_results_do_not_have_is_refused_with_what_there_is(tmp_path):
    suite = suite_of(tmp_path, text=TEXT.replace("value='fog/mIoU'", "value='fgo/mIoU'"))
    with pytest.raises(ValueError, match=r"suite.py: column 'fog': 'fgo/mIoU' is not in .*freeze0/.*which has fog, snow, all"):
        write_tables(suite, tmp_path)


def test_rows_of_another_protocol_are_told_loudly(tmp_path):
    same = suite_of(tmp_path)
    lines = stamp(same, results_of(same))
    assert not any('WARNING' in line for line in lines)
    for word in ('data X', 'scales (64, 64)', 'mode whole', 'crop none', 'stride none', 'tta False', 'checkpoint iter_20.pth'):
        assert word in lines[0]
    assert lines[1:] == ['mmseg_dafm: 1', 'torch: 2', 'commit: unknown']
    other = suite_of(tmp_path, stride=[341, 341])
    text = write_tables(other, tmp_path)
    warning = 'WARNING, ROWS DIFFER IN PROTOCOL and cannot be compared: stride none (freeze); 341, 341 (full)'
    assert f'**{warning}**' in text
    assert stamp(other, {}) == ['Protocol: nothing was run.']


def test_hand_made_folders_give_their_last_tested_checkpoint(tmp_path):
    for name in ('domain_iou_iter_9.json', 'domain_iou_iter_100.json', 'domain_iou_iter_200_tta.json', 'domain_iou.json'):
        write_scores(tmp_path / 'a', name, fog=1.0)
    assert read_folder(tmp_path / 'a', 'x').file.name == 'domain_iou_iter_100.json'
    write_scores(tmp_path / 'b', 'domain_iou.json', fog=1.0)
    assert read_folder(tmp_path / 'b', 'x').file.name == 'domain_iou.json'
    (tmp_path / 'c').mkdir()
    with pytest.raises(ValueError, match=r'--run x: .*/c holds no domain_iou_\*.json: test a checkpoint'):
        read_folder(tmp_path / 'c', '--run x')


def test_hand_made_folders_take_the_place_of_a_run(tmp_path):
    suite = suite_of(tmp_path)
    write_scores(tmp_path / 'mine', fog=99.0, snow=1.0)
    assert '| CNN | None | 99.00 |' in write_tables(suite, tmp_path, folders={'none': [str(tmp_path / 'mine')]})
    with pytest.raises(ValueError, match='--run nnoe=x: .*suite.py has no such run; use one of freeze, full, none'):
        write_tables(suite, tmp_path, folders={'nnoe': ['x']})


def test_footnotes_go_on_after_z():
    assert [letter(i) for i in (1, 26, 27)] == ['a', 'z', 'aa']
