"""Mask2Former's decoders and loss from transformers, held so that they are initialised and know mmengine's ranks."""

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerLoss,
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from mmseg_dafm.core.processes import world_size


class RankMeanLoss(Mask2FormerLoss):
    """transformers' loss with the number of masks averaged over mmengine's ranks.

    transformers averages over the ranks of accelerate, and over none without it.

    Attributes:
        average_over_ranks: False keeps the number of this process's masks: a loss of single images, for which processes
            need not make the same number of calls.

    Source: Mask2Former (Cheng et al., CVPR 2022), sec. 3.2 and 3.3.
    """

    average_over_ranks = True

    def get_num_masks(self, class_labels: list[Tensor], device: torch.device) -> Tensor:
        """Mean over ranks of the number of masks in the batch, at least 1."""
        count = torch.tensor(float(sum(len(classes) for classes in class_labels)), device=device)
        if self.average_over_ranks and world_size() > 1:
            all_reduce(count, op='mean')
        return count.clamp(min=1)


class Mask2FormerModules(Mask2FormerPreTrainedModel):
    """Pixel decoder, transformer decoder, class predictor and loss of Mask2Former, without a backbone.

    A ``Mask2FormerPreTrainedModel``, because built bare these modules hold uninitialised memory.

    Args:
        config: transformers' configuration; its backbone is not used.
        in_channels: Channels of the four feature maps, finest first.
    """

    def __init__(self, config: Mask2FormerConfig, in_channels: Sequence[int]):
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, feature_channels=list(in_channels))
        self.transformer_module = Mask2FormerTransformerModule(in_features=config.feature_size, config=config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.loss_weights = dict(
            loss_cross_entropy=config.class_weight, loss_mask=config.mask_weight, loss_dice=config.dice_weight
        )
        self.criterion = RankMeanLoss(config, self.loss_weights)
        # transformers < 5 fixes the class cost at 1
        self.criterion.matcher.cost_class = config.class_weight
        self.post_init()

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict.

        Args:
            features: Maps of strides 4, 8, 16 and 32 ``(B, C_i, H_i, W_i)``.

        Returns:
            Class logits ``(B, Q, C + 1)`` and mask logits ``(B, Q, H_0, W_0)`` of the queries themselves and after each layer
            of the transformer decoder, last layer last.
        """
        # as in the original: deformable attention is not meant for half precision
        with torch.autocast(features[0].device.type, enabled=False):
            pixels = self.pixel_decoder(
                [x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in features],
                output_attentions=False,
                output_hidden_states=False,
                return_dict=True,
            )
        decoded = self.transformer_module(
            multi_scale_features=pixels.multi_scale_features,
            mask_features=pixels.mask_features,
            output_hidden_states=True,
            output_attentions=False,
        )
        classes = [self.class_predictor(states.transpose(0, 1)) for states in decoded.intermediate_hidden_states]
        return classes, list(decoded.masks_queries_logits)

    def losses(
        self, class_logits: Sequence[Tensor], mask_logits: Sequence[Tensor], classes: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Weighted losses of every layer, in full precision.

        Args:
            class_logits: As :meth:`forward` gives them.
            mask_logits: Likewise.
            classes: Classes ``(N_b,)`` of each image.
            masks: Masks ``(N_b, H, W)`` of each image.

        Returns:
            ``loss_cross_entropy``, ``loss_mask`` and ``loss_dice`` of the last layer, and of layer i with ``_i`` at the end.
        """
        with torch.autocast(mask_logits[0].device.type, enabled=False):
            predictions = [
                dict(class_queries_logits=scores.float(), masks_queries_logits=maps.float())
                for scores, maps in zip(class_logits, mask_logits, strict=True)
            ]
            found = self.criterion(
                **predictions[-1], mask_labels=list(masks), class_labels=list(classes), auxiliary_predictions=predictions[:-1]
            )
            return {
                key: value * weight
                for key, value in found.items()
                for name, weight in self.loss_weights.items()
                if key.startswith(name)
            }
