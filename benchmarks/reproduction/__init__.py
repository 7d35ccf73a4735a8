"""The four experiments of the PoseAug paper."""
