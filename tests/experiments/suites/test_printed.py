"""Every figure of the papers in the suites is the printed one; printed.csv was copied from the papers' text, not from the suites.

Rows stand under the method that is meant, with the label as printed; rows without classes' figures name their columns.
"""

import csv
from pathlib import Path

import pytest

from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.table import class_table, main_table

FOLDER = Path(__file__).resolve().parents[3] / 'configs/suites'
with open(Path(__file__).with_name('printed.csv'), newline='') as file:
    PRINTED = list(csv.DictReader(file))
TABLES = sorted({(line['suite'], line['domain']) for line in PRINTED})


def figures(table):
    found = {row.name: {name: entry.paper for name, entry in row.entries.items()} for row in table.rows}
    found = {row: {name: figure for name, figure in entries.items() if figure is not None} for row, entries in found.items()}
    return {row: entries for row, entries in found.items() if entries}


@pytest.mark.parametrize(('stem', 'domain'), TABLES)
def test_the_suites_have_the_printed_figures_and_no_others(stem, domain):
    suite = load_suite(FOLDER / f'{stem}.py')
    table = class_table(suite, {}, domain) if domain else main_table(suite, {})
    printed = {}
    for line in PRINTED:
        if (line['suite'], line['domain']) == (stem, domain):
            columns = line['columns'].split() or [column.name for column in table.columns]
            assert line['row'] not in printed
            printed[line['row']] = dict(zip(columns, map(float, line['figures'].split()), strict=True))
    assert figures(table) == printed


def test_no_table_with_figures_is_left_out():
    suites = [load_suite(path) for path in FOLDER.glob('*.py')]
    assert {Path(suite.file).stem for suite in suites if any(run.paper for run in suite.runs)} <= {stem for stem, _ in TABLES} | {
        'fishertune_table2'
    }
    assert {(stem, domain) for stem, domain in TABLES if domain} == {
        (Path(suite.file).stem, domain) for suite in suites for domain in {d for run in suite.runs for d in run.paper_classes}
    }


def test_the_means_of_table_2_are_those_of_its_classes():
    suite = load_suite(FOLDER / 'fishertune_table2.py')
    names = dict(bdd100k='bdd100k', target='acdc')
    for line in PRINTED:
        if line['domain']:
            assert suite.run(line['row']).paper[names[line['domain']]] == float(line['figures'].split()[-1])
