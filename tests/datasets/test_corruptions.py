"""The sixteen corruptions against slow oracles, published strengths and statistics."""

import colorsys

import cv2
import numpy as np
import pytest

from mmseg_dafm.datasets.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, corrupt, group_of
from mmseg_dafm.datasets.corruptions.camera import GLASS, PASSES, along_line, disk_kernel, line_kernel, shuffled
from mmseg_dafm.datasets.corruptions.weather import plasma
from mmseg_dafm.datasets.toydrive.dataset import draw_path, drawn_path

PATH = drawn_path(1, (96, 144), 'clear', 3)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope='module')
def street():
    return draw_path(PATH)


def change(image, name, severity, seed=0):
    return float(np.abs(corrupt(image, name, severity, rng(seed)).astype(float) - image).mean())


def likeness(image, name, severity):
    """Correlation with the clean image, mean over a few seeds."""
    found = [np.corrcoef(corrupt(image, name, severity, rng(seed)).ravel(), image.ravel())[0, 1] for seed in range(6)]
    return float(np.mean(found))


def test_there_are_sixteen_in_four_groups():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 16
    assert {group: len(names) for group, names in GROUPS.items()} == dict.fromkeys(('noise', 'blur', 'weather', 'digital'), 4)
    assert [group_of(name) for name in ('speckle_noise', 'glass_blur', 'spatter', 'saturate')] == list(GROUPS)


@pytest.mark.parametrize('name', CORRUPTIONS)
@pytest.mark.parametrize('shape', [(37, 53), (64, 33), (5, 90), (1, 1)], ids=str)
def test_any_size_gives_bytes_of_the_same_shape_and_leaves_the_input(name, shape):
    image = rng(7).integers(0, 256, (*shape, 3), np.uint8)
    before = image.copy()
    for severity in SEVERITIES:
        changed = corrupt(image, name, severity, rng())
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)


@pytest.mark.parametrize('name', CORRUPTIONS)
@pytest.mark.parametrize('value', [0, 255])
def test_black_and_white_images_stay_finite(name, value):
    image = np.full((24, 31, 3), value, np.uint8)
    with np.errstate(all='raise', under='ignore'):
        for severity in SEVERITIES:
            corrupt(image, name, severity, rng())


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_it_grows_with_severity(street, name):
    # The published strengths of some do not rise at every step: pale turns to garish, water to mud, small flakes to large
    # ones of the same cover, smooth fog to rough fog of the same thickness.
    broken = {
        'saturate': ((1, 2), (3, 4, 5)),
        'spatter': ((1, 2, 3), (4, 5)),
        'snow': ((1, 2, 4, 5), (1, 3, 4, 5)),
        'fog': ((1, 2, 3, 5), (1, 2, 4, 5)),
    }
    for severities in broken.get(name, (SEVERITIES,)):
        if name in ('fog', 'frost'):
            # Their brightness falls again at the end; what is left of the street falls all the way.
            found = [1 - likeness(street, name, severity) for severity in severities]
        else:
            found = [np.mean([change(street, name, severity, seed) for seed in range(4)]) for severity in severities]
            assert found[0] > 0.5
        assert all(more > less for less, more in zip(found, found[1:], strict=False)), found


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_equal_generators_give_equal_images_and_chance_is_used(street, name):
    assert np.array_equal(corrupt(street, name, 3, rng(4)), corrupt(street, name, 3, rng(4)))
    random = not np.array_equal(corrupt(street, name, 3, rng(4)), corrupt(street, name, 3, rng(5)))
    assert random == (name not in ('gaussian_blur', 'defocus_blur', *GROUPS['digital']))


def test_noise_has_the_published_strength():
    grey = np.full((200, 200, 3), 128, np.uint8)
    x = 128 / 255
    expected = {
        'gaussian_noise': 0.08,
        'shot_noise': np.sqrt(x / 60),
        'speckle_noise': 0.15 * x,
    }
    for name, deviation in expected.items():
        noise = corrupt(grey, name, 1, rng()).astype(float) / 255 - x
        assert abs(noise.mean()) < 0.002, name
        assert noise.std() == pytest.approx(deviation, rel=0.02), name
        # channels and neighbours are independent
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
        assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.03
    salted = corrupt(grey, 'impulse_noise', 4, rng())
    assert (salted == 0).mean() == pytest.approx(0.085, rel=0.05)
    assert (salted == 255).mean() == pytest.approx(0.085, rel=0.05)
    assert set(np.unique(salted)) == {0, 128, 255}


@pytest.mark.parametrize(
    ('name', 'formula'),
    [
        ('brightness', lambda h, s, v, c: (h, s, min(v + c, 1))),
        ('saturate', lambda h, s, v, c: (h, min(s * c[0] + c[1], 1), v)),
    ],
)
def test_brightness_and_saturation_are_those_of_hsv(name, formula):
    image = rng(3).integers(0, 256, (12, 9, 3), np.uint8)
    image[0, :3] = [[0, 0, 0], [90, 90, 90], [255, 255, 255]]
    strengths = {'brightness': (0.1, 0.2, 0.3, 0.4, 0.5), 'saturate': ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))}
    for severity, strength in enumerate(strengths[name], 1):
        found = corrupt(image, name, severity, rng())
        for pixel, result in zip(image.reshape(-1, 3) / 255, found.reshape(-1, 3), strict=True):
            expected = colorsys.hsv_to_rgb(*formula(*colorsys.rgb_to_hsv(*pixel[::-1]), strength))[::-1]
            assert np.abs(np.array(expected) * 255 - result).max() <= 0.51


