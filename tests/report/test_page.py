"""The page of a suite whose runs are folders of results."""

import json
import re
import runpy
import sys
from html import unescape

import pytest
from PIL import Image

from mmseg_dafm.report.page import report, write_report
from mmseg_dafm.report.run_section import last_line
from mmseg_dafm.suites.suite_load import load_suite
from mmseg_dafm.suites.write import gather, write_tables
from mmseg_dafm.tool_runs import ROOT
from tests.report.common import TITLE, fake_suite
from tests.suites.common import scores, tool, write_suite


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
    call('make_report.py', suite.file, '--runs', tmp_path / 'runs', '--no-predictions')
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / 'runs/report.html'))
    assert (tmp_path / 'runs/report.html').read_text().startswith('<!doctype html>')
    with pytest.raises(SystemExit, match='--images must be 1 or more, got 0: use --no-predictions'):
        call('make_report.py', suite.file, '--runs', tmp_path / 'runs', '--images', 0)
    with pytest.raises(ValueError, match='--images must be 0 or more, got -1'):
        write_report(suite, tmp_path, images=-1)
    with pytest.raises(SystemExit, match='--report has nothing to show while the jobs of --slurm run'):
        call('run_suite.py', suite.file, '--out', tmp_path / 'runs', '--slurm', '--report')


def test_the_log_is_read_from_its_end(tmp_path):
    log = tmp_path / 'stdout.txt'
    assert last_line(log) == 'no log'
    log.write_text('ValueError: long ago\n' + 'a line\n' * 20000)
    assert last_line(log) == 'a line'


def test_gather_reads_what_the_tables_show(tmp_path):
    results, problems = gather(fake_suite(tmp_path), tmp_path)
    assert {name: len(found) for name, found in results.items()} == {'freeze': 2, 'full': 2, 'none': 0}
    assert problems == []
