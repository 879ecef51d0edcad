"""Whole CLIP models of open_clip, with the activation and the preprocessing that their weights were trained with."""

import logging
from typing import NamedTuple

from mmengine.logging import print_log
from torch import nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Preprocessing(NamedTuple):
    """What an image tower's weights want: mean and std of RGB in 0 to 1, and the centre of the image or all of it, stretched."""

    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    crop: bool = True


def open_clip_preprocessing(model: str, source: str | None) -> Preprocessing:
    """The preprocessing of published weights, from open_clip's own table.

    Args:
        model: Architecture name.
        source: Tag of published weights, a local file, or None.

    Returns:
        For a file, or without weights, what all published weights of the architecture agree on; OpenAI's where there are
        none, or where they differ (with a warning for a file).

    Source: the table of open_clip, `open_clip.get_pretrained_cfg`.
    """
    open_clip = import_open_clip()
    model = model.replace('/', '-')
    entry = open_clip.get_pretrained_cfg(model, source) if source else {}
    if entry:
        if entry.get('interpolation', 'bicubic') != 'bicubic':
            print_log(
                f'{model}/{source} was trained on images resized by {entry["interpolation"]}; here all are resized by bicubic.',
                'current',
                logging.WARNING,
            )
        return _as_preprocessing(entry)
    found = {
        _as_preprocessing(open_clip.get_pretrained_cfg(model, tag)) for tag in open_clip.list_pretrained_tags_by_model(model)
    }
    if len(found) == 1:
        return found.pop()
    if found and source:
        means = sorted({entry.mean for entry in found})
        print_log(
            f'image_encoder.pretrained={source!r} does not tell its mean and std, and published weights of {model} differ '
            f"(means {means}): OpenAI's are used; set image_encoder.mean and std if the file wants others.",
            'current',
            logging.WARNING,
        )
    return Preprocessing()


def _as_preprocessing(entry: dict) -> Preprocessing:
    """An entry of open_clip's table; its mode `shortest` is the centre."""
    mean, std = entry.get('mean') or CLIP_MEAN, entry.get('std') or CLIP_STD
    return Preprocessing(tuple(mean), tuple(std), entry.get('resize_mode', 'shortest') == 'shortest')


def needs_quick_gelu(model: str, tag: str) -> bool:
    r"""Say whether published weights were trained with QuickGELU, \( x \, \sigma(1.702 x) \), in place of GELU.

    Args:
        model: Architecture name of open_clip, such as ``ViT-L-14`` (``ViT-L/14`` is the same).
        tag: Name of published weights, such as ``openai``.

    Returns:
        What open_clip's table says; False for weights that the table does not hold, such as a local file.

    Raises:
        ImportError: If open_clip is not installed.

    Source: the table of open_clip, `open_clip.get_pretrained_cfg`.
    """
    return bool(import_open_clip().get_pretrained_cfg(model.replace('/', '-'), tag).get('quick_gelu', False))


def create_open_clip(model: str, pretrained: str | None = None, quick_gelu: bool | None = None) -> nn.Module:
    """Build an open_clip model on the CPU, with QuickGELU where its weights or the caller ask for it.

    open_clip itself only warns when the weights want another activation than the architecture's name says, as those of
    OpenAI do, and then computes something else than the published model.

    Args:
        model: Architecture name, or ``hf-hub:owner/name`` or ``local-dir:folder``, which bring their own weights.
        pretrained: Weights: a tag or a local file; None leaves the weights random.
        quick_gelu: True asks for QuickGELU whatever the weights are, as a local file of OpenAI's weights or a model that
            gets its weights later needs; None and False leave the choice to the tag and the architecture.

    Returns:
        The whole model, image and text tower, in training mode as open_clip leaves it.

    Raises:
        ImportError: If open_clip is not installed.
        RuntimeError: If open_clip knows neither the model nor the weights, or could not load the weights.
    """
    open_clip = import_open_clip()
    force = bool(quick_gelu) or (pretrained is not None and needs_quick_gelu(model, pretrained))
    return open_clip.create_model(
        model,
        pretrained=pretrained,
        force_quick_gelu=force,
        # A model that ought to have weights never stays random in silence.
        require_pretrained=pretrained is not None or ':' in model,
        # Nothing but tensors is unpickled.
        weights_only=True,
    )


def import_open_clip():
    """The library; an ImportError says how to install it."""
    try:
        import open_clip
    except ImportError as error:
        raise ImportError("provider 'open_clip' needs open_clip: pip install open_clip_torch") from error
    return open_clip
