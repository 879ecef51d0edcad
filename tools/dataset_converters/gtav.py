"""Write GTAV's labels in the 19 classes of Cityscapes: python tools/dataset_converters/gtav.py ROOT.

ROOT holds the release, images/*.png and labels/*.png; labels/*_labelTrainIds.png are written beside the labels. What is there
and right is not written again, so an interrupted run goes on. Labels whose size is not that of their image are listed and left
out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.datasets.classes import gtav_table
from mmseg_dafm.datasets.label_files import convert_folder

if __name__ == '__main__':
    convert_folder(__doc__, 'images', 'labels', 'all parts of the release', gtav_table(), sizes_differ=True)
