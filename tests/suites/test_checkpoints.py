"""What a kill during a save leaves, and that training goes on after it."""

import json

import pytest
import torch
from mmengine.runner import find_latest_checkpoint

from mmseg_dafm.suites import execute as execute_module
from mmseg_dafm.suites.checkpoints import mend_checkpoints
from mmseg_dafm.suites.execute import cell_state, execute
from mmseg_dafm.suites.plan import Cell
from mmseg_dafm.suites.suite_load import load_suite
from tests.suites.common import scores, write_suite


def save(folder, *steps, cut=None, last=None):
    """Checkpoints of some steps, one of them cut to half, and mmengine's file of the last one."""
    folder.mkdir(exist_ok=True)
    for step in steps:
        file = folder / f'iter_{step}.pth'
        torch.save({'weight': torch.zeros(1000)}, file)
        if step == cut:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if last is not None:
        (folder / 'last_checkpoint').write_text(str(folder / f'iter_{last}.pth') if last else '')


@pytest.mark.parametrize(
    ('steps', 'cut', 'last', 'wanted', 'removed'),
    [
        ((10, 20), 20, 10, 10, [20]),
        # the one before is removed before the save where one alone is kept
        ((20,), 20, 10, None, [20]),
        ((10, 20), None, 20, 20, []),
        # killed while the name was written
        ((10, 20), None, 0, 20, []),
        ((5, 10, 20), 20, 20, 10, [20]),
        ((), None, 10, None, []),
        ((), None, None, None, []),
    ],
)
def test_resume_finds_the_newest_whole_checkpoint(tmp_path, steps, cut, last, wanted, removed):
    save(tmp_path, *steps, cut=cut, last=last)
    assert [path.name for path in mend_checkpoints(tmp_path)] == [f'iter_{step}.pth' for step in removed]
    found = find_latest_checkpoint(str(tmp_path))
    assert found == (str(tmp_path / f'iter_{wanted}.pth') if wanted else None)
    if wanted:
        torch.load(found)
    assert {path.name for path in tmp_path.glob('*.pth')} == {f'iter_{step}.pth' for step in steps if step not in removed}


def test_a_training_that_is_killed_while_it_saves_is_trained_again(tmp_path, monkeypatch):
    suite = load_suite(
        write_suite(tmp_path, "runs = [dict(name='a', config=CONFIG)]\ncolumns = [dict(name='fog', value='fog')]\n")
    )
    folder, calls = tmp_path / 'a_seed0', []

    def run_tool(name, arguments, log, *rest, **more):
        calls.append((name, find_latest_checkpoint(str(folder))))
        if name == 'train.py' and len(calls) == 1:
            save(folder, 10, 20, cut=20, last=10)
            raise RuntimeError('killed')
        if name == 'train.py':
            save(folder, 20, last=20)
        else:
            torch.load(folder / 'iter_20.pth')
            (folder / 'domain_iou_iter_20.json').write_text(json.dumps(scores(fog=1.0)))

    monkeypatch.setattr(execute_module, 'run_tool', run_tool)
    with pytest.raises(RuntimeError, match='killed'):
        execute(suite, Cell('a', 0), tmp_path)
    assert cell_state(suite, Cell('a', 0), tmp_path) == 'started'
    assert execute(suite, Cell('a', 0), tmp_path)
    before = str(folder / 'iter_10.pth')
    assert calls == [('train.py', None), ('train.py', before), ('test.py', str(folder / 'iter_20.pth'))]
