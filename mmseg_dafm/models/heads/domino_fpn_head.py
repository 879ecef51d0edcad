"""DominoFPNHead: mmseg's FPNHead with domain-adaptive normalisation."""

from mmseg.models.decode_heads import FPNHead
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_dafm.models.layers.domino_norm import conditioned


@MODELS.register_module()
class DominoFPNHead(FPNHead):
    """mmseg's FPNHead in which every norm is a :class:`~mmseg_dafm.models.layers.DominoNorm`.

    Args:
        domain_channels: Width of the domain embedding W; None: filled in by DomainAwareEncoderDecoder.
        hidden_channels: Hidden width of each norm's MLP.
        stats: Statistics of the norms: BN, SyncBN, IN, GN or LN.
        num_groups: Groups of the statistics GN.
        norm_domain: Apply LayerNorm to W first.
        **kwargs: Arguments of mmseg's ``FPNHead``; ``norm_cfg`` must not be given.

    Raises:
        ValueError: If ``norm_cfg`` is given, or the width of W is not known.

    Source: Domino, sec. 2.3; the head is VPD's (FPN, 256 channels).
    """

    def __init__(
        self,
        domain_channels: int | None = None,
        hidden_channels: int = 128,
        stats: str = 'BN',
        num_groups: int = 32,
        norm_domain: bool = False,
        **kwargs,
    ):
        if kwargs.get('norm_cfg') is not None:
            raise ValueError("DominoFPNHead builds its own norms: use stats='SyncBN' instead of norm_cfg.")
        if domain_channels is None:
            raise ValueError('DominoFPNHead needs domain_channels, the width of W (768 for CLIP ViT-L/14).')
        kwargs['norm_cfg'] = dict(
            type='DominoNorm',
            domain_channels=domain_channels,
            hidden_channels=hidden_channels,
            stats=stats,
            num_groups=num_groups,
            norm_domain=norm_domain,
        )
        super().__init__(**kwargs)

    def forward(self, inputs: list[Tensor], domain: Tensor | None = None) -> Tensor:
        """Predict logits.

        Args:
            inputs: Neck features ``(B, C, H_i, W_i)``, finest first.
            domain: W ``(B, D)``; None inside ``with conditioned(head, W)``, as the segmentor calls it.

        Returns:
            Logits ``(B, num_classes, H_0, W_0)``.
        """
        with conditioned(self, domain):
            return super().forward(inputs)
