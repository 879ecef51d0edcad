"""Published ResNet-50 weights (MoCo-v2, SwAV, torchvision, CLIP) in the key names of mmseg's backbones."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from mmseg.models import ResNet, TIMMBackbone
from torch import Tensor

from mmseg_dafm.core.checkpoint import check_finite

CLIP_MODEL = 'resnet50_clip.openai'
# torch's own count of training batches; older files lack it, and nothing reads it while momentum is a number
OPTIONAL = 'num_batches_tracked'
CLIP_CONVS = {'1': 'conv1_1x1', '2': 'conv2_kxk', '3': 'conv3_1x1'}


class Format(NamedTuple):
    """How a publisher names the tensors.

    Attributes:
        prefix: What the backbone's keys begin with, after DDP's ``module.``.
        dropped: Beginnings of the keys that are left out on purpose: heads, momentum encoder, queue, text tower.
        rename: From the publisher's name without prefix to the backbone's.
    """

    prefix: str
    dropped: tuple[str, ...]
    rename: Callable[[str], str]


class ConvertedWeights(NamedTuple):
    """A backbone's complete state dict and where it came from.

    Attributes:
        state: The backbone's key -> float32 tensor; fits ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of the backbone.
        format: Name of the format in `FORMATS`.
        taken: The backbone's key -> key in the source.
        dropped: Keys of the source that were left out on purpose.
    """

    state: dict[str, Tensor]
    format: str
    taken: dict[str, str]
    dropped: list[str]

    def __str__(self) -> str:
        kept = Counter(key.removeprefix('timm_model.').split('.')[0] for key in self.taken)
        left = Counter('.'.join(key.split('.')[:2]) for key in self.dropped)
        rows = [f'format {self.format}: {len(self.taken)} tensors taken, {len(self.dropped)} dropped']
        rows += [f'  taken   {name} ({count})' for name, count in kept.items()]
        rows += [f'  dropped {name} ({count})' for name, count in left.items()]
        return '\n'.join(rows)


def clip_name(key: str) -> str:
    """Name in timm's ``resnet50_clip`` feature extractor of a tensor of OpenAI's visual tower (without ``visual.``).

    A key that the tower does not have comes back as it is.
    """
    stem = re.fullmatch(r'(conv|bn)([123])\.(\w+)', key)
    if stem:
        return f'timm_model.stem_conv{stem[2]}.{stem[1]}.{stem[3]}'
    block = re.fullmatch(r'layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)', key)
    if block:
        return f'timm_model.stages_{int(block[1]) - 1}.{block[2]}.{CLIP_CONVS[block[4]]}.{block[3]}.{block[5]}'
    # a pooling without parameters comes first there, named -1
    shortcut = re.fullmatch(r'layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)', key)
    if shortcut:
        part = ('conv', 'bn')[int(shortcut[3])]
        return f'timm_model.stages_{int(shortcut[1]) - 1}.{shortcut[2]}.shortcut.conv.{part}.{shortcut[4]}'
    return key


CLIP_OUTSIDE = (
    'transformer.', 'token_embedding.', 'ln_final.', 'positional_embedding', 'text_projection', 'logit_scale',
    'input_resolution', 'context_length', 'vocab_size', 'visual.attnpool.',
)  # fmt: skip
FORMATS = {
    'clip': Format('visual.', CLIP_OUTSIDE, clip_name),
    'mocov2': Format('encoder_q.', ('encoder_q.fc.', 'encoder_k.', 'queue'), str),
    'swav': Format('', ('projection_head.', 'prototypes.'), str),
    'torchvision': Format('', ('fc.',), str),
}


def detect_format(state: Mapping[str, Tensor]) -> str:
    """Tell the format of a checkpoint by its keys.

    Args:
        state: Tensors by name, as published.

    Returns:
        A key of `FORMATS`.

    Raises:
        ValueError: If the keys belong to none of them.
    """
    names = common_names(state)
    for name, form in FORMATS.items():
        trunk = all(f'{form.prefix}{key}' in names for key in ('conv1.weight', 'layer1.0.conv1.weight'))
        if trunk and (name != 'swav' or any(key.startswith(form.dropped) for key in names)):
            return name
    raise ValueError(
        f'the format of the checkpoint is none of {", ".join(FORMATS)}: among its {len(state)} keys (first {sorted(state)[:3]}) '
        'there is no ResNet under the prefix of any of them.'
    )


def common_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names as `FORMATS` has them -> names in the file.

    DDP's ``module.`` is stripped where all names have it. A visual tower of CLIP alone, known by its attention pooling, gets the
    ``visual.`` that it has beside the text tower.
    """
    start = 'module.' if all(key.startswith('module.') for key in state) else ''
    tower = 'visual.' if any(key.startswith(f'{start}attnpool.') for key in state) else ''
    return {tower + key.removeprefix(start): key for key in state}


