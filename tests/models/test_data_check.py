"""Class embeddings against the classes of the data and of the heads: in the config, in the doctor, and in any tool's run."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_dafm.doctor.config_check import check_config, check_numbers
from mmseg_dafm.doctor.files import check_config_files
from mmseg_dafm.models.domain import data_check
from mmseg_dafm.models.domain.data_check import check_data, check_names, data_classes
from mmseg_dafm.models.heads.config_check import check_head_config
from tests.models_common import CLASSES
from tests.runs.common import tiny_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if not {'_base_', 'suites'} & {*path.parts})
OWN = ['road', 'water', 'boat']


def test_spelling_and_synonyms_do_not_matter_and_differences_are_listed():
    check_names(['Traffic_Light', 'car; automobile', 'bed '], ['traffic light', 'automobile', 'bed'], 'train')
    check_names(['car'], None, 'a set without classes')
    with pytest.raises(ValueError, match=r"name 3 classes, train has 2: without an embedding \['water'\], .* \['car', 'sky'\]"):
        check_names(['road', 'car', 'sky'], ['road', 'water'], 'train')
    with pytest.raises(ValueError, match='name 2 classes, train has 1'):
        check_names(['car', 'automobile'], ['car; automobile'], 'train')


def test_another_order_is_said(monkeypatch):
    found = []
    monkeypatch.setattr(data_check, 'print_log', lambda text, *_: found.append(text))
    check_names(['road', 'car'], ['road', 'car'], 'train')
    assert found == []
    check_names(['road', 'car'], ['car', 'road'], 'train')
    assert 'in another order' in found[0]


def test_classes_of_a_data_set_come_from_its_metainfo_or_its_type():
    assert data_classes(dict(type='BaseSegDataset', metainfo=dict(classes=OWN))) == tuple(OWN)
    assert data_classes(dict(type='mmseg.CityscapesDataset'))[:2] == ('road', 'sidewalk')
    assert data_classes(dict(type='BaseSegDataset')) is None


def own_data(tmp_path, names, classes, heads) -> Config:
    """The tiny run with class embeddings of ``names``, data of ``classes`` and heads of ``heads`` classes."""
    cfg = tiny_config(tmp_path, 1)
    cfg.model.backbone.class_embeddings.classes = names
    cfg.model.decode_head.num_classes = heads
    cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    return cfg


CITYSCAPES = data_classes(dict(type='CityscapesDataset'))
CASES = [
    # three classes under the embeddings and the head of Cityscapes, and with a head of three
    (list(CITYSCAPES), OWN, 19, r"train_dataloader: ToyDriveDataset has 3: without an embedding \['water', 'boat'\]"),
    (list(CITYSCAPES), OWN, 3, r"name 19 classes, .* without being a class \['sidewalk', 'building'"),
    (OWN, OWN, 19, 'model.decode_head.num_classes=19, and model.backbone.class_embeddings name 3 classes'),
]


@pytest.mark.parametrize(('names', 'classes', 'heads', 'message'), CASES)
def test_configs_that_do_not_fit_are_refused_before_anything_is_built(tmp_path, names, classes, heads, message):
    with pytest.raises(ValueError, match=message):
        check_config(own_data(tmp_path, names, classes, heads), ('train_dataloader',))


def test_the_doctor_says_the_same(tmp_path):
    cfg = own_data(tmp_path / 'work', list(CITYSCAPES), OWN, 19)
    cfg.dump(tmp_path / 'own.py')
    problems = [check for check in check_config_files(str(tmp_path / 'own.py')) if not check.ok]
    assert any("without an embedding ['water', 'boat']" in f'{check.found}: {check.fix}' for check in problems)


def test_test_time_augmentation_and_wrapped_sets_are_looked_into(tmp_path):
    cfg = own_data(tmp_path, list(CITYSCAPES), OWN, 19)
    cfg.test_dataloader = dict(dataset=dict(type='DomainConcatDataset', datasets=[cfg.train_dataloader.dataset], pipeline=[]))
    cfg.model = dict(type='SegTTAModel', module=cfg.model)
    with pytest.raises(ValueError, match='test_dataloader: ToyDriveDataset has 3'):
        check_data(cfg, ('test_dataloader',))


def test_a_run_of_any_tool_ends_before_weights_are_read(tmp_path, monkeypatch):
    """As mmseg's own tools/train.py runs it: a config, a Runner and nothing of ours in between."""
    cfg = tiny_config(tmp_path, 1)
    # sets may only name classes of their own
    cfg.train_dataloader.dataset.metainfo = dict(classes=['road', 'sky'])
    cfg.model.backbone.class_embeddings.classes = [*CLASSES[:5], 'lorry']
    cfg.experiment_name = 'names-train'
    runner = Runner.from_cfg(cfg)
    monkeypatch.setattr(runner, 'load_or_resume', lambda: pytest.fail('weights were loaded'))
    with pytest.raises(ValueError, match="ToyDriveDataset has 2: .*'lorry'"):
        runner.train()


def test_a_test_of_any_tool_ends_at_the_first_image(tmp_path):
    cfg = tiny_config(tmp_path, 1)
    cfg.model.backbone.class_embeddings.classes = [*CLASSES[:4], 'tram', 'lorry']
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        loader = cfg.pop(key)
        if key == 'train_dataloader':
            cfg.test_dataloader = {**loader, 'sampler': dict(type='DefaultSampler', shuffle=False)}
    cfg.test_evaluator, cfg.test_cfg = dict(type='DomainIoUMetric'), dict(type='TestLoop')
    cfg.experiment_name = 'names-test'
    with pytest.raises(ValueError, match=r"without an embedding \['sky', 'car'\], .* \['tram', 'lorry'\]"):
        Runner.from_cfg(cfg).test()


def test_whole_images_below_the_towers_size_are_refused(tmp_path):
    cfg = tiny_config(tmp_path, 1)
    check_data(cfg)
    del cfg.train_dataloader.dataset.pipeline[1].size
    check_data(cfg)
    cfg.model.domain_embedding.image_encoder.image_size = 336
    with pytest.raises(ValueError, match=r'train_dataloader: KeepDomainImage keeps 224 pixels and the image tower takes 336'):
        check_data(cfg)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.relative_to(ROOT / 'configs').as_posix())
def test_shipped_configs_fit_their_data(path):
    cfg = Config.fromfile(path)
    embeddings = (cfg.model.backbone or {}).get('class_embeddings')
    if embeddings and 'path' in embeddings:
        # the file need not be there: its rows are chosen by these names
        cfg.model.backbone.class_embeddings = dict(provider='hash', classes=embeddings.classes)
    check_data(cfg)
    check_head_config(cfg)
    check_numbers(cfg)


def test_heads_are_compared_with_data_sets_in_every_config(tmp_path):
    """A head of six classes on 19 trains, and scores next to nothing."""
    cfg = dict(
        model=dict(type='EncoderDecoder', decode_head=dict(type='FCNHead', num_classes=6), auxiliary_head=[dict(num_classes=19)]),
        test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(type='GTAVDataset'))),
    )
    with pytest.raises(ValueError, match=r'decode_head.num_classes=6, and test_dataloader: GTAVDataset has 19 classes'):
        check_data(cfg)
    cfg['model']['decode_head']['num_classes'] = 19
    check_data(cfg)
