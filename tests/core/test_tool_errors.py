"""Foreseeable errors end a tool in one sentence; others keep their traceback."""

import errno
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.core.tool_output import one_sentence
from mmseg_dafm.datasets.driving import GTAVDataset

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


def sentence(action) -> str:
    with pytest.raises(SystemExit) as caught, one_sentence():
        action()
    text = str(caught.value)
    assert text.startswith('error: ')
    assert '\n' not in text
    return text


def raising(error):
    def action():
        raise error

    return action


def test_errors_of_the_package_become_its_sentence_and_those_of_others_keep_their_traceback(tmp_path):
    (tmp_path / 'file').write_text('x')
    assert 'cannot be written to (Not a directory)' in sentence(lambda: writable_folder(tmp_path / 'file', '--out'))
    with pytest.raises(RuntimeError, match='shape'), one_sentence():
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    with pytest.raises(ValueError, match='all the input'), one_sentence():
        np.concatenate([np.zeros((1, 2)), np.zeros((1, 3))], axis=0)


def test_a_full_disk_and_missing_rights_name_the_file():
    full = OSError(errno.ENOSPC, 'No space left on device', '/runs/iter_1.pth')
    assert 'the disk is full (/runs/iter_1.pth)' in sentence(raising(full))
    closed = PermissionError(errno.EACCES, 'Permission denied', '/data/x.png')
    assert '/data/x.png cannot be written or read (Permission denied)' in sentence(raising(closed))
    half = RuntimeError('[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0')
    assert 'a checkpoint could not be written whole' in sentence(raising(half))


def test_one_image_in_front_of_a_1x1_pooling():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).train()
    assert 'train_dataloader.batch_size to 2' in sentence(lambda: network(torch.zeros(1, 3, 4, 4)))


@pytest.mark.slow
def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        store = f'import torch; torch.distributed.TCPStore("127.0.0.1", {port}, 1, True)'
        failed = subprocess.run([sys.executable, '-c', store], capture_output=True, text=True, check=False)
    assert failed.returncode
    assert 'set another one, such as PORT=29501' in sentence(raising(RuntimeError(failed.stderr.strip().splitlines()[-1])))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('folder', ['images', 'labels'])
def test_a_picture_that_is_cut_off_is_named(tmp_path, workers, folder):
    rng = np.random.default_rng(0)
    for name, value in (('images/1.png', rng.integers(0, 255, (32, 48, 3), np.uint8)), ('labels/1_labelTrainIds.png', None)):
        path = tmp_path / name
        path.parent.mkdir()
        Image.fromarray(rng.integers(0, 19, (32, 48), np.uint8) if value is None else value).save(path)
    dataset = GTAVDataset(data_root=str(tmp_path), pipeline=LOAD)
    broken = next((tmp_path / folder).iterdir())
    broken.write_bytes(broken.read_bytes()[:300])
    loader = DataLoader(dataset, num_workers=workers, collate_fn=list)
    text = sentence(lambda: next(iter(loader)))
    assert f'{broken} cannot be read (' in text
    assert text.endswith('restore the file')


def test_folders_are_tried_without_being_made(tmp_path):
    assert writable_folder(tmp_path / 'a/b') == tmp_path / 'a/b'
    assert not list(tmp_path.iterdir())
    (tmp_path / 'file').write_text('x')
    with pytest.raises(ValueError, match=r'--out .*/file/b cannot be written to \(Not a directory\): name another folder'):
        writable_folder(tmp_path / 'file/b', '--out')
    with pytest.raises(ValueError, match=r'the output folder /proc/none cannot be written to'):
        writable_folder('/proc/none')


def test_a_type_that_nobody_registered_is_named_with_the_nearest():
    from mmseg.registry import MODELS

    text = sentence(lambda: MODELS.build(dict(type='VPDBackbon')))
    assert text.startswith("error: type='VPDBackbon' is not a registered model. Did you mean 'VPDBackbone'?")
