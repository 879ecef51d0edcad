"""SYNTHIA: 16-bit labels with several channels, from the release's files to a sample."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from tiny_sets import SYNTHIA, build, picture, write, write_pairs

from mmseg_dafm.datasets.classes import synthia_table
from mmseg_dafm.datasets.label_files import read_first_channel

# the PNG standard's colour types
GREY_ALPHA, RGB = 4, 2


def png16(channels, colour):
    """A 16-bit PNG, written by hand after the standard: the channels in their order, big endian, no filter."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    height, width = channels[0].shape
    rows = np.stack(channels, -1).astype('>u2')
    raw = b''.join(b'\0' + row.tobytes() for row in rows)
    header = struct.pack('>IIBBBBB', width, height, 16, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(raw)) + chunk(b'IEND', b'')


def label(colour, height=12, width=20, count=23):
    """Every id of SYNTHIA in the first channel, numbers of instances in the second."""
    old = np.arange(height * width).reshape(height, width) % count
    instances = np.arange(height * width).reshape(height, width) * 251 % 65536
    return old, png16([old, instances] + [0 * old] * (colour == RGB), colour)


@pytest.fixture
def synthia(tmp_path):
    for name, colour in (('0000000', RGB), ('0000001', GREY_ALPHA)):
        write(tmp_path / f'RGB/{name}.png', picture())
        path = tmp_path / f'GT/LABELS/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(label(colour)[1])
    return tmp_path


@pytest.mark.parametrize('colour', [RGB, GREY_ALPHA])
def test_ids_are_the_first_channel_of_the_file(tmp_path, colour):
    old, content = label(colour)
    (tmp_path / 'a.png').write_bytes(content)
    np.testing.assert_array_equal(read_first_channel(tmp_path / 'a.png'), old)


def test_other_images_are_no_labels_of_synthia(tmp_path):
    with pytest.raises(ValueError, match=r'a\.png has shape \(12, 20, 3\) and uint8, expected 16 bits in two or three channels'):
        read_first_channel(write(tmp_path / 'a.png', picture()))
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((12, 20), np.uint16))
    with pytest.raises(ValueError, match=r'b\.png has shape \(12, 20\) and uint16'):
        read_first_channel(tmp_path / 'b.png')
    # OpenCV would read half a file without complaint
    for kept in (50, -60):
        (tmp_path / 'c.png').write_bytes(label(RGB)[1][:kept])
        with pytest.raises(ValueError, match=r'c\.png cannot be read \(\w+: .*restore the file'):
            read_first_channel(tmp_path / 'c.png')


def test_from_the_release_to_a_sample(run, synthia):
    with pytest.raises(ValueError, match=r'SYNTHIADataset: 2 of 2 images have no label file, .*converters/synthia\.py ROOT'):
        build(type='SYNTHIADataset', data_root=str(synthia))
    done = run('synthia', synthia)
    assert done.returncode == 0, done.stderr
    assert '2 of 2 images have labels in 19 classes' in done.stdout
    data = build(type='SYNTHIADataset', data_root=str(synthia))
    assert len(data) == 2
    for sample in data:
        np.testing.assert_array_equal(sample['data_samples'].gt_sem_seg.data[0], synthia_table()[label(RGB)[0]])
        assert sample['data_samples'].domain == 'synthia'
    kept = (synthia / 'GT/LABELS/0000000_labelTrainIds.png').stat().st_mtime_ns
    assert run('synthia', synthia).returncode == 0
    assert (synthia / 'GT/LABELS/0000000_labelTrainIds.png').stat().st_mtime_ns == kept


def test_the_converter_says_what_is_wrong(run, synthia, tmp_path):
    assert 'RGB holds no *.png: unpack SYNTHIA-RAND-CITYSCAPES there' in run('synthia', tmp_path / 'GT').stderr
    (synthia / 'GT/LABELS/0000001.png').write_bytes(label(RGB, count=24)[1])
    done = run('synthia', synthia)
    assert done.returncode == 1
    assert '0000001.png holds the id 23, expected 0 to 22' in done.stderr
    (synthia / 'GT/LABELS/0000001.png').write_bytes(label(RGB, height=20, width=12)[1])
    done = run('synthia', synthia)
    assert '0000001.png is 12 x 20 and its image 20 x 12' in done.stdout
    assert done.returncode == 1, 'SYNTHIA has no such labels, as GTAV has'


@pytest.mark.parametrize('name', ['synthia_to_cbm_512x512', 'gtav_synthia_to_cbm_512x512'])
def test_it_trains_alone_and_with_gtav(root, tmp_path, monkeypatch, name):
    write_pairs(tmp_path / 'synthia', SYNTHIA, ['0000000'], 76, 128)
    write_pairs(tmp_path / 'gtav', ('images/{}.png', 'labels/{}_labelTrainIds.png'), ['00001'], 105, 191)
    for variable, folder in (('SYNTHIA_ROOT', 'synthia'), ('GTAV_ROOT', 'gtav')):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    path = root / f'configs/_base_/datasets/{name}.py'
    train = DATASETS.build(Config.fromfile(path).train_dataloader.dataset)
    samples = [train[index] for index in range(len(train))]
    assert [sample['data_samples'].domain for sample in samples] == (['gtav'] if 'gtav' in name else []) + ['synthia']
    assert all(max(sample['inputs'].shape[1:]) <= 512 for sample in samples)
    assert all(len(sample['data_samples'].gt_sem_seg.data.unique()) > 1 for sample in samples)
