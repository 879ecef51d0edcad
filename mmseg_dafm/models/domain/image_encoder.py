"""The CLIP image tower, and the images that it is given."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from mmseg_dafm.core.quiet import quiet_loading
from mmseg_dafm.domino import MID, from_bytes, make_square, resize_short_side, to_bytes
from mmseg_dafm.models.domain.open_clip_models import (
    CLIP_MEAN,
    CLIP_STD,
    Preprocessing,
    create_open_clip,
    import_open_clip,
    needs_quick_gelu,
    open_clip_preprocessing,
)
from mmseg_dafm.models.layers.frozen_tower import FrozenTower, fill

# Facts of the published config.json files, so that a model can be built before its weights are fetched.
_VIT = dict(intermediate_size=3072, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, projection_dim=512)
VISION_CONFIGS = {
    'openai/clip-vit-base-patch32': dict(_VIT, patch_size=32),
    'openai/clip-vit-base-patch16': dict(_VIT, patch_size=16),
    'openai/clip-vit-large-patch14': dict(
        intermediate_size=4096,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        projection_dim=768,
        patch_size=14,
    ),
}
PROVIDERS = ('transformers', 'open_clip')
RESIZES = ('squash', 'clip')


class ImageEncoder(FrozenTower):
    """A CLIP image tower: RGB images in [-1, 1] to embeddings in CLIP's joint space.

    Args:
        provider: ``transformers`` or ``open_clip``.
        model: transformers: hub id or local folder; open_clip: model name such as ``ViT-L-14``.
        pretrained: Where the weights are: transformers: hub id or folder, True for ``model`` itself; open_clip: tag or
            file. None leaves them random. Read by ``init_weights``, before training.
        config: transformers: vision config overriding the known or stored one.
        trainable: Train the tower (Domino, Fig. 2) instead of freezing it.
        image_size: Side in pixels of the square that the tower takes; the whole image is resized to it.
        resize: How the square is made of an image that is resized, by bicubic, to ``image_size`` on its short side:
            ``squash`` stretches, so that the tower sees the whole image; ``clip`` does as the weights' own library, which
            takes the centre for CLIP and stretches for SigLIP.
        mean: Mean of RGB in 0 to 1; None: of the weights' own configuration (open_clip's table, or
            ``preprocessor_config.json`` in a local folder), else OpenAI's.
        std: Standard deviation, as ``mean``.
        save_frozen: Keep a frozen tower in checkpoints.
        quick_gelu: open_clip: the activation that OpenAI's weights were trained with; None: known for tags, else off. Set
            True for a file of OpenAI's weights.

    Raises:
        ValueError: For an unknown provider, resize or model without config, or an ``image_size`` that is not the tower's.

    Deviation: CLIP itself sees the centre. The default stretches, because the centre of a street image of 2:1 is half of
    it, and W is to describe the image; ``resize='clip'`` gives CLIP's view.
    """

    def __init__(
        self,
        provider: str = 'transformers',
        model: str = 'openai/clip-vit-large-patch14',
        pretrained: str | bool | None = True,
        config: dict | None = None,
        trainable: bool = False,
        image_size: int = 224,
        save_frozen: bool = True,
        quick_gelu: bool | None = None,
        resize: str = 'squash',
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        if provider not in PROVIDERS:
            raise ValueError(f'image_encoder.provider={provider!r} is unknown: use one of {PROVIDERS}.')
        if resize not in RESIZES:
            raise ValueError(f'image_encoder.resize={resize!r} is unknown: use one of {RESIZES}.')
        source = model if pretrained is True else pretrained
        super().__init__(source or None, frozen=not trainable, save=save_frozen or trainable)
        self.provider, self.model_name, self.quick_gelu = provider, model, quick_gelu
        self.image_size = image_size
        if provider == 'transformers':
            self.tower, self.out_channels = _build_transformers(model, config, image_size)
            wanted = _stored_preprocessing(source or model)
        else:
            self.tower, self.out_channels = _build_open_clip(model, source, quick_gelu, image_size)
            wanted = open_clip_preprocessing(model, source)
        self.crop = resize == 'clip' and wanted.crop
        self._explicit = mean is not None and std is not None
        for name, given, own in (('mean', mean, wanted.mean), ('std', std, wanted.std)):
            values = torch.tensor(tuple(own if given is None else given), dtype=torch.float32)
            if values.shape != (3,):
                raise ValueError(f'image_encoder.{name}={given!r} must hold three numbers, for R, G and B in 0 to 1.')
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)
        self.freeze()

    @property
    def identifier(self) -> str:
        """Provider and weights, in the form in which embedding files name their model."""
        where = self.source or self.model_name
        return f'transformers:{where}' if self.provider == 'transformers' else f'open_clip:{self.model_name}/{self.source}'

    def view(self, images: Tensor) -> Tensor:
        """The square that the tower sees: uint8 ``(B, 3, H, W)`` to uint8 ``(B, 3, S, S)``, S the ``image_size``."""
        return make_square(resize_short_side(images, self.image_size), self.image_size, self.crop)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: RGB ``(B, 3, H, W)`` in [-1, 1]; squares of ``image_size`` are taken as they are.

        Returns:
            Un-normalised embeddings ``(B, P)``.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if tuple(images.shape[-2:]) != (self.image_size, self.image_size):
                images = from_bytes(self.view(to_bytes(images)), images.dtype)
            pixels = ((images + 1) / 2 - self.mean) / self.std
            if self.provider == 'transformers':
                return self.tower(pixel_values=pixels).image_embeds
            return self.tower(pixels)

    def read_pretrained(self) -> None:
        """Fill the tower from ``source``."""
        where = f'image_encoder.pretrained={self.source!r}'
        if self.provider == 'transformers':
            self._check_stored_mean()
        try:
            if self.provider == 'transformers':
                from transformers import CLIPVisionModelWithProjection

                with quiet_loading():
                    tower, report = CLIPVisionModelWithProjection.from_pretrained(self.source, output_loading_info=True)
                if report['missing_keys']:
                    raise ValueError(f'it lacks {", ".join(sorted(report["missing_keys"])[:3])}')
                state = tower.state_dict()
            else:
                state = create_open_clip(self.model_name, self.source, self.quick_gelu).visual.state_dict()
        except (OSError, ValueError, RuntimeError) as error:
            raise FileNotFoundError(
                f'{where}: no CLIP weights there. Give a local folder or file, or a hub id that this machine can reach '
                f'({type(error).__name__}: {str(error).splitlines()[0][:120]}).'
            ) from error
        fill(self.tower, state, f'the image tower of {where}')

    def _check_stored_mean(self) -> None:
        """Refuse a hub's weights whose own mean or std differ from what is used; a model is built before they are fetched."""
        from transformers import CLIPImageProcessor

        if self._explicit or Path(self.source).is_dir():
            return
        try:
            stored = CLIPImageProcessor.from_pretrained(self.source)
        except (OSError, ValueError):
            return
        found = [torch.tensor(values).view(1, 3, 1, 1).to(self.mean) for values in (stored.image_mean, stored.image_std)]
        if not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, (self.mean, self.std), strict=True)):
            raise ValueError(
                f'image_encoder.pretrained={self.source!r} was trained with other means: set image_encoder.mean='
                f'{list(stored.image_mean)} and image_encoder.std={list(stored.image_std)}.'
            )


