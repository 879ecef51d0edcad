"""ToyDrive: determinism, exact labels, conditions, and its life as ordinary files."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine import fileio
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from torch.utils.data import DataLoader

from mmseg_dafm.datasets.classes import BUILDING, CAR, PAVEMENT, ROAD, SKY, VEGETATION
from mmseg_dafm.datasets.toydrive import CONDITIONS, apply_condition, draw_scene
from mmseg_dafm.datasets.toydrive.dataset import draw_path
from mmseg_dafm.datasets.toydrive.drawing import Camera
from mmseg_dafm.datasets.toydrive.scene import haze

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]


def toy(**kwargs):
    return DATASETS.build(dict(type='ToyDriveDataset', pipeline=LOAD, **kwargs))


@pytest.fixture(scope='module')
def scenes():
    return [draw_scene([7, i]) for i in range(24)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(32, 32), (128, 256), (64, 100), (90, 33)]))
def test_any_seed_and_size_gives_a_valid_scene(seed, size):
    scene = draw_scene(seed, size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label.shape == size
    assert scene.label.max() <= 5
    assert (scene.depth > 0).all()
    np.testing.assert_array_equal(scene.image, draw_scene(seed, size).image)


def test_seeds_differ_and_streets_hold_every_class(scenes):
    assert not np.array_equal(scenes[0].label, scenes[1].label)
    for scene in scenes:
        assert {ROAD, PAVEMENT, BUILDING, VEGETATION, SKY} <= set(np.unique(scene.label).tolist())
    assert np.mean([(scene.label == CAR).any() for scene in scenes]) > 0.9


def test_geometry_sky_above_road_and_far_above_near(scenes):
    for scene in scenes:
        rows = np.arange(scene.label.shape[0])[:, None] * np.ones_like(scene.label)
        assert rows[scene.label == SKY].max() < np.median(rows[scene.label == ROAD])
        column = np.where(scene.label == ROAD, scene.depth, np.nan)
        lowest = np.nanmin(np.where(rows == rows.max(), column, np.nan))
        assert lowest == np.nanmin(column)
        assert (scene.depth[scene.label == SKY] >= 200).all()


def test_projection_agrees_with_the_pinhole_equation():
    camera = Camera(focal=100.0, centre=50.0, horizon=40.0, offset=1.0, height=1.5)
    # A point 2 m to the camera's right, 1.5 m below it, 10 m ahead: 20 columns right, 15 rows down.
    assert camera.project(np.array([3.0, 0.0, 10.0])).tolist() == [70, 55]


def test_labels_follow_the_colours(scenes):
    """An oracle that never sees the labels: classes must be told apart by colour alone in clear weather."""
    greens, blues = [], []
    for scene in scenes:
        image = scene.image.astype(int)
        greens.append(np.mean((image[..., 1] > image[..., 0]) & (image[..., 1] > image[..., 2]) == (scene.label == VEGETATION)))
        blues.append(np.mean(image[scene.label == SKY][:, 0] >= image[scene.label == SKY][:, 2]))
    assert np.mean(greens) > 0.9
    assert np.mean(blues) > 0.95


@pytest.mark.parametrize('condition', CONDITIONS)
def test_conditions_are_deterministic_and_leave_the_scene_alone(scenes, condition):
    before = [layer.copy() for layer in scenes[0]]
    first = apply_condition(scenes[0], condition, np.random.default_rng(3))
    second = apply_condition(scenes[0], condition, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)
    for layer, copy in zip(scenes[0], before, strict=True):
        np.testing.assert_array_equal(layer, copy)
    assert np.array_equal(first, scenes[0].image) == (condition == 'clear')


def test_conditions_look_as_they_are_called(scenes):
    """Fog hides what is far, night is dark with bright windows, rain is dull, snow whitens the ground."""
    contrast = {}
    for condition in CONDITIONS:
        shown = np.stack([apply_condition(s, condition, np.random.default_rng(i)) for i, s in enumerate(scenes)]).astype(float)
        labels, depth = np.stack([s.label for s in scenes]), np.stack([s.depth for s in scenes])
        near, far = (labels == BUILDING) & (depth < 25), (labels == BUILDING) & (depth > 45) & (depth < 90)
        spread = shown.max(-1) - shown.min(-1)
        contrast[condition] = dict(
            far=shown[far].std(), near=shown[near].std(), luma=shown.mean(), colour=spread.mean(),
            pavement=shown[labels == PAVEMENT].mean(), peak=np.percentile(shown, 99.9),
        )  # fmt: skip
    assert contrast['fog']['far'] < 0.35 * contrast['clear']['far']
    assert contrast['fog']['near'] > 2 * contrast['fog']['far']
    assert contrast['night']['luma'] < 0.4 * contrast['clear']['luma']
    assert contrast['night']['peak'] > 200
    assert contrast['rain']['colour'] < 0.8 * contrast['clear']['colour']
    assert contrast['snow']['pavement'] > contrast['clear']['pavement'] + 20


def test_haze_against_the_law_pixel_by_pixel():
    rng = np.random.default_rng(0)
    image, depth = rng.uniform(0, 255, (3, 4, 3)), rng.uniform(1, 100, (3, 4))
    out = haze(image, depth, 0.03, (200, 210, 220))
    for y, x, c in np.ndindex(3, 4, 3):
        t = 2.718281828459045 ** (-0.03 * depth[y, x])
        assert out[y, x, c] == pytest.approx(image[y, x, c] * t + (200, 210, 220)[c] * (1 - t), rel=1e-5)


def test_data_set_order_domains_and_shared_labels():
    data = toy(length=12, seed=3, conditions=CONDITIONS)
    samples = [data[i]['data_samples'] for i in range(12)]
    assert [s.domain for s in samples] == [CONDITIONS[i % 5] for i in range(12)]
    labels = [s.gt_sem_seg.data for s in samples]
    assert all(labels[0].equal(labels[i]) for i in range(5))
    assert not labels[0].equal(labels[5])


def test_a_condition_does_not_depend_on_the_list_it_is_part_of():
    many, alone = toy(length=10, conditions=CONDITIONS), toy(length=2, conditions='snow')
    assert many[9]['inputs'].equal(alone[1]['inputs'])


def test_workers_and_order_do_not_change_a_sample():
    data = toy(length=6, conditions=('clear', 'rain'))
    direct = [data[i]['inputs'] for i in reversed(range(6))][::-1]
    loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=pseudo_collate)
    for image, batch in zip(direct, loader, strict=True):
        assert image.equal(batch['inputs'][0])


def test_addresses_read_like_files():
    info = toy(length=5, conditions=CONDITIONS, size=(64, 96)).get_data_info(1)
    assert info['img_path'] == 'toydrive://0/64x96/fog/fog_000000.png'
    image = cv2.imdecode(np.frombuffer(fileio.get(info['img_path']), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image, draw_path(info['img_path']))
    assert fileio.exists(info['seg_map_path'])
    assert not fileio.exists('toydrive://0/64x96/hail/hail_000000.png')


def test_resize_before_the_labels_keeps_them_at_full_size():
    """The customary test pipeline resizes the image and compares with the stored label."""
    pipeline = [LOAD[0], dict(type='Resize', scale=(128, 64)), *LOAD[1:]]
    sample = DATASETS.build(dict(type='ToyDriveDataset', length=1, pipeline=pipeline))[0]
    assert sample['inputs'].shape == (3, 64, 128)
    assert sample['data_samples'].gt_sem_seg.shape == (128, 256)


def test_failures():
    with pytest.raises(ValueError, match="conditions must be among .*'hail'"):
        toy(conditions=('clear', 'hail'))
    with pytest.raises(ValueError, match='length must be positive'):
        toy(length=0)
    with pytest.raises(ValueError, match='at least 32 pixels'):
        toy(size=(16, 256))
    with pytest.raises(ValueError, match='at least 32 pixels'):
        draw_scene(0, (256, 16))
    with pytest.raises(ValueError, match="condition must be one of .* got 'hail'"):
        apply_condition(draw_scene(0), 'hail', np.random.default_rng(0))
    with pytest.raises(ValueError, match='no address of a toy scene'):
        draw_path('toydrive://0/64x96/fog/000000.png')
    with pytest.raises(TypeError, match='a picture, not a text'):
        fileio.get_text('toydrive://0/64x96/fog/fog_000000.png')
