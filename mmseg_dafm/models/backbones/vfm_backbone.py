"""VFMBackbone: a vision foundation model (DINOv2, DINOv3, EVA02, CLIP, SAM, MAE) as a segmentation backbone."""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.logging import print_log
from mmengine.model import initialize
from mmseg.models.backbones import TIMMBackbone
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_dafm.models.adapters.adapter import FACTOR, build_adapter, check_adapter_state, is_adapter_key, trainable_parameters
from mmseg_dafm.models.backbones.vfm_weights import fill_vit, read_timm_weights, summary

# timm's ViT for SAM resamples its positions for every image by itself and has no argument for it
ALWAYS_DYNAMIC = {'vision_transformer_sam'}


@MODELS.register_module()
class VFMBackbone(TIMMBackbone):
    """DINOv2, DINOv3, EVA02, CLIP, SAM or MAE from timm: maps of chosen blocks, any crop, complete weights or an error.

    The plain ViT is built without final norm, head and the blocks after the last chosen one, and without weights;
    :meth:`init_weights`, which mmengine calls before training, reads them. Testing with a checkpoint of the whole segmentor
    therefore downloads nothing.

    Every parameter that is built takes part in every output of training, so DDP needs no ``find_unused_parameters``.

    Args:
        model_name: Name of a ViT in timm, with the tag of its weights (``vit_large_patch14_dinov2.lvd142m``).
        out_indices: Blocks whose outputs are returned, counted from 0.
        pretrained: Read weights; False: none, whatever ``weights`` says. A string is taken as ``weights``.
        weights: ``'timm'`` or None: timm's download. Otherwise a local file, see
            :func:`~mmseg_dafm.models.backbones.vfm_weights.read_timm_weights`. timm resamples patch size and position embedding
            to those configured.
        frozen: No gradient, no autograd graph, always in test mode.
        gradient_checkpointing: Recompute blocks in backward: less memory, same gradients.
        adapter: ``dict(type='LoRA', rank=8)``, or ``VPT``, ``AdaptFormer``, ``VQT``, ``Rein`` with their options: the adapter
            trains and the ViT's own weights do not. The ViT follows the mode of the model: timm's rates of dropout and stochastic
            depth are 0 unless ``**kwargs`` sets them, who sets them wants them in training, and a ViT has no statistics that
            training mode could change.
        init_cfg: mmengine's; it takes the place of ``pretrained`` and ``weights``.
        **kwargs: timm's: ``patch_size``, ``img_size``, ``drop_path_rate``, ... ``dynamic_img_size`` is on by default.

    Raises:
        ImportError: If timm is not installed.
        ValueError: If timm has no such ViT or the model no such blocks, or for an adapter that does not fit it.

    Source: Rein (Wei et al., CVPR 2024) for the choice of blocks and the missing norm; FisherTune, sec. 4.1, for the models.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (7, 11, 15, 23),
        pretrained: bool | str | None = True,
        weights: str | None = None,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
        adapter: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        if find_spec('timm') is None:
            raise ImportError('VFMBackbone needs timm: install it with `pip install "mmseg_dafm[vfm]"`.')
        if 'checkpoint_path' in kwargs:
            raise ValueError(f'checkpoint_path={kwargs["checkpoint_path"]!r} would be read without a check: use weights=.')
        import timm

        if not timm.models.is_model_in_modules(model_name.split('.')[0], ALWAYS_DYNAMIC):
            kwargs.setdefault('dynamic_img_size', True)
        try:
            super().__init__(model_name, pretrained=False, out_indices=tuple(out_indices), init_cfg=init_cfg, **kwargs)
        except (RuntimeError, AssertionError, TypeError, IndexError) as error:
            settings = dict(out_indices=tuple(out_indices), **kwargs)
            raise ValueError(f'timm cannot build model_name={model_name!r} with {settings}: {error}.') from error
        vit = getattr(self.timm_model, 'model', None)
        if not hasattr(vit, 'blocks') or len(set(self.timm_model.feature_info.reduction())) != 1:
            raise ValueError(f'model_name={model_name!r} is no plain ViT: use TIMMBackbone for pyramids and convolutions.')
        self.model_name, self.frozen = model_name, frozen
        self.stride = int(self.timm_model.feature_info.reduction()[0])
        # for DomainAwareEncoderDecoder: the pyramid's level of half the size is exact too
        self.size_divisor = 2 * self.stride
        source = pretrained if isinstance(pretrained, str) and weights is None else weights
        self.weights, self.pretrained = None if source == 'timm' else source, bool(pretrained)
        self._filled = False
        vit.set_grad_checkpointing(gradient_checkpointing)
        if frozen and adapter is not None:
            raise ValueError(
                f'backbone.frozen=True would freeze adapter={dict(adapter)} too: remove frozen, the ViT is frozen then.'
            )
        if frozen or adapter is not None:
            self.requires_grad_(False)
        if frozen:
            self.eval()
        self.adapter = None if adapter is None else build_adapter(adapter, vit)
        if adapter is not None:
            trained, base = trainable_parameters(self)
            counts = f'{trained / 1e6:.2f} M of {base / 1e6:.1f} M parameters'
            print_log(f'VFMBackbone: {adapter["type"]} trains {counts}', 'current')

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the outputs."""
        return tuple(self.timm_model.feature_info.channels())

    def init_weights(self) -> None:
        """Read the pretrained weights, once and only if no checkpoint has filled the backbone before.

        Raises:
            FileNotFoundError: If there are no weights where they were sought.
            ValueError: If they do not cover the backbone completely.
        """
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)
        elif self.pretrained and not self._filled:
            vit = self.timm_model.model
            state = read_timm_weights(vit, self.timm_model.pretrained_cfg, self.weights)
            what = f'timm weights of {self.model_name}' if self.weights is None else f'weights={self.weights!r}'
            left = fill_vit(vit, state, what)
            own = sum(not is_adapter_key(key) for key in vit.state_dict())
            print_log(f'VFMBackbone: all {own} tensors from {what}; left over: {summary(left)}', 'current')
        self._filled = self._is_init = True

    def train(self, mode: bool = True) -> 'VFMBackbone':
        """Set the mode; a frozen backbone stays in test mode."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: Normalised RGB ``(B, 3, H, W)``; any H and W. Sides that the patch size s does not divide are padded with
                zeros on the right and below, and the maps cover the padding: let the data preprocessor pad
                (``size_divisor=s``) where the last pixel must not shift.

        Returns:
            For each of ``out_indices`` the patch tokens of that block, before any norm, ``(B, C, ceil(H / s), ceil(W / s))``.
        """
        height, width = images.shape[-2:]
        pad = -width % self.stride, -height % self.stride
        if any(pad):
            images = F.pad(images, (0, pad[0], 0, pad[1]))
        with torch.no_grad() if self.frozen else nullcontext():
            return tuple(self.timm_model(images)) if self.adapter is None else self.adapter(self.timm_model, images)

    # an adapter's factor: files of before it was recorded are complete without it
    optional_in_checkpoints = (FACTOR,)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        own = self.state_dict()
        here = {key: value for key, value in own.items() if is_adapter_key(key)}
        found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        there = {key: value for key, value in found.items() if is_adapter_key(key)}
        check_adapter_state(here, there, None if self.adapter is None else type(self.adapter).__name__, prefix)
        if there and FACTOR in here:
            # checkpoints of before it was recorded are complete without it
            state_dict.setdefault(prefix + FACTOR, here[FACTOR])
        # what a checkpoint has filled must not be replaced when mmengine initialises the weights later
        self._filled = self._filled or all(prefix + key in state_dict for key in own.keys() - here.keys())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
