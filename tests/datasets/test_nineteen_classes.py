"""The 19 classes: ids of GTAV, SYNTHIA and Mapillary Vistas against what other packages and READMEs state."""

import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset, MapillaryDataset_v1

from mmseg_dafm.datasets.classes import (
    CLASSES,
    MAPILLARY_MAPPINGS,
    SYNTHIA_ABSENT,
    gtav_table,
    label_id_table,
    mapillary_names,
    mapillary_table,
    synthia_table,
)

VISTAS = MapillaryDataset_v1.METAINFO['classes']
# What stays out under both mappings, among it everything that Cityscapes ignores too.
IGNORED = {
    'Bird', 'Ground Animal', 'Guard Rail', 'Barrier', 'Rail Track', 'Bridge', 'Tunnel', 'Mountain', 'Sand', 'Snow', 'Water',
    'Banner', 'Bench', 'Bike Rack', 'Billboard', 'Catch Basin', 'CCTV Camera', 'Fire Hydrant', 'Junction Box', 'Mailbox',
    'Phone Booth', 'Pothole', 'Trash Can', 'Boat', 'Caravan', 'Other Vehicle', 'Trailer', 'Wheeled Slow', 'Car Mount',
    'Ego Vehicle', 'Unlabeled',
}  # fmt: skip


def test_classes_are_cityscapes():
    assert CityscapesDataset.METAINFO['classes'] == CLASSES


@pytest.mark.parametrize('mapping', MAPILLARY_MAPPINGS)
def test_every_class_is_hit_and_every_name_is_that_of_its_id(mapping):
    table = mapillary_table(mapping)
    assert table.shape == (66,)
    assert set(table.tolist()) == {*range(19), 255}
    named = mapillary_names(mapping)
    for name, ids in named.items():
        assert {VISTAS[number] for number in ids} == set(ids.values())
        assert {CLASSES[table[number]] for number in ids} == {name}
    assert sum(map(len, named.values())) == (table != 255).sum()
    # a class that both sets name is mapped to itself
    for number, name in enumerate(VISTAS):
        if name.lower() in CLASSES:
            assert CLASSES[table[number]] == name.lower()
    assert {name for number, name in enumerate(VISTAS) if table[number] == 255} >= IGNORED


def test_the_two_mappings_differ_where_it_is_said():
    rein, hrda = mapillary_table('rein'), mapillary_table('hrda')

    def mapped(table):
        return {name: CLASSES[new] if new != 255 else None for name, new in zip(VISTAS, table, strict=True)}

    of_rein, of_hrda = mapped(rein), mapped(hrda)
    for found in (of_rein, of_hrda):
        assert found['Lane Marking - General'] == 'road'
        assert found['Curb'] == 'sidewalk'
        assert found['Other Rider'] == 'rider'
        assert found['On Rails'] == 'train'
    different = {name: (of_rein[name], of_hrda[name]) for name in VISTAS if of_rein[name] != of_hrda[name]}
    assert different == {
        'Bike Lane': ('road', None),
        'Crosswalk - Plain': ('road', None),
        'Curb Cut': ('sidewalk', None),
        'Parking': ('road', None),
        'Pedestrian Area': ('sidewalk', None),
        'Service Lane': ('road', None),
        'Lane Marking - Crosswalk': ('road', None),
        'Manhole': (None, 'road'),
        'Street Light': ('pole', None),
        'Traffic Sign Frame': ('traffic sign', None),
        'Traffic Sign (Back)': ('traffic sign', None),
    }


def test_rein_maps_by_names():
    """The rule behind the table, from the names alone: the same class, else a word that the name holds."""
    words = (
        ('traffic sign', ('trafficsign',)),
        ('train', ('onrail',)),
        ('rider', ('cyclist', 'rider')),
        ('pole', ('pole', 'streetlight')),
        ('sidewalk', ('curb', 'pedestrianarea')),
        ('road', ('crosswalkplain', 'parking', 'bikelane', 'servicelane', 'lanemarking')),
    )
    plain = {name.replace(' ', ''): number for number, name in enumerate(CLASSES)}
    expected = []
    for name in VISTAS:
        key = name.lower().replace(' ', '').replace('-', '')
        hits = [CLASSES.index(target) for target, parts in words if any(part in key for part in parts)]
        expected.append(plain.get(key, hits[0] if hits else 255))
    np.testing.assert_array_equal(mapillary_table('rein'), expected)


def test_gtav_has_the_ids_of_cityscapes():
    """Ids of cityscapesscripts: name -> id."""
    ids = dict(
        road=7, sidewalk=8, building=11, wall=12, fence=13, pole=17, vegetation=21, terrain=22, sky=23, person=24, rider=25,
        car=26, truck=27, bus=28, train=31, motorcycle=32, bicycle=33, **{'traffic light': 19, 'traffic sign': 20},
    )  # fmt: skip
    table = gtav_table()
    assert {name: CLASSES[table[number]] for name, number in ids.items()} == {name: name for name in ids}
    assert sorted(np.flatnonzero(table != 255)) == sorted(ids.values())
    assert table[34] == 255, 'licence plates'


def test_label_ids_are_the_way_back():
    np.testing.assert_array_equal(gtav_table()[label_id_table()], np.arange(19))


def test_synthia_has_the_names_of_its_readme():
    """The README's list from id 0 on; names in capitals differ from Cityscapes', None is no class of it."""
    readme = [
        None, 'sky', 'building', 'road', 'sidewalk', 'fence', 'vegetation', 'pole', 'car', 'traffic sign', 'PEDESTRIAN',
        'bicycle', 'motorcycle', None, None, 'traffic light', 'terrain', 'rider', 'truck', 'bus', 'train', 'wall', None,
    ]  # fmt: skip
    expected = [255 if name is None else CLASSES.index({'PEDESTRIAN': 'person'}.get(name, name)) for name in readme]
    np.testing.assert_array_equal(synthia_table(), expected)
    assert sorted(synthia_table()[synthia_table() != 255]) == list(range(19))
    assert len(set(CLASSES) - set(SYNTHIA_ABSENT)) == 16


def test_unknown_mapping():
    with pytest.raises(ValueError, match=r"one of \('rein', 'hrda'\), got 'all'"):
        mapillary_table('all')