def _build_transformers(model: str, config: dict | None, image_size: int) -> tuple[nn.Module, int]:
    """Build a random CLIPVisionModelWithProjection and return it with its joint width."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    if config is None and model not in VISION_CONFIGS:
        if not (Path(model) / 'config.json').is_file():
            raise ValueError(
                f'image_encoder.model={model!r} is not one of {sorted(VISION_CONFIGS)} nor a local folder with config.json: '
                f'give image_encoder.config=dict(hidden_size=..., patch_size=..., projection_dim=...).'
            )
        vision = CLIPVisionConfig.from_pretrained(model)
    else:
        vision = CLIPVisionConfig(**{'image_size': image_size, **VISION_CONFIGS.get(model, {}), **(config or {})})
    if vision.image_size != image_size:
        raise ValueError(
            f'image_encoder.image_size={image_size} and the tower of {model!r} takes {vision.image_size}; make them equal.'
        )
    return CLIPVisionModelWithProjection(vision), vision.projection_dim


def _stored_preprocessing(folder: str) -> Preprocessing:
    """What the preprocessor_config.json of a local folder says; OpenAI's without one, as for hub ids."""
    path = Path(folder).expanduser() / 'preprocessor_config.json'
    if not path.is_file():
        return Preprocessing()
    stored = json.loads(path.read_text(encoding='utf-8'))
    mean, std = stored.get('image_mean') or CLIP_MEAN, stored.get('image_std') or CLIP_STD
    return Preprocessing(tuple(mean), tuple(std), bool(stored.get('do_center_crop', True)))


