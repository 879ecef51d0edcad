"""Installation of mmseg_dafm; `pip install -e ".[all]"` is the ordinary way."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / 'README.md'
VERSION = re.search(r"__version__ = '([^']+)'", (ROOT / 'mmseg_dafm' / '__init__.py').read_text(encoding='utf-8'))[1]

# Both families of packages provide mmengine, mmcv and mmseg and cannot live side by side, so neither is a requirement.
ONEDL = ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmsegmentation>=1.4.2', 'torchvision', 'ftfy', 'regex']
OPENMMLAB = [
    'mmengine==0.10.7',
    'mmcv>=2.1,<2.2',
    'mmsegmentation==1.2.2',
    'ftfy',
    'regex',
    'setuptools<81',
]
# timm 1.0.20 is the first with DINOv3; scipy solves Mask2Former's matching.
VFM = ['timm>=1.0.20', 'scipy']
# LoRA of the adapter baselines; 0.11 is the lowest that was tried.
PEFT = ['peft>=0.11']
OPENCLIP = ['open_clip_torch>=3.0']
ANALYSIS = ['scikit-learn']
# What all configs and tools need, on the maintained packages.
ALL = [*ONEDL, *VFM, *PEFT, *OPENCLIP, *ANALYSIS]

setup(
    name='mmseg_dafm',
    version=VERSION,
    description='Domain-aware fine-tuning of foundation models for mmsegmentation',
    long_description=README.read_text(encoding='utf-8') if README.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The mmseg_dafm maintainers',
    keywords='semantic segmentation, domain generalization, fine-tuning, foundation models, mmsegmentation',
    project_urls={
        'mmsegmentation': 'https://github.com/open-mmlab/mmsegmentation',
        'Paper DAFT': 'https://arxiv.org/abs/2308.07728',
        'Paper FisherTune': 'https://arxiv.org/abs/2503.17940',
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=['mmseg_dafm', 'mmseg_dafm.*']),
    package_data={'mmseg_dafm': ['py.typed']},
    install_requires=[
        'torch>=2.3',
        'numpy',
        'pillow',
        'diffusers>=0.30,<1',
        'transformers>=4.41,<6',
        'safetensors>=0.4',
        'ftfy',
        'matplotlib',
        'rich',
    ],
    extras_require={
        'onedl': ONEDL,
        'openmmlab': OPENMMLAB,
        'openclip': OPENCLIP,
        'analysis': ANALYSIS,
        'vfm': VFM,
        'peft': PEFT,
        'all': ALL,
        'test': [*ALL, 'pytest>=8', 'pytest-xdist', 'hypothesis', 'ruff', 'mypy'],
    },
)
