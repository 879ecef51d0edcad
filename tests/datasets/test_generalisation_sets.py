"""GTAV, BDD100K and Mapillary Vistas on tiny folders: layouts, converters, missing labels, scales."""

import json
import logging

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image
from tiny_sets import LOAD, build, ids, picture, write

from mmseg_dafm.datasets.classes import gtav_table, mapillary_table
from mmseg_dafm.datasets.label_files import LabelJob, convert


@pytest.fixture
def gtav(tmp_path):
    for name in ('00001', '00002', '00003'):
        write(tmp_path / f'images/{name}.png', picture())
        write(tmp_path / f'labels/{name}.png', ids(35), palette=True)
    # of another size than its image
    write(tmp_path / 'labels/00003.png', ids(35, 20, 12), palette=True)
    return tmp_path


def test_gtav_from_the_release_to_a_sample(run, gtav, caplog):
    with pytest.raises(ValueError, match=r'GTAVDataset: 3 of 3 images have no label file, .*make the labels with python tools'):
        build(type='GTAVDataset', data_root=str(gtav))
    done = run('gtav', gtav)
    assert done.returncode == 0, done.stderr
    assert '00003.png is 12 x 20 and its image 20 x 12' in done.stdout
    assert '2 of 3 images have labels' in done.stdout
    with pytest.raises(ValueError, match='1 of 3 images have no label file, .*00003_labelTrainIds.*drop_unlabelled=True'):
        build(type='GTAVDataset', data_root=str(gtav))
    with caplog.at_level(logging.WARNING):
        data = build(type='GTAVDataset', data_root=str(gtav), drop_unlabelled=True)
    assert len(data) == 2
    sample = data[1]['data_samples']
    assert sample.domain == 'gtav'
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0], gtav_table()[ids(35)])
    # a second run writes nothing, a damaged folder is mended
    target = gtav / 'labels/00001_labelTrainIds.png'
    before = target.stat().st_mtime_ns
    (gtav / 'labels/00002_labelTrainIds.png').unlink()
    assert run('gtav', gtav).returncode == 0
    assert target.stat().st_mtime_ns == before
    assert len(build(type='GTAVDataset', data_root=str(gtav), drop_unlabelled=True)) == 2
    assert run('gtav', gtav / 'labels').returncode == 1


def test_labels_of_another_set_are_refused_and_leave_nothing_behind(tmp_path):
    image = write(tmp_path / 'images/a.png', picture())
    job = LabelJob(image, write(tmp_path / 'labels/a.png', ids(66)), tmp_path / 'out/a.png')
    with pytest.raises(ValueError, match=r'a\.png holds the id 65, expected 0 to 34'):
        convert(job, gtav_table())
    assert not job.target.exists()
    write(tmp_path / 'labels/a.png', picture())
    with pytest.raises(ValueError, match='has the mode RGB, expected ids in one channel'):
        convert(job, gtav_table())
    (tmp_path / 'labels/a.png').unlink()
    left_out = convert(job, gtav_table())
    assert left_out.reason.endswith('labels/a.png does not exist')
    assert not left_out.of_other_size


