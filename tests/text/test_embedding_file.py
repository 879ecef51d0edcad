"""Embedding files: round trip, row selection, foreign files and every refusal."""

import copy
import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmseg_dafm.models.domain.embedding_file import (
    EmbeddingBank,
    build_bank,
    hash_embeddings,
    load_embeddings,
    resolve_classes,
    save_embeddings,
    select_rows,
)


def make_bank(names=('road', 'car', 'sky'), projected=True):
    count = len(names)
    pooled = torch.arange(count * 4, dtype=torch.float32).view(count, 4)
    return EmbeddingBank(tuple(names), pooled, pooled[:, :2] * 10 if projected else None, 'tiny', ('a {}',))


@pytest.mark.parametrize('projected', [True, False])
def test_file_round_trip_keeps_everything(tmp_path, projected):
    bank = make_bank(('straße', 'traffic light', '"quoted"'), projected)
    save_embeddings(tmp_path / 'new' / 'bank.safetensors', bank)
    read = load_embeddings(tmp_path / 'new' / 'bank.safetensors')
    assert (read.names, read.model, read.templates) == (bank.names, bank.model, bank.templates)
    assert torch.equal(read.pooled, bank.pooled)
    assert (read.projected is None) if not projected else torch.equal(read.projected, bank.projected)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['bank.safetensors']


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'bank.safetensors'
    save_embeddings(path, make_bank())
    before = path.read_bytes()

    def broken(tensors, target, metadata):
        target.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr('mmseg_dafm.models.domain.embedding_file.save_file', broken)
    with pytest.raises(OSError, match='disk full'):
        save_embeddings(path, make_bank(('x',)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_select_rows_matches_a_lookup_by_name(data):
    names = data.draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8, unique=True))
    bank = make_bank(names)
    wanted = data.draw(st.permutations(names))[: data.draw(st.integers(1, len(names)))]
    chosen = select_rows(bank, wanted, subset=True)
    table = {name: row.tolist() for name, row in zip(bank.names, bank.pooled, strict=True)}
    assert chosen.names == tuple(wanted)
    assert chosen.pooled.tolist() == [table[name] for name in wanted]
    assert chosen.projected.tolist() == [[10 * value for value in table[name][:2]] for name in wanted]


def test_aliases_name_rows_of_the_file():
    chosen = select_rows(make_bank(), ['vehicle', 'road', 'sky'], aliases={'vehicle': 'car'})
    assert chosen.names == ('vehicle', 'road', 'sky')
    assert torch.equal(chosen.pooled, make_bank().pooled[[1, 0, 2]])


def test_mismatch_lists_both_differences_and_the_command(tmp_path):
    save_embeddings(tmp_path / 'bank.safetensors', make_bank())
    with pytest.raises(ValueError) as info:
        build_bank({'path': str(tmp_path / 'bank.safetensors'), 'classes': ['road', 'night bus']})
    message = str(info.value)
    assert "missing from the file ['night bus']" in message
    assert "only in the file ['car', 'sky']" in message
    assert f"tools/embed_text.py --names road 'night bus' --out {tmp_path / 'bank.safetensors'}" in message


def test_extra_rows_need_subset():
    with pytest.raises(ValueError, match=r"missing from the file \[\], only in the file \['car', 'sky'\]"):
        select_rows(make_bank(), ['road'])
    assert select_rows(make_bank(), ['road'], subset=True).names == ('road',)


def test_alias_of_no_class_is_refused():
    with pytest.raises(ValueError, match=r"aliases has keys that are not among the classes: \['bus'\]"):
        select_rows(make_bank(), ['road'], aliases={'bus': 'car'}, subset=True)


def test_vpd_file_of_ade20k(shared):
    path = str(shared / 'weights' / 'vpd_class_embeddings_ade20k.pth')
    classes = ['building', 'sky', 'tree', 'road', 'sidewalk', 'person', 'car']
    bank = build_bank({'path': path, 'row_names': 'ADE20KDataset', 'classes': classes, 'subset': True})
    rows = torch.load(path, weights_only=True)
    assert torch.equal(bank.pooled, rows[[1, 2, 4, 6, 11, 12, 20]])
    assert bank.projected is None
    assert ((bank.pooled.norm(dim=1) > 27) & (bank.pooled.norm(dim=1) < 29.5)).all()


def test_bare_tensor_needs_the_right_number_of_names(tmp_path):
    path = tmp_path / 'class_embeddings.pth'
    torch.save(torch.ones(3, 8), path)
    with pytest.raises(ValueError, match='does not name its 3 rows: set row_names'):
        load_embeddings(path)
    with pytest.raises(ValueError, match='row_names gives 2 names but .* has 3 rows'):
        load_embeddings(path, ['a', 'b'])


def test_pickled_objects_are_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / 'owned'), 'w'))

    torch.save(Payload(), tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='neither .safetensors nor a plain tensor file'):
        load_embeddings(tmp_path / 'evil.pth', ['a'])
    assert not (tmp_path / 'owned').exists()


def test_row_names_on_a_file_with_names_is_refused(tmp_path):
    save_embeddings(tmp_path / 'bank.safetensors', make_bank())
    with pytest.raises(ValueError, match='carries its own names: remove row_names'):
        load_embeddings(tmp_path / 'bank.safetensors', ['a'])


