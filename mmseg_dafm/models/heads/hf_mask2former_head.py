"""HFMask2FormerHead: Mask2Former of transformers as a decode head, and the semantic map of its masks."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import initialize
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor
from transformers import Mask2FormerConfig

from mmseg_dafm.models.heads.mask2former_modules import Mask2FormerModules

# a logit whose sigmoid, cross-entropy against 0 and gradient are all exactly zero in float32
BACKGROUND = -1e4


def class_masks(label: Tensor, num_classes: int, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """One binary mask for each class that occurs in a label map.

    Args:
        label: Class of each pixel ``(H, W)``, integer, or ``ignore_index``.
        num_classes: Number of classes C.
        ignore_index: Pixels in no mask.

    Returns:
        Masks ``(N, H, W)`` of 0. and 1., and their classes ``(N,)`` in ascending order; N = 0 if all pixels are ignored.

    Raises:
        ValueError: If a label is neither a class nor ``ignore_index``.
    """
    classes = label.unique()
    classes = classes[classes != ignore_index]
    if len(classes) and not 0 <= int(classes[0]) <= int(classes[-1]) < num_classes:
        raise ValueError(
            f'the ground truth holds the labels {classes.tolist()}, but num_classes={num_classes} and '
            f'ignore_index={ignore_index}: set num_classes, or reduce_zero_label in the data set.'
        )
    return (label == classes[:, None, None]).float(), classes.long()


def hide_ignored(mask_logits: Tensor, ignored: Tensor) -> Tensor:
    """Make ignored pixels confident background, which costs nothing because no mask holds them.

    A cell of the logits is hidden if it and its eight neighbours lie in the ignored region: then no point outside that
    region, wherever it is sampled, is interpolated from a hidden cell (masks at least twice as coarse as labels).

    Args:
        mask_logits: ``(B, Q, h, w)``.
        ignored: True where the label map is to be ignored ``(B, H, W)``.

    Returns:
        The logits, -10,000 and without gradient in hidden cells.
    """
    covered = F.adaptive_avg_pool2d(ignored[:, None].float(), mask_logits.shape[-2:]) == 1
    hidden = -F.max_pool2d(-covered.float(), 3, stride=1, padding=1) == 1
    return mask_logits.masked_fill(hidden, BACKGROUND)


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""Score of each class at each pixel.

    .. math:: s_{chw} = \sum_q \mathrm{softmax}(p_q)_c \, \sigma(m_{qhw}), \quad c \ne \text{no object}

    Args:
        class_logits: p, ``(B, Q, C + 1)``, "no object" last.
        mask_logits: m, ``(B, Q, h, w)``.

    Returns:
        Scores ``(B, C, h, w)``, not negative.

    Source: MaskFormer (Cheng et al., NeurIPS 2021), sec. 3.4, semantic inference.
    """
    # a sum over a hundred queries: not in half precision
    with torch.autocast(mask_logits.device.type, enabled=False):
        return torch.einsum('bqc,bqhw->bchw', class_logits.float().softmax(-1)[..., :-1], mask_logits.float().sigmoid())


