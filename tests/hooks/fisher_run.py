"""A tiny ViT segmentor on drawn streets, trained with FisherTune through mmengine's Runner."""

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

SIZE = (64, 64)
WARMUP, ITERATIONS = 2, 8
VIT = dict(
    type='VFMBackbone', model_name='vit_tiny_patch16_224', pretrained=False, img_size=64, embed_dim=24, depth=3, num_heads=2,
    out_indices=(0, 1, 2), init_values=1.0,
)  # fmt: skip
HEAD = dict(
    type='FCNHead', in_channels=24, in_index=2, channels=8, num_convs=1, concat_input=False, num_classes=6, dropout_ratio=0,
    norm_cfg=None, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
)  # fmt: skip
PREPROCESSOR = dict(
    type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=SIZE, pad_val=0, seg_pad_val=255
)


def config(work_dir: Path, hook: dict | None = None, iterations: int = ITERATIONS, **changes) -> Config:
    """Config of a training run without validation."""
    options = dict(warmup_iters=WARMUP, interval=2, delta_min=0.01, delta_max=0.05)
    options['estimation'] = dict(images=6, bank_images=4, batch_size=2, estimator='plain')
    options.update(hook or {})
    estimation = options['estimation']
    options['estimation'] = dict(dict(images=6, bank_images=4, batch_size=2, estimator='plain'), **estimation)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    wrapper = dict(type='FisherTuneOptimWrapper', constructor='FisherTuneOptimWrapperConstructor')
    wrapper['optimizer'] = dict(type='AdamW', lr=1e-2, weight_decay=0.05)
    wrapper['paramwise_cfg'] = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
    wrapper.update(changes.pop('optim_wrapper', {}))
    model = dict(type='EncoderDecoder', backbone=VIT, decode_head=HEAD, data_preprocessor=PREPROCESSOR)
    model.update(train_cfg=dict(), test_cfg=dict(mode='whole'))
    model.update(changes.pop('model', {}))
    return Config(
        dict(
            default_scope='mmseg',
            work_dir=str(work_dir),
            model=model,
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(type='ToyDriveDataset', length=9, seed=3, size=SIZE, pipeline=pipeline),
            ),
            optim_wrapper=wrapper,
            param_scheduler=[dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=12, by_epoch=False)],
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
            custom_hooks=[dict(type='FisherTuneHook', **options)],
            randomness=dict(seed=0),
            log_level='WARNING',
            **changes,
        )
    )


def build(cfg: Config) -> Runner:
    """The runner; its name keeps several in one process apart."""
    cfg.experiment_name = str(cfg.work_dir).replace('/', '_')
    cfg.visualizer = dict(type='SegLocalVisualizer', name=cfg.experiment_name, vis_backends=[dict(type='LocalVisBackend')])
    return Runner.from_cfg(cfg)


def train(cfg: Config) -> Runner:
    """Train, and return the runner."""
    runner = build(cfg)
    runner.train()
    return runner


def mask2former() -> dict:
    """A model config with a small Mask2Former head."""
    head = dict(
        type='HFMask2FormerHead', in_channels=[24] * 4, channels=32, num_classes=6, num_queries=6, encoder_layers=1,
        decoder_layers=2, num_points=64,
    )  # fmt: skip
    backbone = dict(VIT, out_indices=(0, 1, 2, 3), depth=4)
    neck = dict(type='ScalePyramid', in_channels=[24] * 4)
    return dict(type='DomainAwareEncoderDecoder', backbone=backbone, neck=neck, decode_head=head)


def mask2former_hook() -> dict:
    """Options of the hook for it: an odd number of images, one at a time."""
    return dict(estimation=dict(images=5, bank_images=4, batch_size=1, estimator='plain'))