def cut_off(path, kept=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


def test_a_broken_label_is_named(run, gtav):
    for content in (b'', b'no image'):
        (gtav / 'labels/00002.png').write_bytes(content)
        done = run('gtav', gtav)
        assert done.returncode == 1
        assert f'error: {gtav}/labels/00002.png cannot be read' in done.stderr
    write(gtav / 'labels/00002.png', np.random.default_rng(0).integers(0, 35, (12, 20), np.uint8))
    cut_off(gtav / 'labels/00002.png')
    assert f'error: {gtav}/labels/00002.png cannot be read (OSError: ' in run('gtav', gtav).stderr
    assert not (gtav / 'labels/00002_labelTrainIds.png').exists()


def test_labels_that_are_not_there_fail_the_run(run, gtav):
    (gtav / 'labels/00001.png').unlink()
    done = run('gtav', gtav)
    assert done.returncode == 1
    assert '1 of 3 images have labels' in done.stdout, 'what is there is converted'
    reason = f'{gtav}/labels/00001.png does not exist'
    assert done.stderr == f'error: 1 labels were left out, the first because {reason}: complete the release and run again.'


@pytest.mark.parametrize('name', ['gtav', 'vistas'])
def test_no_thread(run, request, name):
    folder = request.getfixturevalue(name)
    done = run('mapillary' if name == 'vistas' else name, folder, '--threads', 0)
    assert done.stderr == 'error: --threads must be 1 or more, got 0.'
    assert not list(folder.rglob('train_ids*'))


LAYOUTS = {
    'today': ('images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png'),
    '2018': ('seg/images/val/{}.jpg', 'seg/labels/val/{}_train_id.png'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_bdd100k_in_both_layouts(tmp_path, layout):
    image, label = LAYOUTS[layout]
    for name in 'ab':
        write(tmp_path / image.format(name), picture())
        write(tmp_path / label.format(name), ids(19))
    data = build(type='TaggedBDD100KDataset', data_root=str(tmp_path))
    assert len(data) == 2
    np.testing.assert_array_equal(data[0]['data_samples'].gt_sem_seg.data[0], ids(19))
    assert data[0]['data_samples'].domain == 'bdd100k'
    write(tmp_path / image.format('80a9e37d-e4548ac1'), picture())
    with pytest.raises(
        ValueError, match='1 of 3 images have no label file, the first is .*80a9e37d-e4548ac1.*: complete the labels'
    ):
        build(type='TaggedBDD100KDataset', data_root=str(tmp_path))
    assert len(build(type='TaggedBDD100KDataset', data_root=str(tmp_path), drop_unlabelled=True)) == 2


def test_bdd100k_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r'images/10k/train does not exist \(expected layout: images/10k/<split>'):
        build(type='TaggedBDD100KDataset', data_root=str(tmp_path), split='train')
    with pytest.raises(ValueError, match="split must be one of .*'test'"):
        build(type='TaggedBDD100KDataset', data_root=str(tmp_path), split='test')


def test_an_image_turned_by_its_exif_data_keeps_the_labels_orientation(tmp_path):
    """What our pipelines load: the stored rows and columns."""
    path = tmp_path / 'images/10k/val/a.jpg'
    path.parent.mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture()).save(path, exif=exif)
    write(tmp_path / 'labels/sem_seg/masks/val/a.png', ids(19))
    data = build(type='TaggedBDD100KDataset', data_root=str(tmp_path))
    with pytest.raises(ValueError, match=r'a\.png is 20 x 12 .* image .*a\.jpg is 12 x 20; .*color_ignore_orientation'):
        data[0]
    load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    data = DATASETS.build(dict(type='TaggedBDD100KDataset', data_root=str(tmp_path), pipeline=[load, *LOAD[1:]]))
    assert data[0]['inputs'].shape[1:] == data[0]['data_samples'].gt_sem_seg.data.shape[1:] == (12, 20)


@pytest.fixture
def vistas(tmp_path):
    from mmseg.datasets import MapillaryDataset_v1

    names = MapillaryDataset_v1.METAINFO['classes']
    (tmp_path / 'config_v1.2.json').write_text(json.dumps({'labels': [{'readable': name} for name in names]}))
    for name in ('x', 'y'):
        write(tmp_path / f'validation/images/{name}.jpg', picture())
        write(tmp_path / f'validation/v1.2/labels/{name}.png', ids(66), palette=True)
    return tmp_path


def test_mapillary_from_the_release_to_a_sample(run, vistas):
    with pytest.raises(ValueError, match=r'2 of 2 images have no label file, .*tools/dataset_converters/mapillary.py ROOT\.'):
        build(type='TaggedMapillaryDataset', data_root=str(vistas))
    for options in ([], ['--half']):
        done = run('mapillary', vistas, *options)
        assert done.returncode == 0, done.stderr
    data = build(type='TaggedMapillaryDataset', data_root=str(vistas))
    new = mapillary_table()[ids(66)]
    np.testing.assert_array_equal(data[0]['data_samples'].gt_sem_seg.data[0], new)
    assert data[0]['data_samples'].domain == 'mapillary'
    halved = build(type='TaggedMapillaryDataset', data_root=str(vistas), half=True)
    assert halved[1]['inputs'].shape == (3, 6, 10)
    found = halved[1]['data_samples'].gt_sem_seg.data[0].numpy()
    # nearest neighbour: each value is one of the four that it stands for
    blocks = new.reshape(6, 2, 10, 2)
    assert (found[:, None, :, None] == blocks).any((1, 3)).all()


def test_mapillary_goes_on_where_it_stopped_and_keeps_to_one_mapping(run, vistas):
    assert run('mapillary', vistas, '--half').returncode == 0
    folder = vistas / 'half/validation'
    kept = (folder / 'train_ids/x.png').stat().st_mtime_ns
    (folder / 'train_ids/y.png').unlink()
    assert run('mapillary', vistas, '--half').returncode == 0
    assert (folder / 'train_ids/y.png').is_file()
    assert (folder / 'train_ids/x.png').stat().st_mtime_ns == kept
    other = run('mapillary', vistas, '--half', '--mapping', 'hrda')
    assert other.returncode == 1
    assert 'was begun with --mapping rein' in other.stderr
    assert list(folder.rglob('*.tmp*')) == []


def test_vistas_with_labels_left_out_fails(run, vistas):
    (vistas / 'validation/v1.2/labels/x.png').unlink()
    write(vistas / 'validation/v1.2/labels/y.png', ids(66, 20, 12))
    done = run('mapillary', vistas)
    assert done.returncode == 1
    assert '0 of 2 images of validation have labels' in done.stdout
    assert done.stderr.startswith('error: 2 labels were left out, the first because ')
    assert 'x.png does not exist: complete the release' in done.stderr


def test_a_broken_image_of_vistas_is_named(run, vistas):
    cut_off(vistas / 'validation/images/y.jpg', 0.9)
    done = run('mapillary', vistas, '--half')
    assert f'error: {vistas}/validation/images/y.jpg cannot be read' in done.stderr
    assert not (vistas / 'half/validation/images/y.jpg').exists()


def test_labels_of_vistas_2_are_refused(run, vistas):
    config = vistas / 'config_v1.2.json'
    labels = json.loads(config.read_text())['labels']
    config.write_text(json.dumps({'labels': labels[:30] + [{'readable': 'Traffic Cone'}] + labels[30:]}))
    done = run('mapillary', vistas)
    assert done.returncode == 1
    assert 'lists 67 classes, and id 30 is another than in v1.2' in done.stderr


def test_the_sets_join(run, gtav, tmp_path):
    assert run('gtav', gtav).returncode == 0
    write(tmp_path / 'b/images/10k/val/a.jpg', picture())
    write(tmp_path / 'b/labels/sem_seg/masks/val/a.png', ids(19))
    parts = [
        dict(type='GTAVDataset', data_root=str(gtav), drop_unlabelled=True),
        dict(type='TaggedBDD100KDataset', data_root=str(tmp_path / 'b')),
    ]
    joined = DATASETS.build(dict(type='DomainConcatDataset', pipeline=LOAD, datasets=parts))
    assert [joined[i]['data_samples'].domain for i in range(len(joined))] == ['gtav', 'gtav', 'bdd100k']


def test_domain_resize_fits_each_domain_into_its_scale():
    resize = TRANSFORMS.build(dict(type='DomainResize', scale=(64, 32), domains=dict(bdd100k=(80, 45), fog=(60, 34))))
    for domain, shape, expected in (
        ('bdd100k', (90, 160), (45, 80)), ('fog', (68, 120), (34, 60)), ('cityscapes', (128, 256), (32, 64)),
        (None, (64, 64), (32, 32)),
    ):  # fmt: skip
        results = dict(img=np.zeros((*shape, 3), np.uint8), img_shape=shape, **({'domain': domain} if domain else {}))
        assert resize(results)['img'].shape[:2] == expected
    exact = TRANSFORMS.build(dict(type='DomainResize', scale=(64, 32), keep_ratio=False))
    assert exact(dict(img=np.zeros((64, 64, 3), np.uint8), domain='fog'))['img'].shape[:2] == (32, 64)
    image = cv2.GaussianBlur(picture(), (3, 3), 0)
    same = TRANSFORMS.build(dict(type='Resize', scale=(10, 6), keep_ratio=True))(dict(img=image.copy()))['img']
    small = TRANSFORMS.build(dict(type='DomainResize', scale=(10, 6)))(dict(img=image.copy()))['img']
    np.testing.assert_array_equal(small, same)
    with pytest.raises(ValueError, match=r'DomainResize: fog=\(60,\) must be \(width, height\)'):
        TRANSFORMS.build(dict(type='DomainResize', scale=(64, 32), domains=dict(fog=(60,))))


def test_labels_of_another_release_do_not_survive_a_corrected_run(run, tmp_path):
    """Vistas v2.0 has 21 for the road, and ids above 65; v1.2 has 13."""
    split = tmp_path / 'validation'
    for i in range(4):
        write(split / f'images/{i}.jpg', picture())
        write(split / f'labels/{i}.png', np.full((12, 20), 110 if i == 3 else 21, np.uint8))
    # begun in an earlier run, by whatever tool
    write(split / 'train_ids/0.png', np.full((12, 20), 12, np.uint8))
    assert 'holds the id 110, expected 0 to 65' in run('mapillary', tmp_path, '--threads', 1).stderr
    assert [path.name for path in split.glob('train_ids/*.png')] == ['0.png'], 'what the run wrote is gone'
    for i in range(4):
        write(split / f'v1.2/labels/{i}.png', np.full((12, 20), 13, np.uint8))
    assert run('mapillary', tmp_path).returncode == 0
    assert [int(np.asarray(Image.open(split / f'train_ids/{i}.png')).max()) for i in range(4)] == [0, 0, 0, 0]


DAMAGE = {
    'empty': lambda path: path.write_bytes(b''),
    'cut off': lambda path: cut_off(path),
    'other size': lambda path: write(path, ids(19, 20, 30)),
    'other ids': lambda path: write(path, ids(19)),
    'text': lambda path: path.write_text('no image'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_target_that_is_wrong_is_written_again(gtav, run, kind):
    assert run('gtav', gtav).returncode == 0
    target = gtav / 'labels/00001_labelTrainIds.png'
    good = target.read_bytes()
    DAMAGE[kind](target)
    assert run('gtav', gtav).returncode == 0
    assert target.read_bytes() == good


def test_a_target_of_another_tool_stays_where_its_pixels_are_right(gtav, run):
    target = gtav / 'labels/00001_labelTrainIds.png'
    write(target, gtav_table()[ids(35)])
    before = target.stat().st_mtime_ns
    # a converter that does not look at sizes wrote this one
    wrong = write(gtav / 'labels/00003_labelTrainIds.png', gtav_table()[ids(35, 20, 12)])
    done = run('gtav', gtav)
    assert target.stat().st_mtime_ns == before
    assert 'and the label that was written of it is removed' in done.stdout
    assert not wrong.exists()


def test_half_images_are_whole_or_written_again(run, vistas):
    assert run('mapillary', vistas, '--half').returncode == 0
    images = sorted(vistas.glob('half/*/images/*.jpg'))
    good = [path.read_bytes() for path in images]
    before = images[-1].stat().st_mtime_ns
    cut_off(images[0])
    assert run('mapillary', vistas, '--half').returncode == 0
    assert [path.read_bytes() for path in images] == good
    assert images[-1].stat().st_mtime_ns == before or len(images) == 1


def test_hidden_files_are_no_images(run, gtav):
    for path in [*gtav.glob('*/*.png')]:
        path.with_name(f'._{path.name}').write_bytes(b'Mac OS X')
    done = run('gtav', gtav)
    assert done.returncode == 0, done.stderr
    assert '2 of 3 images have labels' in done.stdout
    assert not list(gtav.glob('labels/._*_labelTrainIds.png'))
    assert len(build(type='GTAVDataset', data_root=str(gtav), drop_unlabelled=True)) == 2
