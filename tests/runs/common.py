"""A run of the tiny segmentor on a few drawn streets, through mmengine's Runner."""

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from tests.models_common import domain_embedding, preprocessor, segmentor

SIZE = (64, 64)


def tiny_config(work_dir: Path, iterations: int, **changes) -> Config:
    """Config of a training run without validation; the same on every call but for ``changes``.

    Batches differ from iteration to iteration and the pipeline draws nothing at random: on resume, classic mmengine
    loads the batches that it skips and the maintained one does not, so only the order of the data is the same on both.
    """
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='KeepDomainImage', size=32),
        dict(type='LoadAnnotations'),
        dict(type='PackDomainInputs'),
    ]
    model = segmentor(
        fuse='sub',
        data_preprocessor=preprocessor(size=SIZE),
        domain_embedding=domain_embedding(image_encoder=dict(trainable=True), temperature=0.1, learnable_temperature=True),
    )
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
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='VPDOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-3),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=8, by_epoch=False)],
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
            randomness=dict(seed=0),
            log_level='WARNING',
            **changes,
        )
    )


def run(cfg: Config, name: str) -> Runner:
    """Train; the name keeps several runners in one process apart."""
    cfg.experiment_name = name
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner
