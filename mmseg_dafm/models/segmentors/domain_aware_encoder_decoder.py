"""DomainAwareEncoderDecoder: one W per image for backbone, neck and heads; batched sliding windows."""

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.logging import print_log
from mmengine.model import initialize
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_dafm.models.domain.domain_embedding import image_key
from mmseg_dafm.models.domain.image_encoder import domain_images, kept_images
from mmseg_dafm.models.layers.domino_norm import DominoNorm, conditioned
from mmseg_dafm.models.segmentors.wiring import (
    head_losses,
    head_losses_per_image,
    with_domain_channels,
    with_head_channels,
    with_in_channels,
)

Box = tuple[int, int, int, int]


def window_boxes(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Windows that cover an image; the last row and column are moved inwards so that all windows have one size.

    Args:
        size: Image height and width in pixels.
        crop: Window height and width; an image smaller than that is one window of its own size.
        stride: Vertical and horizontal step.

    Returns:
        ``(top, bottom, left, right)`` per window, row by row, as mmseg's slide inference visits them.

    Raises:
        ValueError: If a stride is not in [1, crop], which would leave pixels without prediction.
    """
    axes = []
    for length, window, step in zip(size, crop, stride, strict=True):
        if not 1 <= step <= window:
            raise ValueError(
                f'test_cfg.stride={stride} must be between 1 and crop_size={crop}, or pixels stay without prediction.'
            )
        count = max(length - window + step - 1, 0) // step + 1
        ends = [min(index * step + window, length) for index in range(count)]
        axes.append([(max(end - window, 0), end) for end in ends])
    return [(top, bottom, left, right) for top, bottom in axes[0] for left, right in axes[1]]


GPU_WINDOWS = 8


@MODELS.register_module()
class DomainAwareEncoderDecoder(EncoderDecoder):
    """Segmentor that computes the domain embedding W once per image and hands it to backbone, neck and heads.

    In training W is computed from the whole image when the pipeline supplies it (KeepDomainImage), else from the crop,
    with a warning; in test from the whole image, and all sliding windows share it. Parts that do not take W work unchanged, and
    without ``domain_embedding`` this is mmseg's EncoderDecoder with batched windows and exact padding.

    Args:
        backbone: Config; a backbone with ``uses_domain`` is called with ``(images, W)``.
        decode_head: Config of the decode head; ``in_channels`` may be left out behind a ScalePyramid, or a backbone with
            ``out_channels``.
        neck: Config of the neck; ``in_channels`` may be left out if the backbone has ``out_channels``.
        auxiliary_head: Config or list of configs.
        domain_embedding: Config of a DomainEmbedding.
        train_cfg: mmseg's.
        test_cfg: mmseg's; ``window_batch`` windows run at once in mode ``slide`` (default 8 on a GPU, 1 on a CPU).
        data_preprocessor: mmseg's.
        pretrained: mmseg's old way to set ``backbone.pretrained``; its inference API passes None.
        init_cfg: mmengine's.

    Raises:
        ValueError: If W is needed and there is no ``domain_embedding``, or there is one and nothing takes W; if channel
            counts disagree; if a VPDBackbone is fed anything but images in [-1, 1].

    Source: Domino, Fig. 2.
    """

    warned_of_crops = False

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        neck: dict | None = None,
        auxiliary_head: dict | list | None = None,
        domain_embedding: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ):
        if domain_embedding is not None and not isinstance(domain_embedding, dict):
            raise ValueError(f"domain_embedding={domain_embedding!r} must be a dict with type='DomainEmbedding'.")
        # not EncoderDecoder's: the neck's channels are known only once the backbone stands
        super(EncoderDecoder, self).__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.domain_embedding = None if domain_embedding is None else MODELS.build(domain_embedding)
        width = None if domain_embedding is None else self.domain_embedding.out_channels
        if pretrained is not None:
            backbone = {**backbone, 'pretrained': pretrained}
        self.backbone = MODELS.build(with_domain_channels(backbone, width))
        self._check_normalisation()
        channels = getattr(self.backbone, 'out_channels', None)
        if neck is not None:
            neck = with_in_channels(neck, channels, type(self.backbone).__name__)
            self.neck = MODELS.build(with_domain_channels(neck, width))
            channels = getattr(self.neck, 'map_channels', None)
        self._init_decode_head(with_head_channels(with_domain_channels(decode_head, width), channels))
        self._init_auxiliary_head(with_domain_channels(auxiliary_head, width))
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self._check_domain_use()

    def init_weights(self) -> None:
        """Initialise the parts, then apply ``init_cfg`` on top.

        Unlike mmengine's order, so that a checkpoint of a VPD baseline in ``init_cfg`` still leaves the CLIP tower,
        which it does not hold, with its pretrained weights; and without a log line per U-Net tensor.
        """
        if self._is_init:
            return
        for part in self.children():
            if hasattr(part, 'init_weights'):
                part.init_weights()
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Losses of a batch, and the entropy of alpha as a logged scalar.

        Args:
            inputs: ``(B, 3, H, W)``, preprocessed.
            data_samples: ``SegDataSample`` per image.
        """
        domain, scalars = self._embed_domain(inputs, [sample.metainfo for sample in data_samples])
        inputs, data_samples = self._pad(inputs), [self._pad_labels(sample) for sample in data_samples]
        with conditioned(self, domain):
            losses = head_losses(self, self.extract_feat(inputs, domain), data_samples)
        return {**losses, **scalars}

    def loss_per_image(self, inputs: Tensor, data_samples: list, before: Callable[[int], None]) -> list[dict]:
        """Losses of each image as if it were alone; the backbone runs once, on the whole batch.

        Args:
            inputs: ``(B, 3, H, W)``, preprocessed.
            data_samples: ``SegDataSample`` per image.
            before: Called with the image's number before its heads run.
        """
        domain, _ = self._embed_domain(inputs, [sample.metainfo for sample in data_samples])
        inputs, data_samples = self._pad(inputs), [self._pad_labels(sample) for sample in data_samples]
        with conditioned(self, domain):
            features = self.extract_feat(inputs, domain)
        return head_losses_per_image(self, features, data_samples, before, domain)

    def extract_feat(self, inputs: Tensor, domain: Tensor | None = None) -> tuple[Tensor, ...]:
        """Backbone and neck features of ``(B, 3, H, W)`` under W ``(B, D)``."""
        takes_domain = getattr(self.backbone, 'uses_domain', False)
        features = self.backbone(inputs, domain) if takes_domain else self.backbone(inputs)
        return self.neck(features) if self.with_neck else features

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict], domain: Tensor | None = None) -> Tensor:
        """Logits ``(B, classes, H, W)`` of images ``(B, 3, H, W)``.

        Images are padded to the backbone's ``size_divisor`` and logits cut back, as in training, so that no feature level
        is resampled.
        """
        height, width = inputs.shape[2:]
        padded = self._pad(inputs)
        meta = dict(img_shape=padded.shape[2:], pad_shape=padded.shape[2:])
        with conditioned(self, domain):
            features = self.extract_feat(padded, domain)
            logits = self.decode_head.predict(features, [meta] * len(inputs), self.test_cfg)
        return logits[..., :height, :width]

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits ``(B, classes, H, W)`` in mode ``whole`` or ``slide``; W is computed once, from the whole images."""
        mode = (self.test_cfg or {}).get('mode', 'whole')
        if mode not in ('whole', 'slide'):
            raise ValueError(f"test_cfg.mode={mode!r} is unknown: use 'whole' or 'slide'.")
        domain, _ = self._embed_domain(inputs, batch_img_metas)
        run = self.slide_inference if mode == 'slide' else self.encode_decode
        return run(inputs, batch_img_metas, domain)

    def whole_logits(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits ``(B, classes, H, W)`` in one pass, whatever ``test_cfg`` says: what the model thinks of training crops."""
        return self.encode_decode(inputs, batch_img_metas, self._embed_domain(inputs, batch_img_metas)[0])

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict], domain: Tensor | None = None) -> Tensor:
        """Mean of the logits of overlapping windows, ``test_cfg.window_batch`` windows of each image at once."""
        boxes = window_boxes(tuple(inputs.shape[2:]), tuple(self.test_cfg['crop_size']), tuple(self.test_cfg['stride']))
        step = self.test_cfg.get('window_batch') or (GPU_WINDOWS if inputs.is_cuda else 1)
        batch = len(inputs)
        total, count = 0, inputs.new_zeros((1, 1, *inputs.shape[2:]))
        for start in range(0, len(boxes), step):
            chunk = boxes[start : start + step]
            crops = torch.cat([inputs[..., top:bottom, left:right] for top, bottom, left, right in chunk])
            repeated = None if domain is None else domain.repeat(len(chunk), 1)
            logits = self.encode_decode(crops, batch_img_metas, repeated)
            if start == 0:
                # sums of overlapping windows stay out of half precision
                dtype = torch.promote_types(logits.dtype, torch.float32)
                total = logits.new_zeros((batch, logits.shape[1], *inputs.shape[2:]), dtype=dtype)
            for (top, bottom, left, right), part in zip(chunk, logits.split(batch), strict=True):
                total[..., top:bottom, left:right] += part
                count[..., top:bottom, left:right] += 1
        return total / count

    def _forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor | tuple:
        """Raw output of the decode head: logits ``(B, classes, h, w)``, or whatever else a head gives, as it is (Mask2Former)."""
        domain, _ = self._embed_domain(inputs, [sample.metainfo for sample in data_samples or ()])
        padded = self._pad(inputs)
        with conditioned(self, domain):
            logits = self.decode_head.forward(self.extract_feat(padded, domain))
        if not isinstance(logits, Tensor):
            return logits
        # without the rows and columns that lie in the padding alone
        shapes = zip(inputs.shape[2:], logits.shape[2:], padded.shape[2:], strict=True)
        height, width = (-(-size * part // whole) for size, part, whole in shapes)
        return logits[..., :height, :width]

    def _pad(self, inputs: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` padded at the bottom and right to the backbone's ``size_divisor``."""
        pad = self._padding(inputs.shape[2:])
        return F.pad(inputs, pad) if any(pad) else inputs

    def _pad_labels(self, sample: SegDataSample) -> SegDataSample:
        """A sample whose labels are padded like its image, with ids that count nowhere; itself if none is needed."""
        labels = sample.gt_sem_seg.data
        pad = self._padding(labels.shape[-2:])
        if not any(pad):
            return sample
        padded = sample.new()
        padded.gt_sem_seg = PixelData(data=F.pad(labels, pad, value=self.decode_head.ignore_index))
        return padded

    def _padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """What ``F.pad`` adds to height and width so that the backbone's ``size_divisor`` divides them."""
        divisor = getattr(self.backbone, 'size_divisor', 1)
        return 0, -size[1] % divisor, 0, -size[0] % divisor

    def _embed_domain(self, inputs: Tensor, metas: list[dict]) -> tuple[Tensor | None, dict]:
        """W ``(B, D)`` of a batch and the scalars to log; None and nothing without a domain embedding."""
        module = self.domain_embedding
        if module is None:
            return None, {}
        crop, kept = module.crop and self.training, kept_images(metas)
        if self.training and kept is None and not crop:
            self._warn_of_crops()
        images = domain_images(inputs, metas, self.data_preprocessor, module.image_encoder, crop)
        keys = None if crop or module.cache is None or kept is None else [image_key(image) for image in kept]
        domain, alpha = module(images, keys)
        return domain, module.scalars(alpha)

    @staticmethod
    def _warn_of_crops() -> None:
        """Warn, once per process, that W comes from other images in training than in test."""
        if DomainAwareEncoderDecoder.warned_of_crops:
            return
        DomainAwareEncoderDecoder.warned_of_crops = True
        print_log(
            'In training W is computed from the augmented input (its crop and colours), in test from the whole image, because '
            "samples carry no domain_img. Put dict(type='KeepDomainImage') before the crop and end the pipeline with "
            "dict(type='PackDomainInputs') in place of PackSegInputs; or set domain_embedding.crop=True if that is meant.",
            'current',
            logging.WARNING,
        )

    def _check_domain_use(self) -> None:
        """W must come from somewhere and go somewhere."""
        takers = [name for name, module in self.named_modules() if isinstance(module, DominoNorm)]
        if getattr(self.backbone, 'uses_domain', False):
            takers.insert(0, 'backbone')
        if takers and self.domain_embedding is None:
            raise ValueError(f'{takers[0]} needs the domain embedding W: give the segmentor domain_embedding=dict(...).')
        if self.domain_embedding is not None and not takers:
            raise ValueError(
                'domain_embedding is configured and nothing takes W: set backbone.fuse, use DominoFPNHead, or remove it.'
            )

    def _check_normalisation(self) -> None:
        """A Stable Diffusion VAE takes images in [-1, 1] and nothing else."""
        wanted = getattr(self.backbone, 'input_mean_std', None)
        preprocessor = self.data_preprocessor
        if wanted is None or not getattr(preprocessor, '_enable_normalize', False) or preprocessor.mean.is_meta:
            return
        found = [preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist()]
        if any(value != expected for values, expected in zip(found, wanted, strict=True) for value in values):
            raise ValueError(
                f'data_preprocessor has mean={found[0]} and std={found[1]}, {type(self.backbone).__name__} takes images in '
                f'[-1, 1]: set mean=[{wanted[0]}] * 3 and std=[{wanted[1]}] * 3.'
            )
