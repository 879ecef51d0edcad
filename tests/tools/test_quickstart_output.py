"""What tools/quickstart.py shows of a training, with a script in the training's place."""

import importlib.util

import pytest

TRAIN = """
import sys
from pathlib import Path

folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
print('config = dict(')
print('11/21 03:18:50 - mmengine - INFO - Iter(train) [ 50/300]  loss: 1.5000  ', file=sys.stderr)
print('11/21 03:18:51 - mmengine - INFO - Checkpoints will be saved')
print('2026/11/21 03:18:52 - mmengine - INFO - Iter(val) [100/100]    mIoU: 40.0000')
(folder / 'last_checkpoint').write_text('somewhere/iter_300.pth')
"""


@pytest.fixture
def quickstart(root, monkeypatch, tmp_path):
    """The tool as a module, with `tmp_path` in place of the project."""
    spec = importlib.util.spec_from_file_location('quickstart', root / 'tools/quickstart.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / 'tools').mkdir()
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    return module


def test_only_progress_is_shown_and_all_is_kept(quickstart, tmp_path, capfd):
    (tmp_path / 'tools/train.py').write_text(TRAIN)
    work_dir = tmp_path / 'new' / 'work'
    assert str(quickstart.train(work_dir)) == 'somewhere/iter_300.pth'
    shown = capfd.readouterr()
    log = work_dir / 'quickstart.log'
    assert shown.out.splitlines() == [
        f'training; all that it says goes to {log}',
        'Iter(train) [ 50/300]  loss: 1.5000',
        'Iter(val) [100/100]    mIoU: 40.0000',
    ]
    assert shown.err == ''
    kept = log.read_text().splitlines()
    assert len(kept) == 4
    assert 'config = dict(' in kept


def test_a_failure_shows_the_last_lines_and_where_the_rest_is(quickstart, tmp_path, capfd):
    (tmp_path / 'tools/train.py').write_text("for i in range(60):\n    print('line', i)\nraise SystemExit('error: no data')\n")
    with pytest.raises(SystemExit) as caught:
        quickstart.train(tmp_path / 'work')
    lines = str(caught.value).splitlines()
    assert lines[:-2] == [f'line {i}' for i in range(41, 60)]
    assert lines[-2] == 'error: no data'
    assert lines[-1] == f'error: the training stopped; the lines above are the last of {tmp_path / "work" / "quickstart.log"}'
    assert len(capfd.readouterr().out.splitlines()) == 1