def test_foreign_and_broken_safetensors(tmp_path):
    save_file({'weight': torch.ones(2)}, tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match='has format None, expected'):
        load_embeddings(tmp_path / 'other.safetensors')
    (tmp_path / 'cut.safetensors').write_bytes(b'12')
    with pytest.raises(ValueError, match='is not a whole safetensors file'):
        load_embeddings(tmp_path / 'cut.safetensors')


@pytest.mark.parametrize(
    ('classes', 'arguments'),
    [
        ('CityscapesDataset', '--dataset CityscapesDataset'),
        ('acdc5', '--domains acdc5'),
        (['a b', 'c'], "--names 'a b' c"),
    ],
)
def test_missing_file_names_the_command(tmp_path, classes, arguments):
    path = tmp_path / 'none.safetensors'
    with pytest.raises(FileNotFoundError) as info:
        build_bank({'path': str(path), 'classes': classes})
    assert f'python tools/embed_text.py {arguments} --out {path}' in str(info.value)


def test_resolve_classes():
    from mmseg.datasets import CityscapesDataset

    assert resolve_classes('CityscapesDataset') == tuple(CityscapesDataset.METAINFO['classes'])
    assert resolve_classes(['a', 'b']) == ('a', 'b')
    assert resolve_classes('acdc5')[0] == 'clear'
    with pytest.raises(ValueError, match="classes='NoSuchDataset' is neither a dataset registered"):
        resolve_classes('NoSuchDataset')
    with pytest.raises(ValueError, match=r'dataset BaseSegDataset has no METAINFO'):
        resolve_classes('BaseSegDataset')
    with pytest.raises(TypeError, match='classes must be a dataset name or a list of names'):
        resolve_classes([1, 2])


def test_hash_embeddings_equal_an_independent_computation():
    bank = hash_embeddings(['road'], dim=3, projected_dim=2, scale=2.0)
    for key, dim in (('pooled', 3), ('projected', 2)):
        seed = int(hashlib.sha256(f'{key} road'.encode()).hexdigest(), 16)
        words = [int(word) for word in np.random.PCG64(seed).random_raw(2 * dim)]
        uniform = [((word >> 11) + 1) / 2**53 for word in words]
        expected = [2 * math.sqrt(-2 * math.log(uniform[i])) * math.cos(2 * math.pi * uniform[dim + i]) for i in range(dim)]
        assert getattr(bank, key)[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_hash_embeddings_do_not_depend_on_order_and_are_normal():
    names = [f'class {i}' for i in range(200)]
    forward, backward = hash_embeddings(names), hash_embeddings(names[::-1])
    assert torch.equal(forward.pooled, backward.pooled.flip(0))
    values = forward.pooled.double().flatten()
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((values.abs() < 1).double().mean() - math.erf(math.sqrt(0.5))) < 0.01
    cosine = torch.nn.functional.cosine_similarity(forward.pooled[:1], forward.pooled[1:])
    assert cosine.abs().max() < 0.2


def test_build_bank_leaves_the_config_as_it_is():
    cfg = {'provider': 'hash', 'classes': ['a', 'b'], 'dim': 4, 'projected_dim': 2}
    before = copy.deepcopy(cfg)
    assert build_bank(cfg).projected.shape == (2, 2)
    assert cfg == before


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ({}, "needs either 'path' or 'provider'"),
        ({'path': 'a', 'provider': 'hash'}, "needs either 'path' or 'provider'"),
        ({'path': 'a', 'klasses': ['a']}, r"unknown keys \['klasses'\]"),
        ({'provider': 'hash', 'classes': ['a'], 'path_to': 'x'}, r"unknown keys \['path_to'\]"),
        ({'provider': 'open_clip', 'classes': ['a']}, "provider can only be 'hash'"),
        ({'provider': 'hash'}, "provider='hash' needs classes"),
    ],
)
def test_bad_configs_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_bank(cfg)


def test_aliases_without_classes_are_refused(tmp_path):
    save_embeddings(tmp_path / 'bank.safetensors', make_bank())
    with pytest.raises(ValueError, match='no effect without classes'):
        build_bank({'path': str(tmp_path / 'bank.safetensors'), 'subset': True})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'names': ('a', 'a')}, 'unique'),
        ({'pooled': None, 'projected': None}, 'neither pooled nor projected'),
        ({'pooled': torch.ones(3, 4)}, r'shape \(3, 4\), expected \(2, D\)'),
        ({'pooled': torch.full((2, 4), torch.nan)}, 'not finite'),
    ],
)
def test_inconsistent_banks_are_refused(change, message):
    fields = {'names': ('a', 'b'), 'pooled': torch.ones(2, 4), 'projected': None, 'model': 'm'} | change
    with pytest.raises(ValueError, match=message):
        EmbeddingBank(**fields)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ('cityscapes.safetensors', r"backbone.class_embeddings='cityscapes.safetensors' must be a dict"),
        (['road', 'sky'], 'must be a dict'),
        ({'provider': 'hash', 'classes': []}, 'classes is an empty list'),
        ({'provider': 'hash', 'classes': ()}, 'classes is an empty list'),
    ],
)
def test_strings_and_empty_lists_in_place_of_a_config_are_one_sentence(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_bank(cfg, 'backbone.class_embeddings')
