"""ReinEncoderDecoder: Rein's tokens become the object queries of Mask2Former."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.models.adapters.rein import Rein
from mmseg_dafm.models.heads.hf_mask2former_head import HFMask2FormerHead
from mmseg_dafm.models.segmentors.domain_aware_encoder_decoder import DomainAwareEncoderDecoder


class GivenQueries(nn.Module):
    """Stands where Mask2Former keeps its learned query features, and gives those that it was given last.

    Attributes:
        weight: ``(Q, C)``.
    """

    weight: Tensor | None = None

    def __deepcopy__(self, memo: dict) -> 'GivenQueries':
        """A copy without queries: those at hand belong to a graph, which cannot be copied."""
        return GivenQueries()


@MODELS.register_module()
class ReinEncoderDecoder(DomainAwareEncoderDecoder):
    """Segmentor with a Rein backbone whose tokens are the object queries of its Mask2Former head.

    Each pass through the backbone computes the queries anew and hands them to the head, whose own query features are not built;
    its query positions are learned as usual.

    Args:
        backbone: Config of a VFMBackbone with ``adapter=dict(type='Rein', query_channels=...)``.
        decode_head: Config of an HFMask2FormerHead with as many queries as Rein has tokens and as many ``channels``.
        **kwargs: DomainAwareEncoderDecoder's.

    Raises:
        ValueError: If backbone and head do not fit.

    Source: Rein (Wei et al., CVPR 2024), sec. 3.3. Our choice: the query features are replaced, not the positions.
    """

    def __init__(self, backbone: dict, decode_head: dict, **kwargs):
        super().__init__(backbone=backbone, decode_head=decode_head, **kwargs)
        adapter = getattr(self.backbone, 'adapter', None)
        if not isinstance(adapter, Rein) or adapter.query_channels is None:
            raise ValueError(
                "model.type='ReinEncoderDecoder' needs backbone.adapter=dict(type='Rein', query_channels=...): set it, or use "
                'DomainAwareEncoderDecoder.'
            )
        if not isinstance(self.decode_head, HFMask2FormerHead):
            raise ValueError(
                f"model.type='ReinEncoderDecoder' needs decode_head.type='HFMask2FormerHead', got "
                f'{type(self.decode_head).__name__}: use DomainAwareEncoderDecoder and leave query_channels out.'
            )
        decoder = self.decode_head.mask2former.transformer_module
        wanted, given = tuple(decoder.queries_features.weight.shape), (adapter.left.shape[1], adapter.query_channels)
        if wanted != given:
            raise ValueError(
                f'backbone.adapter of Rein gives (tokens, query_channels)={given}, but decode_head has (num_queries, channels)='
                f'{wanted}: make them equal.'
            )
        decoder.queries_features = GivenQueries()
        adapter.linked = True

    def extract_feat(self, inputs: Tensor, domain: Tensor | None = None) -> tuple[Tensor, ...]:
        """Maps of the neck for ``(B, 3, H, W)``; the head gets its queries."""
        decoder = self.decode_head.mask2former.transformer_module
        # under autocast the linear layers give half precision, which learned query features never have
        decoder.queries_features.weight = self.backbone.adapter.object_queries().to(decoder.queries_embedder.weight.dtype)
        return super().extract_feat(inputs, domain)