def backbone_shapes(form: str) -> dict[str, torch.Size]:
    """Shapes of all parameters and buffers of the backbone that a format fills.

    Args:
        form: A key of `FORMATS`.

    Returns:
        Key -> shape of mmseg's ``ResNet(depth=50)``, or of ``TIMMBackbone`` with `CLIP_MODEL` for ``'clip'``. Stride and
        dilation change neither.
    """
    with torch.device('meta'):
        clip = form == 'clip'
        model = TIMMBackbone(CLIP_MODEL, pretrained=False, out_indices=(1, 2, 3, 4)) if clip else ResNet(depth=50)
    return {key: value.shape for key, value in model.state_dict().items()}


def convert_resnet50(state: Mapping[str, Tensor], form: str = 'auto') -> ConvertedWeights:
    """Rename a published ResNet-50 so that it fills mmseg's backbone completely.

    Args:
        state: Tensors by name, as published, and nothing else.
        form: A key of `FORMATS`, or ``'auto'``.

    Returns:
        The backbone's state dict in float32, with the report of what was taken and dropped.

    Raises:
        ValueError: For an unknown format, keys that are not understood, wrong shapes, weights that are not finite, or a backbone
            that is not covered completely (``num_batches_tracked`` apart).

    Source: MoCo (facebookresearch/moco, attribute names of ``MoCo``), SwAV (facebookresearch/swav, ``ResNet``), CLIP
    (openai/CLIP, ``ModifiedResNet``): the names of their modules.
    """
    if form == 'auto':
        form = detect_format(state)
    if form not in FORMATS:
        raise ValueError(f'format={form!r} is unknown: use auto or one of {", ".join(FORMATS)}.')
    prefix, left_out, rename = FORMATS[form]
    shapes = backbone_shapes(form)
    taken, dropped, unknown = {}, [], []
    for common, key in common_names(state).items():
        name = rename(common.removeprefix(prefix)) if common.startswith(prefix) else None
        if common.startswith(left_out):
            dropped.append(key)
        elif name in shapes:
            taken[name] = key
        else:
            unknown.append(key)
    _check_coverage(form, shapes, taken, unknown, prefix)
    for name, key in taken.items():
        if state[key].shape != shapes[name]:
            raise ValueError(
                f'{key} has shape {tuple(state[key].shape)}, but {name} of the {form} ResNet-50 needs {tuple(shapes[name])}: the '
                'checkpoint is of another network.'
            )
    check_finite({key: state[key] for key in taken.values()}, 'the checkpoint')
    # CLIP is published in half precision
    converted = {name: state[key].float() if state[key].is_floating_point() else state[key] for name, key in taken.items()}
    return ConvertedWeights(converted, form, taken, dropped)


def _check_coverage(form: str, shapes: Mapping, taken: Mapping, unknown: list[str], prefix: str) -> None:
    """Refuse a checkpoint that leaves a part of the backbone as it was, or holds more than is understood."""
    needed = [name for name in shapes if not name.endswith(OPTIONAL)]
    missing = [name for name in needed if name not in taken]
    if missing:
        raise ValueError(
            f'the checkpoint covers {len(needed) - len(missing)} of the {len(needed)} tensors of the {form} ResNet-50: '
            f'{missing[0]} is missing, sought under the prefix {prefix!r}; give the full checkpoint, or the right --format.'
        )
    if unknown:
        raise ValueError(
            f'{len(unknown)} keys of the checkpoint are not understood as {form} ({unknown[0]} among them): it is of a deeper or '
            'another network; give a ResNet-50, or the right --format.'
        )
