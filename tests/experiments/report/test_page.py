"""The page of a suite whose runs are folders of results."""

import json
import re
import runpy
import sys
from html import unescape

import pytest
from PIL import Image

from mmseg_dafm.experiments.report.page import report, write_report
from mmseg_dafm.experiments.report.runs import last_line
from mmseg_dafm.experiments.suites.run_config import run_hash
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.write import gather, write_tables
from mmseg_dafm.experiments.tool_runs import ROOT
from tests.experiments.report.common import TITLE, fake_suite
from tests.experiments.suites.common import scores, tool, write_suite


def section(page, name):
    return re.search(rf'<section id="{name}">(.*?)</section>(?=<section id|</main>)', page, re.DOTALL)[1]


def table_cells(text):
    rows = re.findall(r'<tr[^>]*>(.*?)</tr>', text, re.DOTALL)
    return [[unescape(re.sub('<[^>]+>', '', cell)) for cell in re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row)] for row in rows]


def test_the_numbers_are_those_of_the_markdown(tmp_path):
    suite = fake_suite(tmp_path)
    page = report(suite, tmp_path, 0)
    markdown = write_tables(suite, tmp_path)
    lines = [line[2:-2].split(' | ') for line in markdown.splitlines() if line.startswith('| ')]
    own = table_cells(section(page, 'results'))
    assert len(own) == len(lines) == 4
    for row, line in zip(own[1:], lines[1:], strict=True):
        wanted = [cell.replace('**', '').replace(' (a)', 'a').strip() for cell in line]
        # phones see the group below the title; seeds are told without their folders
        assert row[:-1] == [wanted[0], wanted[1] + wanted[0], *wanted[2:-1]]
        assert row[-1] == wanted[-1].replace(f'{tmp_path}/', '')


def test_best_paper_and_missing_are_told_apart(tmp_path):
    text = section(report(fake_suite(tmp_path), tmp_path, 0), 'results')
    assert re.findall(r'<td class="number best"><strong>([^<]+)', text) == ['44.00 ± 0.14', '41.00 ± 0.00']
    assert text.count('<td class="number missing">not run</td>') == 2
    assert re.findall(r'<td class="paper">([\d.]+)', text) == ['30.50', '33.25']
    assert 'a &lt;misprint&gt;' in text
    assert 'Notes &amp; more.' in text


def test_nothing_of_a_title_becomes_markup(tmp_path):
    suite = fake_suite(tmp_path)
    page = report(suite, tmp_path, 1)
    assert '<b>' not in page
    assert unescape(re.search('<title>(.*?)</title>', page)[1]) == suite.title == TITLE


def test_the_page_asks_for_nothing(tmp_path):
    suite = fake_suite(tmp_path)
    Image.new('RGB', (30, 20)).save(tmp_path / 'full0/fisher_sensitivity.png')
    page = report(suite, tmp_path, 0)
    assert not re.findall(r'(?:src|href)="(?!data:image/|#)', page)
    assert not re.findall(r'url\(|@import', page)
    assert 'full, full0: fisher_sensitivity.png' in section(page, 'pictures')


def test_different_protocols_are_a_warning_at_the_top(tmp_path):
    assert 'class="warning"' not in report(fake_suite(tmp_path), tmp_path, 0).split('<main>')[0]
    head = report(fake_suite(tmp_path, mode='slide'), tmp_path, 0).split('<main>')[0]
    assert 'ROWS DIFFER IN PROTOCOL' in head
    assert 'mode whole (freeze); slide (full)' in head


def test_without_checkpoints_the_page_says_so_and_has_no_grid(tmp_path):
    text = section(report(fake_suite(tmp_path), tmp_path, 1), 'predictions')
    assert 'freeze: no prediction, the checkpoint iter_20.pth is gone from freeze0' in text
    assert '<img' not in text
    assert 'id="predictions"' not in report(fake_suite(tmp_path), tmp_path, 0)


def test_runs_are_counted_and_the_unfinished_tell_their_last_line(tmp_path):
    text = (
        f"if sys.argv[2] == '1': sys.exit('error: a full <disk>')\n(out / 'x.json').write_text({json.dumps(scores(fog=50.0))!r})"
    )
    command = [tool(tmp_path, text), '{work_dir}', '{seed}']
    lines = f'runs = [dict(name="a", command={command!r}, output="x.json")]\nseeds = [0, 1, 2]\n'
    path = write_suite(tmp_path, lines + 'columns = [dict(name="fog", value="fog/mIoU")]')
    out = tmp_path / 'out'
    with pytest.raises(SystemExit, match='a full <disk>'):
        call('run_suite.py', path, '--out', out, '--report', '--seeds', 0, 1)
    page = (out / 'report.html').read_text()
    assert '1 of 2 runs finished' in page
    assert 'error: a full &lt;disk&gt;' in section(page, 'runs')
    page = write_report(load_suite(path), out, tmp_path / 'other/page.html', 0).read_text()
    assert '1 of 3 runs finished' in page
    assert 'Not started: 1' in section(page, 'runs')
    rows = table_cells(section(page, 'runs'))
    assert [row[:3] for row in rows[1:]] == [['a', '0', 'done'], ['a', '1', 'started']]
    assert rows[1][4] == str(json.loads((out / 'a_seed0/done.json').read_text())['minutes'])


def call(name, *arguments):
    before, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    finally:
        sys.argv = before


