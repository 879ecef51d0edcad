"""Write SYNTHIA's labels in the 19 classes of Cityscapes: python tools/dataset_converters/synthia.py ROOT.

ROOT holds SYNTHIA-RAND-CITYSCAPES, RGB/*.png and GT/LABELS/*.png; GT/LABELS/*_labelTrainIds.png are written beside the labels.
What is there and right is not written again, so an interrupted run goes on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.datasets.classes import synthia_table
from mmseg_dafm.datasets.label_files import convert_folder, read_first_channel

if __name__ == '__main__':
    convert_folder(__doc__, 'RGB', 'GT/LABELS', 'SYNTHIA-RAND-CITYSCAPES', synthia_table(), read_first_channel)