@MODELS.register_module()
class HFMask2FormerHead(BaseDecodeHead):
    """Mask2Former head on transformers' modules, without mmdet and compiled operators; set loss after every layer.

    The defaults are Rein's. The loss is transformers' ``Mask2FormerLoss``: Hungarian matching, cross-entropy over classes and
    "no object", binary cross-entropy and dice at sampled points.

    Args:
        in_channels: Channels of the four maps of strides 4, 8, 16 and 32.
        num_classes: Classes without "no object".
        in_index: Which of the inputs these maps are.
        channels: Width of both decoders, a multiple of 32.
        num_queries: Queries Q.
        encoder_layers: Layers of the pixel decoder's deformable encoder.
        decoder_layers: Layers of the transformer decoder.
        num_heads: Attention heads of both.
        encoder_ffn: Hidden width of the encoder's MLPs.
        decoder_ffn: Hidden width of the decoder's MLPs.
        class_weight: Weight of the class loss and of its matching cost.
        mask_weight: The same of the binary cross-entropy of masks.
        dice_weight: The same of the dice loss.
        no_object_weight: Weight of "no object" in the class loss.
        num_points: Points at which masks are compared.
        oversample_ratio: Candidates per point in the choice of uncertain points.
        importance_sample_ratio: Share of the points that is chosen by uncertainty.
        ignore_index: Label without a loss.
        align_corners: Must be False, as points are sampled so.
        init_cfg: mmengine's.

    Raises:
        ImportError: If scipy is not installed.
        ValueError: For settings that Mask2Former cannot have.

    Source: Mask2Former (Cheng et al., CVPR 2022); the settings are those of Rein (Wei et al., CVPR 2024).
    Deviation: ignored pixels. The original counts them as background of every mask; here they cost nothing, a margin of one
    to two cells of the mask grid (stride 4) at their border excepted. Without ignored pixels the losses are transformers'.
    """

    # what predict gives are sums over queries, not logits: a distribution once divided by their sum
    predicts_scores = True

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        in_index: Sequence[int] = (0, 1, 2, 3),
        channels: int = 256,
        num_queries: int = 100,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        num_heads: int = 8,
        encoder_ffn: int = 1024,
        decoder_ffn: int = 2048,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: dict | None = None,
    ):
        if find_spec('scipy') is None:
            raise ImportError('HFMask2FormerHead needs scipy for the matching: install it with `pip install "mmseg_dafm[vfm]"`.')
        if len(in_channels) != 4 or len(in_index) != 4:
            raise ValueError(
                f'in_channels={tuple(in_channels)} and in_index={tuple(in_index)} must name four maps: strides 4, 8, 16, 32.'
            )
        if channels % 32 or channels % num_heads:
            raise ValueError(f'channels={channels} must be a multiple of 32 (group norm) and of num_heads={num_heads}.')
        if align_corners:
            raise ValueError('HFMask2FormerHead samples points between pixel centres: set align_corners=False.')
        super().__init__(
            list(in_channels),
            channels,
            num_classes=num_classes,
            dropout_ratio=0,
            in_index=list(in_index),
            input_transform='multiple_select',
            # built by the parent and not used; this setting keeps it from warning
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
            ignore_index=ignore_index,
            align_corners=False,
            init_cfg=init_cfg,
        )
        # of the pixel-wise heads; the convolution would never get a gradient
        del self.conv_seg, self.loss_decode
        config = Mask2FormerConfig(
            num_labels=num_classes,
            feature_size=channels,
            mask_feature_size=channels,
            hidden_dim=channels,
            num_queries=num_queries,
            encoder_layers=encoder_layers,
            # transformers counts the queries' own prediction as a layer
            decoder_layers=decoder_layers + 1,
            num_attention_heads=num_heads,
            encoder_feedforward_dim=encoder_ffn,
            dim_feedforward=decoder_ffn,
            class_weight=class_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            no_object_weight=no_object_weight,
            train_num_points=num_points,
            oversample_ratio=oversample_ratio,
            importance_sample_ratio=importance_sample_ratio,
            dropout=0.0,
        )
        self.mask2former = Mask2FormerModules(config, in_channels)

    def init_weights(self) -> None:
        """Apply ``init_cfg`` only: transformers' own initialiser has run, and must not run again over loaded weights."""
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)
        self._is_init = True

    def forward(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits ``(B, Q, C + 1)`` and mask logits ``(B, Q, H / 4, W / 4)`` of every layer, last layer last."""
        return self.mask2former(self._transform_inputs(inputs))

    def loss_by_feat(self, seg_logits: tuple[list[Tensor], list[Tensor]], batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of every layer and the pixel accuracy of the last.

        Args:
            seg_logits: What :meth:`forward` gives.
            batch_data_samples: mmseg's samples with ``gt_sem_seg`` of one size ``(1, H, W)``.

        Returns:
            Weighted losses, see :meth:`Mask2FormerModules.losses`, and ``acc_seg`` in %.

        Raises:
            ValueError: If a label is neither a class nor ``ignore_index``.
        """
        class_logits, mask_logits = seg_logits
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        masks, classes = zip(*(class_masks(label, self.num_classes, self.ignore_index) for label in labels), strict=True)
        ignored = labels == self.ignore_index
        compared = [hide_ignored(maps.float(), ignored) for maps in mask_logits] if ignored.any() else mask_logits
        losses = self.mask2former.losses(class_logits, compared, classes, masks)
        with torch.no_grad():
            scores = semantic_scores(class_logits[-1], mask_logits[-1])
            scores = resize(scores, labels.shape[1:], mode='bilinear', align_corners=False)
            losses['acc_seg'] = accuracy(scores, labels, ignore_index=self.ignore_index)
        return losses

    def predict_by_feat(self, seg_logits: tuple[list[Tensor], list[Tensor]], batch_img_metas: list[dict]) -> Tensor:
        """Scores of the last layer; mask logits are resized as mmseg resizes logits, before their sigmoid.

        Args:
            seg_logits: What :meth:`forward` gives.
            batch_img_metas: mmseg's meta information.

        Returns:
            Class scores ``(B, C, H, W)``, not negative, of the size of the padded image or of the window.
        """
        class_logits, mask_logits = seg_logits
        masks = super().predict_by_feat(mask_logits[-1].float(), batch_img_metas)
        return semantic_scores(class_logits[-1], masks)
