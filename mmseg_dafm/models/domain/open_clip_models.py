"""Whole CLIP models of open_clip, built with the activation that their weights were trained with."""

from torch import nn


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