def _build_open_clip(model: str, source: str | None, quick_gelu: bool | None, image_size: int) -> tuple[nn.Module, int]:
    """Build a random open_clip image tower, with the activation its weights need, and return it with its joint width."""
    open_clip = import_open_clip()
    if model not in open_clip.list_models():
        raise ValueError(f'image_encoder.model={model!r} is no open_clip model; see open_clip.list_models().')
    if quick_gelu is None:
        quick_gelu = source is not None and needs_quick_gelu(model, source)
    visual = create_open_clip(model, quick_gelu=quick_gelu).visual
    own = getattr(visual, 'image_size', image_size)
    if any(side != image_size for side in (own if isinstance(own, tuple | list) else (own,))):
        raise ValueError(f'image_encoder.image_size={image_size} and the tower of {model!r} takes {own}; make them equal.')
    return visual, open_clip.get_model_config(model)['embed_dim']


def to_unit_rgb(inputs: Tensor, preprocessor: BaseDataPreprocessor) -> Tensor:
    """Undo a data preprocessor's normalisation.

    Args:
        inputs: Network input ``(B, 3, H, W)``.
        preprocessor: The ``SegDataPreProcessor`` that made it.

    Returns:
        RGB images ``(B, 3, H, W)`` in [-1, 1].
    """
    if getattr(preprocessor, '_enable_normalize', False):
        inputs = inputs * preprocessor.std + preprocessor.mean
    # mmsegmentation 1.2.2 names the flag without the underscore; images are loaded as BGR
    if not getattr(preprocessor, '_channel_conversion', getattr(preprocessor, 'channel_conversion', False)):
        inputs = inputs.flip(1)
    return inputs / MID - 1


def kept_images(metas: Sequence[dict]) -> list[Tensor] | None:
    """The whole images ``(3, h, w)`` that KeepDomainImage has put into the meta information, or None if any lacks one."""
    if not metas or any(meta.get('domain_img') is None for meta in metas):
        return None
    return [torch.as_tensor(meta['domain_img']) for meta in metas]


def domain_images(
    inputs: Tensor, metas: Sequence[dict], preprocessor: BaseDataPreprocessor, encoder: ImageEncoder, crop: bool
) -> Tensor:
    """Choose and prepare the images for the domain embedding.

    Args:
        inputs: Network input ``(B, 3, H, W)``: crops in training, whole images in test.
        metas: Meta information per image; ``domain_img``, the whole image as RGB uint8 ``(3, h, w)`` (see
            KeepDomainImage), is preferred; ``img_shape`` cuts off padding.
        preprocessor: The data preprocessor, whose normalisation is undone.
        encoder: The image tower, which says how its square is made.
        crop: Use ``inputs`` even if ``domain_img`` is there.

    Returns:
        RGB images ``(B, 3, S, S)`` in [-1, 1], S the tower's ``image_size``.

    Raises:
        ValueError: If the short side of a kept image is below S, so that it would be enlarged.
    """
    kept = kept_images(metas) if not crop else None
    if kept is not None:
        for image in kept:
            if min(image.shape[-2:]) < encoder.image_size:
                raise ValueError(
                    f'domain_img has a short side of {min(image.shape[-2:])} pixels and the image tower takes '
                    f'{encoder.image_size}: set KeepDomainImage.size={encoder.image_size} in every pipeline.'
                )
        square = torch.cat([encoder.view(image[None]) for image in kept])
        return from_bytes(square.to(inputs.device), inputs.dtype)
    images = to_bytes(to_unit_rgb(inputs, preprocessor))
    shapes = [tuple(meta.get('img_shape', inputs.shape[2:])[:2]) for meta in metas] or [tuple(inputs.shape[2:])] * len(inputs)
    if all(shape == tuple(inputs.shape[2:]) for shape in shapes):
        square = encoder.view(images)
    else:
        unpadded = zip(images, shapes, strict=True)
        square = torch.cat([encoder.view(image[None, :, :height, :width]) for image, (height, width) in unpadded])
    return from_bytes(square, inputs.dtype)
