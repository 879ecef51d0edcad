"""tools/demo.py on an image, a folder and a video."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny import run_main, write_tiny_run

PALETTE = [[255, 0, 0], [0, 0, 255]]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A tiny model that always answers class 1, saved with its metadata."""
    from pathlib import Path

    folder = tmp_path_factory.mktemp('demo')
    config = write_tiny_run(folder, Path(__file__).resolve().parents[2])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = revert_sync_batchnorm(MODELS.build(Config.fromfile(config).model))
    with torch.no_grad():
        model.decode_head.conv_seg.weight.zero_()
        model.decode_head.conv_seg.bias.copy_(torch.tensor([-5.0, 5.0]))
    meta = {'dataset_meta': {'classes': ('left', 'right'), 'palette': PALETTE}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'model.pth')
    return folder


def demo(root, run, monkeypatch, source, out, *more):
    arguments = [source, run / 'tiny.py', run / 'model.pth', '--out', out, '--device', 'cpu', *more]
    run_main(root / 'tools' / 'demo.py', monkeypatch, *arguments)


def test_folder_of_images(root, run, monkeypatch, tmp_path):
    demo(root, run, monkeypatch, run / 'data' / 'images', tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [f'{index}.png' for index in range(6)]


def test_image_is_painted_in_the_class_colour(root, run, monkeypatch, tmp_path):
    demo(root, run, monkeypatch, run / 'data' / 'images' / '3.png', tmp_path, '--opacity', '1')
    painted = cv2.cvtColor(cv2.imread(str(tmp_path / '3.png')), cv2.COLOR_BGR2RGB)
    assert painted.shape == (32, 48, 3)
    assert (painted == PALETTE[1]).all()


def test_hidden_files_are_no_images(root, run, monkeypatch, tmp_path):
    """A Mac writes ._NAME beside NAME on disks of other systems."""
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/._a.png').write_bytes(b'Mac OS X')
    cv2.imwrite(str(tmp_path / 'in/a.png'), np.zeros((32, 48, 3), np.uint8))
    demo(root, run, monkeypatch, tmp_path / 'in', tmp_path / 'out')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['a.png']


def test_images_of_one_stem_are_painted_to_two_files(root, run, monkeypatch, tmp_path):
    (tmp_path / 'in').mkdir()
    for name, value in (('a.jpg', 0), ('a.png', 255), ('b.png', 100)):
        cv2.imwrite(str(tmp_path / 'in' / name), np.full((32, 48, 3), value, np.uint8))
    demo(root, run, monkeypatch, tmp_path / 'in', tmp_path / 'out', '--opacity', '0')
    means = {path.name: cv2.imread(str(path)).mean() for path in (tmp_path / 'out').iterdir()}
    assert means == {'a.jpg.png': 0, 'a.png.png': 255, 'b.png': 100}
    cv2.imwrite(str(tmp_path / 'in' / 'a.jpg.png'), np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(SystemExit, match=r'two images would both be painted to a\.jpg\.png: rename one of them'):
        demo(root, run, monkeypatch, tmp_path / 'in', tmp_path / 'out')


class CaptureWithHeader:
    """cv2.VideoCapture of a file whose header claims another number of frames."""

    def __init__(self, path, real, claimed):
        self.capture, self.claimed = real(path), claimed
        self.read, self.release = self.capture.read, self.capture.release

    def get(self, key):
        return self.claimed if key == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(key)


@pytest.mark.parametrize('claimed', [None, -1, 0, 1, 9])
def test_video_keeps_its_frames(root, run, monkeypatch, tmp_path, claimed):
    real = cv2.VideoCapture
    writer = cv2.VideoWriter(str(tmp_path / 'drive.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 32))
    for value in (0, 100, 200):
        writer.write(np.full((32, 48, 3), value, np.uint8))
    writer.release()
    if claimed is not None:
        monkeypatch.setattr(cv2, 'VideoCapture', lambda path: CaptureWithHeader(path, real, claimed))
    demo(root, run, monkeypatch, tmp_path / 'drive.avi', tmp_path / 'out', '--opacity', '1')
    capture = real(str(tmp_path / 'out' / 'drive.mp4'))
    frames = [frame for good, frame in iter(capture.read, (False, None)) if good]
    assert len(frames) == 3
    # Class 1 is blue; compression leaves a little error.
    assert all(abs(frame.mean(axis=(0, 1)) - [255, 0, 0]).max() < 20 for frame in frames)


def test_input_without_pictures_is_refused(root, run, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match='is neither an image, a video nor a folder of images'):
        demo(root, run, monkeypatch, tmp_path, tmp_path)
    with pytest.raises(SystemExit, match='none.png does not exist'):
        demo(root, run, monkeypatch, tmp_path / 'none.png', tmp_path)
    (tmp_path / 'broken.png').write_text('no picture')
    with pytest.raises(SystemExit, match='broken.png cannot be read as an image'):
        demo(root, run, monkeypatch, tmp_path / 'broken.png', tmp_path)


def test_options_reach_the_model_and_the_checkpoints_own_config_is_enough(root, run, monkeypatch, tmp_path):
    saved = torch.load(run / 'model.pth', weights_only=False)
    saved['meta']['cfg'] = Config.fromfile(run / 'tiny.py').pretty_text
    torch.save(saved, tmp_path / 'own.pth')
    image, out = run / 'data' / 'images' / '3.png', tmp_path / 'out'
    arguments = [image, tmp_path / 'own.pth', '--out', out, '--device', 'cpu', '--opacity', '1']
    run_main(root / 'tools' / 'demo.py', monkeypatch, *arguments)
    assert (cv2.imread(str(out / '3.png'))[..., ::-1] == PALETTE[1]).all()
    with pytest.raises(SystemExit, match="ResNet takes no argument 'dept'. Did you mean 'depth'"):
        run_main(root / 'tools' / 'demo.py', monkeypatch, *arguments, '--cfg-options', 'model.backbone.dept=34')
    with pytest.raises(SystemExit, match='model.pth holds no config: name the config file, too'):
        run_main(root / 'tools' / 'demo.py', monkeypatch, image, run / 'model.pth', '--out', out)
