"""tools/benchmark/fisher_estimation.py: both ways give the same squares, reports are written."""

import json
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark'


def test_report(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    options = ['--device', 'cpu', '--model', 'small', '--size', '32', '--batch', '2', '--repeats', '1', '--warmup', '0']
    monkeypatch.setattr(sys, 'argv', ['fisher_estimation.py', *options, '--out', str(tmp_path)])
    try:
        runpy.run_path(str(FOLDER / 'fisher_estimation.py'), run_name='__main__')
    finally:
        for name in ('measure', 'report'):
            sys.modules.pop(name, None)
    record = json.loads((tmp_path / 'fisher_estimation_small_32.json').read_text())
    assert len(record['rows']) == 5
    # 12 blocks of width 384
    assert record['candidates'] == 12 * (3 + 8) * 384**2
    assert 'The batched path is' in capsys.readouterr().out
    assert (tmp_path / 'fisher_estimation_small_32.md').is_file()
