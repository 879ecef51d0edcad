"""Which layers are converted, which are left alone, and what is said about them."""

import copy

import pytest
import timm
import torch
from mmcv.cnn import ConvModule
from mmseg.models.backbones import ResNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18
from torchvision.ops.misc import FrozenBatchNorm2d

from mmseg_dafm.daft import convert_bn, select_layers
from tests.daft.networks import Net, images, norms, randomise


def trained(model):
    return randomise(model)


def test_layers_that_cannot_be_converted_are_named_with_the_reason():
    model = trained(Net())
    blocks = model.backbone
    blocks[0].bn.register_buffer('running_mean', None)
    blocks[1].bn = nn.BatchNorm2d(8, affine=False)
    blocks[2].bn = FrozenBatchNorm2d(16)
    blocks[3].bn = nn.BatchNorm2d(16)
    before = {name: value.clone() for name, value in blocks[3].bn.state_dict().items()}
    selection = select_layers(model)
    assert list(selection.layers) == ['backbone.4.bn', 'head.2']
    reasons = [selection.skipped[f'backbone.{i}.bn'] for i in range(4)]
    for reason, text in zip(
        reasons, ('track_running_stats', 'affine=False', 'frozen batch norm', 'looks untrained'), strict=True
    ):
        assert text in reason
    blocks[0].bn = nn.BatchNorm2d(8)
    report = convert_bn(model, images(2, 4))
    assert 'skipped backbone.3.bn: it looks untrained' in str(report)
    assert all(torch.equal(value, before[name]) for name, value in blocks[3].bn.state_dict().items())


def test_statistics_alone_do_not_need_gamma_and_beta():
    model = trained(Net())
    model.backbone[1].bn = nn.BatchNorm2d(8, affine=False)
    model.backbone[1].bn.running_mean.fill_(0.3)
    report = convert_bn(model, images(2, 4), mode='stats')
    assert 'backbone.1.bn' in report.layers
    assert model.backbone[1].bn.running_mean.std() > 0


def test_frozen_stages_are_left_alone_and_norm_eval_is_remarked():
    frozen = trained(ResNet(18, base_channels=8, stem_channels=8, frozen_stages=2))
    selection = select_layers(frozen)
    assert {name.split('.')[0] for name in selection.layers} == {'layer3', 'layer4'}
    assert all('frozen' in reason for reason in selection.skipped.values())
    assert {name.split('.')[0] for name in selection.skipped} == {'bn1', 'layer1', 'layer2'}
    norm_eval = trained(ResNet(18, base_channels=8, stem_channels=8, norm_eval=True))
    selection = select_layers(norm_eval)
    assert len(selection.layers) == len(selection.notes) == 20
    assert 'stays in test mode' in selection.notes['bn1']
    everything_frozen = trained(ResNet(18, base_channels=8, stem_channels=8, frozen_stages=4))
    with pytest.raises(ValueError, match='none of the 20 batch norm layers in the model can be converted .*frozen'):
        select_layers(everything_frozen)


def test_parameters_that_do_not_train_are_remarked():
    model = trained(Net())
    model.backbone[0].bn.requires_grad_(False)
    assert select_layers(model).notes == {'backbone.0.bn': 'its gamma and beta do not train'}


def test_a_transformer_has_nothing_to_convert():
    vit = timm.create_model('vit_tiny_patch16_224', depth=1)
    with pytest.raises(ValueError, match='no batch normalisation in the model: VisionTransformer'):
        convert_bn(vit, [torch.randn(1, 3, 224, 224)])


def test_fresh_weights_are_an_error_as_a_whole():
    with pytest.raises(ValueError, match='looks untrained'):
        convert_bn(Net(), images(2, 4))


def test_a_residual_network_without_weights_is_an_error_although_it_starts_some_gammas_at_zero():
    model = ResNet(18, base_channels=8, stem_channels=8)
    model.init_weights()
    assert sum(not layer.weight.any() for layer in norms(model)) == 8, 'the last norm of each block'
    with pytest.raises(ValueError, match='none of the 20 batch norm layers in the model can be converted .*looks untrained'):
        convert_bn(model, images(2, 4, size=64))


