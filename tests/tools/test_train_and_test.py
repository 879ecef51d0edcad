"""tools/train.py and tools/test.py as a user runs them, and mmseg's own tool on the same config."""

import mmseg
import pytest
import torch
from tiny import call, write_tiny_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A tiny run trained for two iterations by tools/train.py, started from another folder."""
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    folder = tmp_path_factory.mktemp('run')
    config = write_tiny_run(folder, root)
    result = call(root / 'tools/train.py', config, '--work-dir', folder / 'work', cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_training_validates_and_saves(run):
    assert {'iter_1.pth', 'iter_2.pth', 'last_checkpoint', 'tiny.py'} <= {path.name for path in (run / 'work').iterdir()}
    scalars = next((run / 'work').rglob('scalars.json')).read_text()
    assert 'mIoU' in scalars


def test_resume_goes_on_from_the_work_dir_despite_load_from(run, root):
    options = ['train_cfg.max_iters=3', f'load_from={run / "work" / "iter_1.pth"}']
    result = call(root / 'tools/train.py', run / 'tiny.py', '--work-dir', run / 'work', '--resume', '--cfg-options',
                  *options, cwd=run)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'iter: 2' in result.stdout + result.stderr
    checkpoint = torch.load(run / 'work' / 'iter_3.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == 3


def test_test_tool_with_tta_writes_labels_and_pictures(run, root):
    result = call(root / 'tools/test.py', run / 'tiny.py', run / 'work' / 'iter_2.pth', '--tta', '--out', run / 'out',
                  '--show-dir', run / 'show', cwd=run)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert sorted(path.name for path in (run / 'out').iterdir()) == [f'{index}.png' for index in range(6)]
    assert len(list((run / 'show').rglob('*.png'))) == 6


def test_mmsegs_own_tool_trains_the_same_config(run, root):
    from pathlib import Path

    tool = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'train.py'
    result = call(tool, run / 'tiny.py', '--work-dir', run / 'stock', cwd=run, pythonpath=str(root))
    assert result.returncode == 0, result.stderr[-3000:]
    assert (run / 'stock' / 'iter_2.pth').is_file()


def test_dry_run_keeps_nothing(run, root):
    result = call(root / 'tools/train.py', run / 'tiny.py', '--work-dir', run / 'dry', '--dry-run', cwd=run)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'dry run passed' in result.stdout
    assert not (run / 'dry').exists()


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train.py', ['tiny.py', '--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], "data_root='nowhere'"),
        ('test.py', ['tiny.py', 'none.pth'], 'error: checkpoint none.pth does not exist'),
    ],
)
def test_bad_input_is_one_sentence(run, root, tool, arguments, message):
    result = call(root / 'tools' / tool, *arguments, cwd=run)
    assert result.returncode == 1
    assert message in result.stderr
    assert 'Traceback' not in result.stderr
