"""Reading suite files: what is accepted, and one sentence per mistake."""

import pytest

from mmseg_dafm.experiments.suites.suite_load import load_suite
from tests.experiments.suites.common import write_suite

RUNS = "runs = [dict(name='a', config=CONFIG), dict(name='b', config=CONFIG, options=['x={checkpoint:a}'])]\n"
COLUMNS = "columns = [dict(name='fog', value='fog/mIoU')]\n"


def test_defaults_helpers_and_rows(tmp_path):
    text = "_c = CONFIG\nruns = [dict(name=f'r{i}', config=_c, row=None if i else 'r0') for i in range(2)]\n" + COLUMNS
    suite = load_suite(write_suite(tmp_path, text))
    assert suite.title == 'suite'
    assert suite.seeds == (0,)
    assert {row: [run.name for run in runs] for row, runs in suite.rows().items()} == {'r0': ['r0']}


def test_a_dict_of_runs_names_folders(tmp_path):
    suite = load_suite(write_suite(tmp_path, "runs = dict(mine='work_dirs/mine', two=['x', 'y'])\n" + COLUMNS))
    assert [(run.name, list(run.folder), run.kind) for run in suite.runs] == [
        ('mine', ['work_dirs/mine'], 'folder'),
        ('two', ['x', 'y'], 'folder'),
    ]


MISTAKES = {
    "runs = [dict(name='a', confg=CONFIG)]\n" + COLUMNS: r'runs\[0\]\.confg is unknown: use one of name, config',
    "runs = [dict(config=CONFIG)]\n" + COLUMNS: r'runs\[0\]\.name is not given',
    "runs = ['a']\n" + COLUMNS: r"runs\[0\] must be a dict, got 'a'",
    "runs = [dict(name='a', config=CONFIG, options='x=1')]\n" + COLUMNS: r"runs\[0\]\.options must be a list, each item a string",
    "runs = [dict(name='a', config=CONFIG, paper=[1])]\n" + COLUMNS: r'runs\[0\]\.paper must be a dict',
    "runs = [dict(name='a/b', config=CONFIG)]\n" + COLUMNS: "runs has the name 'a/b': use letters",
    "runs = [dict(name='a', config=CONFIG)] * 2\n" + COLUMNS: "runs has 'a' twice",
    "runs = [dict(name='a')]\n" + COLUMNS: "run 'a' must have one of config, command, folder and paper_only, got none",
    "runs = [dict(name='a', command=['t.py'])]\n" + COLUMNS: "run 'a' has a command and no output",
    "runs = [dict(name='a', command=['t.py'], output='a.md')]\n" + COLUMNS: "output='a.md' must be a .json file to fill a row",
    "runs = [dict(name='a', config=CONFIG, options=['x'])]\n" + COLUMNS: "the option 'x' must have the form KEY=VALUE",
    "runs = [dict(name='a', config=CONFIG, options=['x={sed}'])]\n" + COLUMNS: r"run 'a': '\{sed\}' in 'x=\{sed\}' is no place",
    "runs = [dict(name='a', config=CONFIG, options=['x={options:a}'])]\n" + COLUMNS: 'stands for a list: make it an item',
    "runs = [dict(name='a', config=CONFIG, needs=['c'])]\n" + COLUMNS: "needs names 'c', which is not in runs: use one of a",
    "runs = [dict(name='a', config=CONFIG, needs=['a'])]\n" + COLUMNS: 'the runs a wait for each other',
    RUNS.replace('x={checkpoint:a}', '{options:a}') + COLUMNS: "'a' is a config run",
    "runs = [dict(name='a', config=CONFIG, paper=dict(snow=1))]\n" + COLUMNS: "paper names the column 'snow': use one of fog",
    "runs = [dict(name='a', config=CONFIG, errata=dict(fog='x'))]\n" + COLUMNS: r"errata explains \['fog'\]",
    "runs = [dict(name='a', config=CONFIG, paper_classes=dict(fog=[1]))]\n" + COLUMNS: "paper_classes names 'fog'",
    RUNS + "columns = [dict(name='m', mean=['fog']), dict(name='fog', value='x')]\n": "'m' refers to 'fog': use a column to the",
    RUNS + "columns = [dict(name='m')]\n": "'m' must have one of value, mean and of, got none",
    RUNS + COLUMNS + "columns += [dict(name='d', of='fog', minus='c')]\n": "minus='c' is no row: use one of a, b",
    RUNS + COLUMNS + "columns += [dict(name='d', of='fog')]\n": "'d' must have both of and minus",
    RUNS + "columns = [dict(name='fog', value='x', best='high')]\n": "best='high' must be",
    RUNS.replace("name='b'", "name='b', row='a'") + COLUMNS: "row 'a' has two runs with the same part",
    RUNS + COLUMNS + 'seeds = [0, 0]\n': r'seeds must be different integers, 0 or more, got \[0, 0\]',
    RUNS + COLUMNS + 'sedes = [0]\n': r'suite\.py\.sedes is unknown',
    RUNS + COLUMNS + 'seeds = [True]\n': r'suite\.py\.seeds must be a list, each item an integer, got \[True\]',
    RUNS + COLUMNS + "gpus = '4'\n": r"suite\.py\.gpus must be an integer or None, got '4'",
    RUNS + COLUMNS + 'gpus = 0\n': r'suite\.py: gpus=0 must be 1 or more',
    RUNS + COLUMNS + 'title = 3\n': r'suite\.py\.title must be a string, got 3',
    RUNS + COLUMNS.replace("name='fog'", "name='fog', digits='2'"): r"columns\[0\]\.digits must be an integer, got '2'",
    RUNS + COLUMNS.replace("'fog/mIoU'", '3'): r'columns\[0\]\.value must be a string or None, got 3',
    "runs = [dict(name='a', config=CONFIG, paper=dict(fog='1.0'))]\n" + COLUMNS: 'paper must be a dict, each value a number',
    "runs = [dict(name='a', config=CONFIG, errata=['x'])]\n" + COLUMNS: r'errata must be a dict, each value a string, got',
    "runs = [dict(name='a', config=CONFIG, once=1)]\n" + COLUMNS: r'runs\[0\]\.once must be True or False, got 1',
    COLUMNS: 'runs is empty or not given',
    RUNS: 'columns is empty or not given',
    RUNS + 'columns = [dict(nmae)]\n': 'cannot be read',
}  # fmt: skip


@pytest.mark.parametrize('text', MISTAKES, ids=range(len(MISTAKES)))
def test_every_mistake_is_one_sentence_with_file_and_key(tmp_path, text):
    with pytest.raises(ValueError, match=MISTAKES[text]) as caught:
        load_suite(write_suite(tmp_path, text))
    assert str(tmp_path / 'suite.py') in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no_suite.py does not exist'):
        load_suite(tmp_path / 'no_suite.py')