def test_a_trained_layer_whose_gammas_are_all_zero_is_converted():
    model = trained(Net())
    nn.init.zeros_(model.backbone[1].bn.weight)
    report = convert_bn(model, images(2, 4))
    assert 'backbone.1.bn' in report.layers
    assert not model.backbone[1].bn.weight.any()


def test_a_layer_that_occurs_twice_counts_both_calls():
    model = trained(Net())
    model.backbone[1].bn = model.backbone[0].bn
    report = convert_bn(model, images(3, 4))
    assert 'backbone.1.bn' not in report.layers
    assert report.layers['backbone.0.bn'].batches == 6


def test_a_part_without_batch_norm_is_an_error_beside_one_that_has_some():
    model = trained(Net())
    with pytest.raises(ValueError, match=r"no batch normalisation in 'backbone.0.conv', 'head.3': take it out of modules="):
        select_layers(model, ['backbone', 'backbone.0.conv', 'head.3'])
    shared = nn.ModuleDict(dict(first=model.backbone[0], second=nn.Sequential(model.backbone[0].bn)))
    assert list(select_layers(shared, ['first', 'second']).layers) == ['first.bn']


def test_the_parts_must_be_a_list():
    model = trained(Net())
    for call in (lambda: convert_bn(model, images(2, 4), 'backbone'), lambda: select_layers(model, 'backbone')):
        with pytest.raises(ValueError, match="modules must be a list of parts, got the string 'backbone'"):
            call()


def test_a_layer_without_data_is_left_alone_and_named():
    model = trained(Net())
    model.unused = trained(nn.BatchNorm2d(4))
    mean = model.unused.running_mean.clone()
    report = convert_bn(model, images(2, 4))
    assert report.skipped == {'unused': 'it saw no data in the forward pass'}
    assert torch.equal(model.unused.running_mean, mean)


def test_a_bypassed_forward_is_an_error():
    module = ConvModule(3, 4, 3, norm_cfg=dict(type='BN'))
    trained(module)
    module.turn_on_efficient_conv_bn_eval()
    with pytest.raises(ValueError, match='efficient_conv_bn_eval: switch it off'):
        convert_bn(module, images(2, 4))


def test_one_pixel_maps_of_one_image_are_an_error_that_names_the_layer():
    with pytest.raises(ValueError, match=r"head\.2 sees one value per channel .* estimator='pooled'"):
        convert_bn(trained(Net()), images(3, 1))
    convert_bn(trained(Net()), images(3, 1), estimator='pooled')


def test_the_last_batch_of_a_default_loader_may_hold_one_image():
    data = TensorDataset(torch.cat(images(9, 1)), torch.zeros(9))
    model = trained(Net())
    twin = copy.deepcopy(model)
    report = convert_bn(model, DataLoader(data, batch_size=4))
    assert (report.layers['head.2'].batches, report.layers['head.2'].left_out) == (2, 1)
    assert (report.layers['backbone.0.bn'].batches, report.layers['backbone.0.bn'].left_out) == (3, 0)
    assert 'note on head.2: batches with one value per channel, left out: 1' in str(report)
    assert report.to_dict()['layers']['head.2']['left_out'] == 1
    convert_bn(twin, DataLoader(data, batch_size=4, drop_last=True))
    assert torch.equal(model.head[2].running_var, twin.head[2].running_var), 'the rest counts'
    assert not torch.equal(model.backbone[0].bn.running_var, twin.backbone[0].bn.running_var)