def test_the_tool_writes_beside_the_runs_and_refuses_odd_numbers(tmp_path, capsys):
    suite = fake_suite(tmp_path)
    (tmp_path / 'runs').mkdir()
    call('make_report.py', suite.file, '--out', tmp_path / 'runs', '--no-predictions')
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / 'runs/report.html'))
    assert (tmp_path / 'runs/report.html').read_text().startswith('<!doctype html>')
    with pytest.raises(SystemExit, match='--images must be 1 or more, got 0: use --no-predictions'):
        call('make_report.py', suite.file, '--out', tmp_path / 'runs', '--images', 0)
    with pytest.raises(ValueError, match='--images must be 0 or more, got -1'):
        write_report(suite, tmp_path, images=-1)
    with pytest.raises(SystemExit, match='--report has nothing to show while the jobs of --slurm run'):
        call('run_suite.py', suite.file, '--out', tmp_path / 'runs', '--slurm', '--report')


def test_the_page_goes_to_a_file_or_into_a_folder_and_shows_runs_by_hand(tmp_path, capsys):
    suite = fake_suite(tmp_path)
    arguments = ['make_report.py', suite.file, '--out', tmp_path, '--no-predictions']
    (tmp_path / 'pages').mkdir()
    for page, wanted in (
        (tmp_path / 'pages', tmp_path / 'pages/report.html'),
        (tmp_path / 'new/my.html', tmp_path / 'new/my.html'),
    ):
        call(*arguments, '--page', page)
        assert capsys.readouterr().out.strip() == str(wanted)
        assert wanted.read_text().startswith('<!doctype html>')
    call(*arguments, *(f'--run=none={tmp_path}/full{i}' for i in range(2)))
    page = (tmp_path / 'report.html').read_text()
    assert [row[4] for row in table_cells(section(page, 'results'))[1:]] == ['20.00 ± 0.00', '41.00 ± 0.00', '41.00 ± 0.00']
    assert [row[:3] for row in table_cells(section(page, 'runs'))[-2:]] == [['none', f'full{i}', 'done'] for i in range(2)]
    assert '6 of 6 runs finished' in page
    assert 'Not started' not in page
    with pytest.raises(SystemExit, match="error: --run 'none' must have the form NAME=FOLDER"):
        call(*arguments, '--run', 'none')


def test_a_folder_that_does_not_exist_is_refused_and_not_made(tmp_path):
    before = sorted(fake_suite(tmp_path) and tmp_path.iterdir())
    with pytest.raises(SystemExit, match='error: --out .*/typo is no folder: name the one where tools/run_suite.py'):
        call('make_report.py', tmp_path / 'suite.py', '--out', tmp_path / 'typo')
    assert sorted(tmp_path.iterdir()) == before


def test_no_path_of_a_disk_is_shown_where_the_runs_were_moved(tmp_path):
    command = [tool(tmp_path, ''), '{work_dir}']
    suite = load_suite(write_suite(tmp_path, f'runs = [dict(name=n, command={command!r}, output="x.json") for n in "abc"]\n'
                                   'columns = [dict(name="fog", value="fog/mIoU")]'))  # fmt: skip
    out = tmp_path / 'out'
    for name in 'abc':
        (out / f'{name}_seed0').mkdir(parents=True)
    (out / 'a_seed0/x.json').write_text(json.dumps(scores(fog=50.0)))
    options = [
        'randomness.seed=0',
        'a.checkpoint=/home/someone/runs/b_seed0/iter_9.pth',
        "a.c=['/mnt/volume/x/y.pth']",
        'd=fog/mIoU',
    ]
    (out / 'a_seed0/done.json').write_text(json.dumps(dict(hash=run_hash(suite, suite.run('a')), options=options)))
    (out / 'b_seed0/started.json').write_text(json.dumps(dict(hash=run_hash(suite, suite.run('b')))))
    (out / 'b_seed0/stdout.txt').write_text("OSError: no '/home/someone/runs/b_seed0/w.pth' at https://host.org/some/page\n")
    (out / 'c_seed0/done.json').write_text(json.dumps(dict(hash='another')))
    page = report(suite, out, 0)
    for text in (str(tmp_path), '/home', 'someone', '/mnt', 'volume'):
        assert text not in page
    text = unescape(section(page, 'runs'))
    for wanted in (
        'a.checkpoint=b_seed0/iter_9.pth',
        "a.c=['x/y.pth']",
        'd=fog/mIoU',
        "'b_seed0/w.pth'",
        'https://host.org/some/page',
    ):
        assert wanted in text
    # what is refused is neither stopped nor running
    stopped, refused = re.findall(r'<div class="warning"><h3>([^<]+)</h3><ul>(.*?)</ul>', text)
    assert (stopped[0], refused[0]) == ('Stopped, or still running: 1', 'Refused: 1')
    assert stopped[1].startswith('<li><strong>b, seed 0')
    assert refused[1].startswith('<li><strong>c, seed 0</strong> (refused): <code>c_seed0 holds a run with another config')
    assert '<li>1 of 3 runs finished</li><li>1 refused</li>' in page


def test_dots_are_explained_and_the_legend_knows_only_what_was_run(tmp_path):
    text = section(report(fake_suite(tmp_path), tmp_path, 0), 'classes')
    assert 'Dots instead of bars, because bars must start at zero' in text
    legend = re.search('<ul class="legend">(.*?)</ul>', text)[1]
    assert re.findall(r'</svg>([^<]+)</li>', legend) == ['Freeze', '&lt;b&gt;&amp;&quot;x&quot;']


def test_the_log_is_read_from_its_end(tmp_path):
    log = tmp_path / 'stdout.txt'
    assert last_line(log) == 'no log'
    log.write_text('ValueError: long ago\n' + 'a line\n' * 20000)
    assert last_line(log) == 'a line'


def test_gather_reads_what_the_tables_show(tmp_path):
    results, problems = gather(fake_suite(tmp_path), tmp_path)
    assert {name: len(found) for name, found in results.items()} == {'freeze': 2, 'full': 2, 'none': 0}
    assert problems == []
