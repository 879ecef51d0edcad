"""Feature drift and weight change against slow formulas in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmseg_dafm.analysis.cka import LinearCKA
from mmseg_dafm.analysis.drift import (
    MEASURES,
    class_cosine,
    cosine,
    image_drift,
    pooled,
    relative_change,
    tensor_kind,
    weight_changes,
)
from mmseg_dafm.analysis.drift_picture import draw_changes, draw_features
from mmseg_dafm.analysis.drift_report import median_changes, number, summarise, to_csv
from mmseg_dafm.analysis.feature_hooks import captured, check_layers, layer_features


def test_measures_of_images_are_numpys():
    x, y = torch.randn(3, 5, 4, 6), torch.randn(3, 5, 4, 6)
    found = image_drift(x, y)
    assert set(found) == set(MEASURES)
    for index in range(3):
        a, b = (part[index].numpy().astype(np.float64) for part in (x, y))
        p, q = a.mean((1, 2)), b.mean((1, 2))
        pixels = [
            a[:, i, j] @ b[:, i, j] / np.linalg.norm(a[:, i, j]) / np.linalg.norm(b[:, i, j]) for i in range(4) for j in range(6)
        ]
        expected = dict(
            pooled_cosine=p @ q / np.linalg.norm(p) / np.linalg.norm(q),
            pixel_cosine=np.mean(pixels),
            l2=np.linalg.norm(q - p),
            relative_l2=np.linalg.norm(q - p) / np.linalg.norm(p),
        )
        assert {key: value[index].item() for key, value in found.items()} == pytest.approx(expected, rel=1e-12)


def test_same_features_do_not_drift_and_negated_ones_are_opposite():
    x = torch.randn(4, 7, 3, 3)
    same, opposite = image_drift(x, x.clone()), image_drift(x, -x)
    assert torch.allclose(same['pooled_cosine'], torch.ones(4, dtype=torch.double), atol=1e-14)
    assert torch.allclose(same['pixel_cosine'], torch.ones(4, dtype=torch.double), atol=1e-14)
    assert not same['l2'].any()
    assert not same['relative_l2'].any()
    assert torch.allclose(opposite['pixel_cosine'], -torch.ones(4, dtype=torch.double), atol=1e-14)
    assert torch.allclose(opposite['relative_l2'], torch.full((4,), 2.0, dtype=torch.double))


def test_zero_and_tiny_features():
    zero, one = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert cosine(zero, zero).item() == 1
    assert cosine(zero, one).item() == cosine(one, zero).item() == 0
    tiny = torch.tensor([[3e-30, 4e-30]])
    assert cosine(tiny, tiny).item() == pytest.approx(1, abs=1e-14)
    assert image_drift(zero, zero)['relative_l2'].item() == 0
    assert math.isnan(image_drift(zero, one)['relative_l2'].item())


def test_local_drift_that_pooling_hides_shows_in_the_positions():
    x = torch.randn(1, 8, 5, 5)
    moved = x.flatten(2)[..., torch.randperm(25)].view_as(x)
    found = image_drift(x, moved)
    assert found['pooled_cosine'].item() == pytest.approx(1, abs=1e-12)
    assert found['pixel_cosine'].item() < 0.5


def test_cosine_by_class_is_a_loop_over_pixels():
    x, y = torch.randn(2, 3, 2, 4), torch.randn(2, 3, 2, 4)
    labels = torch.randint(0, 4, (2, 2, 4))
    labels[0, 0, 0], labels[1, 1, 2] = 255, 9
    sums, counts = class_cosine(x, y, labels, 4)
    values = nn.functional.cosine_similarity(x.double(), y.double(), dim=1)
    for index in range(4):
        members = values[labels == index]
        assert counts[index] == len(members)
        assert sums[index].item() == pytest.approx(members.sum().item(), rel=1e-12)
    # a label map of twice the size, each label as a block of 2 x 2
    large = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(class_cosine(x, y, large, 4)[1], counts)
    assert class_cosine(x, y, torch.where(labels == 1, 255, labels), 4)[1][1] == 0


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: image_drift(torch.ones(1, 2), torch.ones(1, 3)), r'\(1, 2\) and \(1, 3\) cannot be compared'),
        (lambda: image_drift(torch.ones(2), torch.ones(2)), 'need a batch and a channel dimension'),
        (lambda: class_cosine(*[torch.ones(1, 2, 3, 3)] * 2, torch.ones(1, 1, 3, 3), 2), 'cosines by class need'),
        (lambda: LinearCKA().update(torch.ones(2, 3), torch.ones(3, 3)), 'of the same images'),
        (lambda: relative_change(torch.ones(2), torch.ones(3)), r'\(2,\) and \(3,\) cannot be compared'),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def full_cka(x, y):
    """CKA from whole kernel matrices: Song et al., eq. 4, with numpy in float64."""
    x, y = (part.numpy().astype(np.float64) for part in (x, y))
    n, one = len(x), np.ones(len(x))

    def hsic(a, b):
        k, l = a @ a.T, b @ b.T  # noqa: E741
        np.fill_diagonal(k, 0)
        np.fill_diagonal(l, 0)
        ones = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ l) + ones - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


def stream(x, y, sizes):
    cka = LinearCKA()
    for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
        cka.update(a, b)
    return cka.value()


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 60), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.data())
def test_cka_of_any_split_is_that_of_whole_kernels(n, c, d, seed, data):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, generator=generator) + 5
    y = torch.randn(n, d, generator=generator) + x[:, :1] - 9
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=8)))
    sizes = [end - start for start, end in zip([0, *cuts], [*cuts, n], strict=True)]
    expected = full_cka(x, y) if full_cka(x, y) == full_cka(x, y) else math.nan
    found = stream(x, y, sizes)
    assert found == pytest.approx(expected, abs=1e-7, nan_ok=True)
    assert found == pytest.approx(stream(x, y, [n]), abs=1e-9, nan_ok=True)


def test_cka_ignores_rotation_scale_and_shift():
    x, y = torch.randn(40, 6).double(), torch.randn(40, 6).double()
    y = y + x
    rotation = torch.linalg.qr(torch.randn(6, 6).double())[0]
    value = stream(x, y, [40])
    assert stream(x, 3 * y @ rotation + 7, [40]) == pytest.approx(value, abs=1e-10)
    assert stream(x, x @ rotation * 0.01, [13, 27]) == pytest.approx(1, abs=1e-10)
    assert stream(x, y * torch.tensor([9.0, 1, 1, 1, 1, 1]), [40]) != pytest.approx(value, abs=1e-2)


def test_cka_of_unrelated_features_is_near_zero_with_fewer_images_than_channels():
    x, y = torch.randn(50, 400), torch.randn(50, 400)
    centred = [part - part.mean(0) for part in (x, y)]
    plain = centred[0].T @ centred[1]
    norms = [(part.T @ part).norm() for part in centred]
    assert (plain.norm() ** 2 / norms[0] / norms[1]).item() > 0.8
    assert abs(stream(x, y, [25, 25])) < 0.1


def test_cka_is_undefined_for_few_images_or_features_that_do_not_vary():
    assert math.isnan(LinearCKA().value())
    assert math.isnan(stream(torch.randn(3, 2), torch.randn(3, 2), [3]))
    assert math.isnan(stream(torch.ones(9, 2), torch.randn(9, 2), [9]))
    cka = LinearCKA()
    cka.update(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match=r'CKA began with \(3, 3\) channels and now gets \(3, 4\)'):
        cka.update(torch.randn(2, 3), torch.randn(2, 4))


def test_relative_change_is_equation_6():
    before, after = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    a, b = (part.numpy().astype(np.float64).ravel() for part in (before, after))
    assert relative_change(before, after) == pytest.approx(np.sqrt(((b - a) ** 2).sum() / (a**2).sum()), rel=1e-12)
    assert relative_change(before, before.clone()) == 0
    assert relative_change(torch.zeros(3), torch.zeros(3)) == 0
    assert math.isnan(relative_change(torch.zeros(3), torch.ones(3)))


def network(classes=3):
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(4, 4), nn.LayerNorm(4)]
    return nn.Sequential(*layers, nn.Linear(4, classes)).state_dict()


def test_kinds_of_tensors():
    state = network()
    kinds = {name: tensor_kind(name, state) for name in state}
    assert {name: kind for name, kind in kinds.items() if kind != 'other'} == {
        '0.weight': 'conv', '1.weight': 'gamma', '1.bias': 'beta', '1.running_mean': 'mean', '1.running_var': 'variance',
    }  # fmt: skip


def test_changes_against_both_references_and_what_is_left_out():
    before, tuned = network(), network(classes=5)
    converted = {name: value * 2 for name, value in before.items()}
    rows, left_out = weight_changes(before, tuned, converted)
    assert left_out == ['6.weight', '6.bias']
    assert '1.num_batches_tracked' not in [row['tensor'] for row in rows]
    row = next(row for row in rows if row['tensor'] == '0.weight')
    assert row['layer'] == '0'
    assert row['before_conversion'] == relative_change(before['0.weight'], tuned['0.weight'])
    assert row['after_conversion'] == relative_change(converted['0.weight'], tuned['0.weight']) != row['before_conversion']
    # the running mean of a fresh layer is zero, and the zero of the reference stays zero
    assert next(row for row in rows if row['kind'] == 'mean')['before_conversion'] == 0
    rows, _ = weight_changes(before, tuned)
    assert all(str(row['before_conversion']) == str(row['after_conversion']) for row in rows)
    rows, left_out = weight_changes(before, before)
    assert not left_out
    assert not any(row['before_conversion'] for row in rows)


def test_summary_takes_medians_per_domain_and_skips_undefined_values():
    rows = [
        dict(image=str(i), domain=domain, layer='a', method='FT', pooled_cosine=value, pixel_cosine=0.0, l2=1.0,
             relative_l2=math.nan if i else 2.0)
        for i, (domain, value) in enumerate([('x', 0.1), ('x', 0.2), ('y', 0.9), ('x', 0.6)])
    ]  # fmt: skip
    found = summarise(rows, {('FT', 'a', 'x'): 0.5})['FT']['a']
    assert list(found) == ['x', 'y', 'all']
    assert found['x']['median']['pooled_cosine'] == 0.2
    assert found['x']['mean']['pooled_cosine'] == pytest.approx(0.3)
    assert found['x']['mean']['relative_l2'] == 2.0
    assert found['x']['cka'] == 0.5
    assert math.isnan(found['y']['mean']['relative_l2'])
    assert math.isnan(found['y']['cka'])
    assert found['all']['median']['pooled_cosine'] == pytest.approx(0.4)
    assert found['all']['images'] == 4
    assert to_csv(rows[1:2], ('image', 'relative_l2')) == 'image,relative_l2\n1,\n'
    assert number(math.nan) == '-'


def test_one_wild_layer_does_not_move_the_median():
    changes = [dict(kind='mean', before_conversion=value, after_conversion=value) for value in (0.1, 0.2, 0.3, 1e6, math.nan)]
    assert median_changes({'FT': changes}) == {
        'FT': {'mean': dict(layers=5, undefined=1, before_conversion=0.25, after_conversion=0.25)}
    }


def test_pictures_of_an_untouched_network(tmp_path):
    rows = [dict(layer='a', method='LP', pooled_cosine=1.0, pixel_cosine=1.0, l2=0.0) for _ in range(5)]
    draw_features(rows, tmp_path / 'fig1.png')
    state = network()
    draw_changes({'LP': weight_changes(state, state)[0]}, tmp_path / 'fig2.png')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['fig1.png', 'fig2.png']


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head, self.spare = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Identity()
        self.odd = nn.MaxPool2d(2, return_indices=True)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs))


def test_hooks_capture_what_runs_and_leave_nothing_behind():
    model, image = Net().eval(), torch.randn(2, 3, 4, 4)
    found = layer_features(model, dict(inputs=image), ['head', 'backbone'])
    assert list(found) == ['head', 'backbone']
    with torch.no_grad():
        assert torch.equal(found['backbone'], model.backbone(image))
        assert torch.equal(found['head'], model.head(model.backbone(image)))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="'spare' does not run in a test of this model"):
        layer_features(model, dict(inputs=image), ['spare'])
    with pytest.raises(ValueError, match="the model has no 'backbone.layer9'; backbone holds"):
        check_layers(model, ['backbone.layer9'])
    with pytest.raises(ValueError, match="the model has no 'neck'; Net holds backbone, head"):
        check_layers(model, ['neck'])
    with captured(model, ['odd']) as several:
        model.odd(image)
    assert list(several) == ['odd[0]', 'odd[1]']
    model.spare.forward = lambda value: {'out': value}
    with pytest.raises(TypeError, match="'spare' returns dict, expected feature maps"), captured(model, ['spare']):
        model.spare(image)
    assert not model.spare._forward_hooks


def test_pooled_leaves_vectors_alone():
    x = torch.randn(2, 3)
    assert torch.equal(pooled(x), x.double())
    assert torch.allclose(pooled(x[..., None].expand(2, 3, 7)), x.double())