class TwoScales(nn.Module):
    """One batch norm on a map and on the map at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(x), self.bn(nn.functional.avg_pool2d(x, 4))


@pytest.mark.parametrize('weigh', ['values', 'calls'])
def test_a_layer_at_two_scales_weighs_values_or_calls(weigh):
    model = trained(TwoScales())
    batches = [batch.double() for batch in images(3, 4)]
    report = convert_bn(model.double(), batches, weigh=weigh)
    share = 16 / 17 if weigh == 'values' else 1 / 2
    large, small = (
        torch.stack([scaled(batch).transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
        for scaled in (lambda x: x, lambda x: nn.functional.avg_pool2d(x, 4))
    )
    torch.testing.assert_close(model.bn.running_var, share * large + (1 - share) * small)
    assert (report.layers['bn'].batches, report.weigh) == (6, weigh)
    with pytest.raises(ValueError, match="weigh='calls' needs estimator='batch'"):
        convert_bn(model, batches, estimator='pooled', weigh='calls')
    with pytest.raises(ValueError, match="weigh='images' is unknown"):
        convert_bn(model, batches, weigh='images')


class DomainNorms(nn.Module):
    """Statistics per domain, one gamma and beta for both."""

    def __init__(self, shared: tuple[str, ...]) -> None:
        super().__init__()
        self.source, self.target = trained(nn.BatchNorm2d(3)), trained(nn.BatchNorm2d(3))
        for name in shared:
            setattr(self.target, name, getattr(self.source, name))

    def forward(self, x):
        return self.target(x)


@pytest.mark.parametrize('shared', [('weight', 'bias'), ('bias',), ('running_var',)])
def test_tensors_that_another_layer_shares_are_refused_with_both_names(shared):
    model = DomainNorms(shared)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for modules in (None, ['target']):
        first, second = ('source', 'target') if modules is None else ('target', 'source')
        with pytest.raises(ValueError, match=f'batch norm layer {first} shares its {shared[0]} with {second}'):
            convert_bn(model, images(2, 4), modules)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if 'running_var' not in shared:
        convert_bn(model, images(2, 4), mode='stats')
        assert not torch.equal(model.target.running_var, before['target.running_var'])
        assert torch.equal(model.source.running_var, before['source.running_var'])


class Merging(nn.Module):
    """Adds an update to its weights for test mode, and takes it off for training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.update, self.merged = nn.Conv2d(3, 3, 1, bias=False), torch.full((3, 3, 1, 1), 0.25), False
        self.conv.weight.data = self.conv.weight.data.mul(64).round().div(64)  # exact sums

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.conv.weight.data += self.update * (1 if not mode else -1)
            self.merged = not mode
        return self

    def forward(self, x):
        return self.conv(x) if self.merged else nn.functional.conv2d(x, self.conv.weight + self.update)


@pytest.mark.parametrize('training', [True, False])
def test_a_module_that_merges_weights_for_test_mode_is_switched_back(training):
    model = nn.Sequential(Merging(), nn.BatchNorm2d(3))
    trained(model).train(training)
    model[1].eval()
    weight = model[0].conv.weight.clone()
    convert_bn(model, images(2, 4))
    assert torch.equal(model[0].conv.weight, weight)
    assert model[0].merged is not training
    assert [module.training for module in model.modules()] == [training, training, training, False]


def test_parameters_that_train_mode_freezes_are_given_back():
    model = trained(ResNet(18, base_channels=8, stem_channels=8, frozen_stages=1))
    model.layer1.requires_grad_(True)
    convert_bn(model, images(2, 4, size=64))
    assert all(parameter.requires_grad for parameter in model.layer1.parameters())


@pytest.mark.parametrize('build', [lambda: timm.create_model('resnet18'), resnet18], ids=['timm', 'torchvision'])
def test_libraries_networks_are_converted_whole(build):
    model = trained(build())
    report = convert_bn(model, images(2, 4, size=64))
    assert len(report.layers) == 20
    assert report.verify_error < 1e-5


def test_batch_norms_with_activation_are_found():
    model = trained(timm.create_model('mobilenetv3_small_050'))
    assert convert_bn(model, images(2, 4, size=64)).summary['layers'] == len(norms(model))
