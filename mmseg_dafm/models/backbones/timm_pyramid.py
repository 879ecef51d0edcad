"""TIMMPyramid: a convolutional network of timm whose weights are read before training, complete or refused."""

from collections.abc import Sequence
from importlib.util import find_spec

from mmengine.logging import print_log
from mmengine.model import BaseModule, initialize
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_dafm.models.backbones.mask_clip import ValuePool
from mmseg_dafm.models.backbones.vfm_weights import read_timm_weights, summary

# what ends a classifier in timm's names
HEADS = ('fc.', 'head.', 'classifier.')


@MODELS.register_module()
class TIMMPyramid(BaseModule):
    """Maps of the stages of a convolutional network from timm, value features of CLIP's ResNets; complete weights or an error.

    Unlike mmseg's ``TIMMBackbone`` it is built without weights; :meth:`init_weights`, which mmengine calls before training,
    reads them and refuses a file that leaves a part untouched. Its tensors have timm's names.

    Args:
        model_name: Name in timm, with the tag of its weights (``resnetrs420.tf_in1k``, ``resnet101_clip.openai``).
        out_indices: Stages whose maps are returned; 0 is the stem (stride 2), 4 the last stage (stride 32).
        pretrained: Read weights.
        weights: ``'timm'`` or None: timm's download. Otherwise a local file in timm's format.
        value_features: For CLIP's ResNets: the last map goes through the value projection of the attention pooling, as in
            MaskCLIP, and has the width of the text space.
        init_cfg: mmengine's; it takes the place of ``pretrained`` and ``weights``.
        **kwargs: timm's.

    Raises:
        ImportError: If timm is not installed.
        ValueError: If timm has no such network, or not of this kind.

    Source: Domino, Table 1 (ResNetRS-420, CLIP RN101).
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        pretrained: bool = True,
        weights: str | None = None,
        value_features: bool = False,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(init_cfg)
        if find_spec('timm') is None:
            raise ImportError('TIMMPyramid needs timm: install it with `pip install "mmseg_dafm[vfm]"`.')
        import timm

        try:
            network = timm.create_model(model_name, pretrained=False, **kwargs)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f'timm cannot build model_name={model_name!r} with {kwargs}: {error}.') from error
        infos = list(getattr(network, 'feature_info', ()))
        if not infos or len({info['reduction'] for info in infos}) != len(infos) or not hasattr(network, 'forward_intermediates'):
            raise ValueError(f'model_name={model_name!r} has no stages of different stride: use VFMBackbone for plain ViTs.')
        self.out_indices = tuple(out_indices)
        if not self.out_indices or not all(0 <= i < len(infos) for i in self.out_indices):
            raise ValueError(f'out_indices={self.out_indices}: {model_name} has stages 0 to {len(infos) - 1}.')
        # tensors of stages that are pruned may be left over
        self._whole = frozenset(network.state_dict())
        channels = [infos[i]['num_chs'] for i in self.out_indices]
        if value_features:
            if self.out_indices[-1] != len(infos) - 1:
                raise ValueError(f'value_features=True needs the last stage, {len(infos) - 1}, at the end of out_indices.')
            pool = ValuePool(getattr(network, 'head', None))
            network.head, channels[-1] = pool, pool.proj.out_features
        # stages and a classifier that nobody reads would never get a gradient
        last = self.out_indices[-1]
        if value_features:
            network.prune_intermediate_layers([last], prune_norm=False, prune_head=False)
        else:
            network.prune_intermediate_layers([last], prune_norm=True, prune_head=True)
        self.model_name, self.out_channels, self.value_features = model_name, tuple(channels), value_features
        self.weights, self.pretrained = None if weights == 'timm' else weights, pretrained
        self.network, self._filled = network, False
        self.size_divisor = max(infos[i]['reduction'] for i in self.out_indices)

    def init_weights(self) -> None:
        """Read the pretrained weights, once and only if no checkpoint has filled the network before.

        Raises:
            FileNotFoundError: If there are no weights where they were sought.
            ValueError: If they do not cover the network completely.
        """
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)
        elif self.pretrained and not self._filled:
            what = f'timm weights of {self.model_name}' if self.weights is None else f'weights={self.weights!r}'
            state = read_timm_weights(self.network, self.network.pretrained_cfg, self.weights)
            left = self._fill(state, what)
            print_log(f'TIMMPyramid: all tensors from {what}; left over: {summary(left)}', 'current')
        self._filled = self._is_init = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: Normalised RGB ``(B, 3, H, W)``.

        Returns:
            The map of each of ``out_indices``, ``(B, C, ceil(H / s), ceil(W / s))`` with the stage's stride s.
        """
        maps = self.network.forward_intermediates(images, indices=list(self.out_indices), intermediates_only=True)
        if self.value_features:
            maps[-1] = self.network.head(maps[-1])
        return tuple(maps)

    def _fill(self, state: dict[str, Tensor], what: str) -> list[str]:
        own = self.network.state_dict()
        # counters of batch norm, which old files do not have
        missing = sorted(key for key in own.keys() - state.keys() if not key.endswith('num_batches_tracked'))
        left = sorted(state.keys() - own.keys())
        homeless = [key for key in left if missing or not (key.startswith(HEADS) or key in self._whole)]
        other = [key for key in own if key in state and own[key].shape != state[key].shape]
        if missing or homeless or other:
            first = (missing or homeless or other)[0]
            raise ValueError(
                f'{what} does not fit {self.model_name}: {len(missing)} of {len(own)} tensors are missing, {len(homeless)} are '
                f'unexpected, {len(other)} have another shape (first: {first}); set model_name to that of the file.'
            )
        self.network.load_state_dict({key: state[key] for key in own if key in state}, strict=False)
        return left

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # what a checkpoint has filled must not be replaced when mmengine initialises the weights later
        self._filled = self._filled or all(prefix + key in state_dict for key in self.state_dict())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
