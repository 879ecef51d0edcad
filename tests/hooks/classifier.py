"""A plain mmengine image classifier and its data: nothing of mmseg."""

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from tests.daft.networks import Net, randomise


class Images(Dataset):
    """Noise images whose brightness tells the class; remembers what was asked for."""

    def __init__(self, length: int = 24, jitter: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(5)
        self.labels = torch.arange(length) % 4
        self.jitter = jitter
        self.images = torch.randn(length, 3, 12, 12, generator=generator) * 2 + self.labels.view(-1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        # an augmentation that draws from torch's generator
        return self.images[index] + self.jitter * torch.rand(1), self.labels[index]


class Classifier(BaseModel):
    """Net with a cross-entropy loss; keeps the batches that it was trained with."""

    def __init__(self, **norm) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # all instances are equal
            self.net = randomise(Net(**norm))
        self.seen: list[torch.Tensor] = []

    def forward(self, images, labels, mode='tensor'):
        logits = self.net(images)
        if mode != 'loss':
            return logits
        if self.training:
            self.seen.append(images.detach().clone())
        return dict(loss=nn.functional.cross_entropy(logits, labels))


def runner(work_dir, hooks=(), model=None, iterations: int = 3, workers: int = 0, dataset=None, epochs=None, **options) -> Runner:
    """A training run of a few iterations (or of ``epochs``) with mmengine's own parts."""
    sampler = dict(type='DefaultSampler' if epochs else 'InfiniteSampler', shuffle=True)
    loop = (
        dict(type='EpochBasedTrainLoop', max_epochs=epochs) if epochs else dict(type='IterBasedTrainLoop', max_iters=iterations)
    )
    loader = dict(dataset=dataset or Images(), sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    loader['batch_size'] = options.pop('batch_size', 4)
    loader['collate_fn'] = dict(type='default_collate')
    return Runner(
        model=model or Classifier(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=options.pop('optim_wrapper', dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))),
        custom_hooks=list(hooks),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        randomness=dict(seed=0),
        experiment_name=str(work_dir).replace('/', '_'),
        visualizer=dict(type='Visualizer', name=str(work_dir), vis_backends=[dict(type='LocalVisBackend')]),
        default_scope='mmengine',
        **options,
    )
