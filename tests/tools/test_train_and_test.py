"""tools/train.py and tools/test.py as a user runs them, and mmseg's own tool on the same config."""

from pathlib import Path

import mmseg
import pytest
import torch
from tiny import call, run_main, write_tiny_run

from mmseg_dafm.core import run_config

ROOT = Path(__file__).resolve().parents[2]
QUICKSTARTS = ROOT / 'configs' / 'quickstart'
MMSEG_TRAIN = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'train.py'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A tiny run trained for two iterations by tools/train.py, started from another folder."""
    folder = tmp_path_factory.mktemp('run')
    config = write_tiny_run(folder, ROOT)
    result = call(ROOT / 'tools/train.py', config, '--work-dir', folder / 'work', cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_training_validates_and_saves(run):
    assert {'iter_1.pth', 'iter_2.pth', 'last_checkpoint', 'tiny.py'} <= {path.name for path in (run / 'work').iterdir()}
    scalars = next((run / 'work').rglob('scalars.json')).read_text()
    assert 'mIoU' in scalars


@pytest.mark.slow
def test_resume_goes_on_from_the_work_dir_despite_load_from(run, root):
    options = ['train_cfg.max_iters=3', f'load_from={run / "work" / "iter_1.pth"}']
    result = call(root / 'tools/train.py', run / 'tiny.py', '--work-dir', run / 'work', '--resume', '--cfg-options',
                  *options, cwd=run)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'iter: 2' in result.stdout + result.stderr
    checkpoint = torch.load(run / 'work' / 'iter_3.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == 3


@pytest.mark.slow
def test_test_tool_with_tta_writes_labels_and_pictures(run, root):
    result = call(root / 'tools/test.py', run / 'tiny.py', run / 'work' / 'iter_2.pth', '--tta', '--out', run / 'out',
                  '--show-dir', run / 'show', cwd=run)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert sorted(path.name for path in (run / 'out').iterdir()) == [f'{index}.png' for index in range(6)]
    assert len(list((run / 'show').rglob('*.png'))) == 6


@pytest.mark.slow
def test_dry_run_keeps_nothing(run, root):
    result = call(root / 'tools/train.py', run / 'tiny.py', '--work-dir', run / 'dry', '--dry-run', cwd=run)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'dry run passed' in result.stdout
    assert not (run / 'dry').exists()


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(path.name for path in QUICKSTARTS.glob('*.py')))
def test_quickstart_runs_under_mmsegs_own_tool(root, tmp_path, name):
    options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']
    arguments = [QUICKSTARTS / name, '--work-dir', tmp_path / 'work', '--cfg-options', *options]
    result = call(MMSEG_TRAIN, *arguments, cwd=tmp_path, pythonpath=str(root))
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'work' / 'iter_2.pth').is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train.py', ['none.py'], 'error: config none.py does not exist'),
        ('train.py', ['tiny.py', '--amp'], "error: --amp needs a GPU, but the device is 'cpu'"),
        ('train.py', ['tiny.py', '--dry-run', '--launcher', 'pytorch'], '--dry-run runs in one process'),
        ('train.py', ['tiny.py', '--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], "data_root='nowhere'"),
        ('train.py', ['tiny.py', '--work-dir', 'tiny.py'], 'error: --work-dir tiny.py cannot be written to (Not a directory)'),
        ('test.py', ['tiny.py', 'tiny.py', '--work-dir', 'tiny.py/a'], 'error: --work-dir tiny.py/a cannot be written to'),
        ('test.py', ['tiny.py', 'tiny.py', '--out', 'tiny.py'], 'error: --out tiny.py cannot be written to (Not a directory)'),
        (
            'train.py',
            ['tiny.py', '--cfg-options', 'modell.backbone.fuse=add'],
            "nobody reads the key 'modell'. Did you mean 'model'?",
        ),
        ('train.py', ['tiny.py', '--cfg-options', 'train_dataloader.persistent_workers=True'], 'persistent_workers=False.'),
        ('test.py', ['tiny.py', 'none.pth'], 'error: checkpoint none.pth does not exist'),
        ('test.py', ['tiny.py', 'tiny.py', '--tta', '--cfg-options', 'tta_pipeline=None'], '--tta needs tta_pipeline'),
    ],
)
def test_bad_input_is_one_sentence(root, tmp_path, monkeypatch, tool, arguments, message):
    write_tiny_run(tmp_path, root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_config, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    # The tools set it for mmengine; this process must not keep it.
    monkeypatch.setenv('LOCAL_RANK', '0')
    with pytest.raises(SystemExit) as info:
        run_main(root / 'tools' / tool, monkeypatch, *arguments)
    assert message in str(info.value)
    assert len(str(info.value).splitlines()) == 1
    assert not (tmp_path / 'work_dirs').exists()
