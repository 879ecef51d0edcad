"""Synthetic street scenes from label maps, in the folders that RealSyntheticMix reads."""