def test_contrast_and_jpeg_by_their_definitions(street):
    expected = np.zeros(street.shape)
    for channel in range(3):
        mean = street[..., channel].mean()
        expected[..., channel] = np.clip(mean + 0.1 * (street[..., channel] - mean), 0, 255)
    assert np.abs(corrupt(street, 'contrast', 4, rng()) - expected).max() <= 0.51
    encoded = cv2.imencode('.jpg', street, [cv2.IMWRITE_JPEG_QUALITY, 15])[1]
    assert np.array_equal(corrupt(street, 'jpeg_compression', 3, rng()), cv2.imdecode(encoded, cv2.IMREAD_COLOR))


@pytest.mark.parametrize('name', GROUPS['blur'])
def test_a_blur_keeps_a_flat_image_and_the_sum_of_light(name):
    flat = np.full((60, 70, 3), 77, np.uint8)
    spot = np.zeros((121, 121, 3), np.uint8)
    spot[55:66, 55:66] = 250
    for severity in SEVERITIES:
        assert np.array_equal(corrupt(flat, name, severity, rng()), flat)
        # rounding to bytes takes a little
        assert float(corrupt(spot, name, severity, rng()).sum()) == pytest.approx(float(spot.sum()), rel=0.06)


def test_a_line_blur_is_its_kernel_summed_pixel_by_pixel():
    image = rng(2).random((21, 26)).astype(np.float32)
    for angle in (-130, -45, 0, 30, 90):
        kernel = line_kernel(3, 2.0, angle).astype(float)
        reach = kernel.shape[0] // 2
        padded = np.pad(image.astype(float), reach, mode='reflect')
        expected = np.array(
            [[(padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1] * kernel).sum() for x in range(26)] for y in range(21)]
        )
        assert np.abs(along_line(image, 3, 2.0, angle) - expected).max() < 1e-5
    weights = line_kernel(2, 1.0, 0)[5, 5:10]
    assert weights == pytest.approx(np.exp(-(np.arange(5) ** 2) / 2) / np.exp(-(np.arange(5) ** 2) / 2).sum(), rel=1e-5)
    assert disk_kernel(4, 0.5).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(('_', 'reach', 'rounds'), GLASS)
def test_glass_moves_pixels_by_swaps_to_near_places(_, reach, rounds):
    order = shuffled((41, 58), reach, rounds, rng())
    assert np.array_equal(np.sort(order.ravel()), np.arange(41 * 58))
    y, x = np.divmod(order, 58)
    moved = np.maximum(np.abs(y - np.arange(41)[:, None]), np.abs(x - np.arange(58)[None]))
    assert 0.5 < (moved > 0).mean() < 1
    assert moved.max() <= reach * rounds * PASSES
    assert moved.mean() < 2.5 * reach


def test_one_pass_of_swaps_is_its_own_inverse(monkeypatch):
    monkeypatch.setattr('mmseg_dafm.datasets.corruptions.camera.PASSES', 1)
    for seed in range(40):
        order = shuffled((17, 23), 3, 1, rng(seed)).ravel()
        assert np.array_equal(order[order], np.arange(17 * 23))


def test_clouds_fill_zero_to_one_and_a_smaller_decay_is_rougher():
    clouds = {decay: plasma((128, 128), decay, rng()) for decay in (1.4, 2.0, 3.0)}
    assert all(field.min() == 0 and field.max() == pytest.approx(1) for field in clouds.values())
    rough = [np.abs(np.diff(field, axis=1)).mean() for field in clouds.values()]
    assert rough == sorted(rough, reverse=True)
    assert np.array_equal(plasma((50, 120), 2.0, rng()), plasma((128, 128), 2.0, rng())[:50, :120]), 'cut from the whole'


def test_fog_is_as_rough_as_the_published_one():
    # mean difference of neighbours on 256x256 maps of the published code, twelve of them
    for decay, published in ((2.0, 0.0026), (1.7, 0.0033), (1.5, 0.0051), (1.4, 0.0081)):
        found = np.mean([np.abs(np.diff(plasma((256, 256), decay, rng(seed)), axis=1)).mean() for seed in range(12)])
        assert 0.9 * published < found < 1.35 * published, (decay, found)


@pytest.mark.parametrize(
    ('name', 'published'),
    [('frost', (59.4, 67.1, 71.3, 67.0, 69.3)), ('spatter', (0.8, 4.4, 7.4, 8.7, 14.1))],
)
def test_drawn_weather_is_as_strong_as_the_published_one(name, published):
    # mean change of this image by the published photographs and filters
    image = draw_path(drawn_path(1, (224, 320), 'clear', 0))
    found = [np.mean([change(image, name, severity, seed) for seed in range(16)]) for severity in SEVERITIES]
    assert found[1:] == pytest.approx(published[1:], rel=0.1)
    assert found[0] == pytest.approx(published[0], rel=0.1 if name == 'frost' else 0.25)


def test_weather_looks_like_its_name(street):
    grey = np.full((96, 144, 3), 90, np.uint8)
    assert corrupt(grey, 'snow', 3, rng()).mean() > 120
    assert corrupt(street, 'fog', 5, rng()).astype(float).std(2).mean() < 0.5 * street.astype(float).std(2).mean()
    ice = corrupt(grey, 'frost', 5, rng()).astype(float)
    assert ice[..., 0].mean() > ice[..., 2].mean(), 'ice is bluish'
    water, mud = (corrupt(grey, 'spatter', severity, rng()).astype(float) for severity in (3, 5))
    assert water.min() >= 90
    assert water.max() > 150
    assert mud.max() <= 90
    assert mud[mud.sum(2) < 200].mean(0) == pytest.approx([20, 42, 63], abs=12)
