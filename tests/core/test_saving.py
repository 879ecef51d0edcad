"""Writing checkpoints whole, without twice their size in memory, and finding the one to resume from."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmseg_dafm.core.saving import newest_checkpoint, save_checkpoint

PEAK = """
import sys, torch
from mmengine.runner.checkpoint import save_checkpoint as theirs
import mmseg_dafm
from mmengine.runner import checkpoint, runner
state = {'state_dict': {'weight': torch.ones(64 * 2**20)}}
# not getrusage, whose peak a process inherits from the one that started it
peak = lambda: next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))
start = peak()
(theirs if sys.argv[2] == 'theirs' else checkpoint.save_checkpoint)(state, sys.argv[1])
assert runner.save_checkpoint is checkpoint.save_checkpoint is not theirs
print((peak() - start) / 2**10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/status').is_file(), reason='the peak of memory is read from /proc')
def test_saving_takes_no_memory_of_the_file_s_size(tmp_path):
    """256 MiB of weights: mmengine's way takes more than that again, ours next to nothing."""
    needed = {}
    for kind in ('theirs', 'ours'):
        command = [sys.executable, '-c', PEAK, str(tmp_path / f'{kind}.pth'), kind]
        needed[kind] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    assert needed['theirs'] > 256
    assert needed['ours'] < 64
    assert (tmp_path / 'ours.pth').stat().st_size > 2**28


def test_a_failed_save_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / 'iter_1.pth'
    save_checkpoint({'a': 1}, str(file))
    before = file.read_bytes()

    def full(content, path):
        path.write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(ValueError, match=r'iter_1.pth could not be written .*No space left.*--resume'):
        save_checkpoint({'a': 2}, str(file))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ['iter_1.pth']


@pytest.mark.parametrize(
    ('steps', 'cut', 'last', 'wanted', 'broken'),
    [
        ((10, 20), (), 20, 20, []),
        # killed while the file was written: the pointer is older
        ((10, 20), (20,), 10, 10, []),
        ((10, 20), (20,), 20, 10, [20]),
        # the disk was full: the named one was never written
        ((10,), (), 20, 10, [20]),
        # killed while the pointer was written
        ((10, 20), (), 0, 20, []),
        ((10, 20), (20,), 0, 10, [20]),
        # no pointer at all
        ((10, 9, 100), (), None, 100, []),
        # 80000 is of an earlier run in the folder
        ((4000, 80000), (), 4000, 4000, []),
        ((2000, 4000, 80000), (4000,), 4000, 2000, [4000]),
    ],
)
def test_the_newest_whole_checkpoint_of_a_moved_folder(tmp_path, steps, cut, last, wanted, broken):
    for step in steps:
        file = tmp_path / f'iter_{step}.pth'
        torch.save({'weight': torch.zeros(1000)}, file)
        if step in cut:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if last is not None:
        (tmp_path / 'last_checkpoint').write_text(f'/scratch/gone/iter_{last}.pth' if last else '')
    found, tried = newest_checkpoint(tmp_path)
    assert found == tmp_path / f'iter_{wanted}.pth'
    assert [path.name for path in tried] == [f'iter_{step}.pth' for step in broken]


def test_nothing_to_resume_and_nothing_whole(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / 'none') is None
    (tmp_path / 'iter_20.pth').write_bytes(b'half')
    (tmp_path / 'last_checkpoint').write_text('iter_30.pth')
    torch.save({}, tmp_path / 'best_mIoU_iter_10.pth')
    with pytest.raises(ValueError, match=r'iter_30.pth \(missing\), iter_20.pth \(broken\); complete are best_mIoU_iter_10.pth'):
        newest_checkpoint(tmp_path)
