"""What each number of `PoseAugmenter.stats()` means: one table, for docstring and documents."""

from __future__ import annotations

import textwrap

__all__ = ["STATS", "described", "table"]

#: The keys of `stats()` with their meaning and unit, in groups; each group says when it is there.
STATS: dict[str, dict[str, str]] = {
    "Always": {
        "steps": "steps of the optimizer",
        "batches": "batches that were read without an error",
        "bad_batches": "batches that could not be augmented and were returned unchanged",
        "bad_rows": "rows with NaN, infinite or huge coordinates, or bones several times as long "
        "or as short as usual; they are returned unchanged",
        "steps_with_batch": "steps that followed a new batch; every `update_every`-th of them "
        "updates what is learned",
        "rows": "rows that were chosen for augmentation",
        "augmented": "those of them whose augmented pair passed the visibility test",
        "accepted": "`augmented / rows`; pairs that no camera could have taken are rejected",
        "epochs": "epochs that were counted",
        "updates": "updates of what is learned",
        "failed_updates": "updates that raised an error and were skipped",
    },
    "With a prior, from the first batch: its ranges, given or fitted": {
        "distance_low": "smallest distance from the camera to the root, metres",
        "distance_high": "largest distance from the camera to the root, metres",
        "image_offset_x_low": "leftmost place of the root relative to the image centre, screen "
        "units",
        "image_offset_x_high": "rightmost place of the root, screen units",
        "image_offset_y_low": "uppermost place of the root, screen units",
        "image_offset_y_high": "lowest place of the root, screen units",
        "focal_low": "smallest factor on the focal length",
        "focal_high": "largest factor on the focal length",
        "joint_offset": "standard deviation of joint offsets on each axis, metres",
        "depth": "smallest depth of a joint, metres",
    },
    "With `target_2d`": {
        "target_poses": "number of unlabelled poses",
        "target_visible": "share of their joints that are visible",
        "target_proportions": "mean absolute relative change of the bone lengths",
        "target_error": "mean standard error of these changes",
        "target_lifted": "share of the poses that the model has lifted and that fit their 2D",
        "target_shift": "mean absolute offset of trunk joints, in mean bone lengths of the person",
    },
    "With `widen_views`: how far each range of views reaches, 0 at the rows' own and 1 at its "
    "limit, the mean of both ends": {
        "widened_yaw": "rotation about the vertical",
        "widened_tilt": "camera tilt",
        "widened_roll": "rotation about the viewing direction",
        "widened_image_offset_x": "place of the root from left to right",
        "widened_image_offset_y": "place of the root from top to bottom",
        "widened_distance": "distance from the camera",
        "widened_log_focal": "focal length",
    },
    "With `learned=True`, of the last update that computed it": {
        "loss_augmentor": "loss of the augmentor, after the warm-up",
        "grad_norm": "gradient norm of the augmentor, after the warm-up",
        "share_feedback": "share of the feedback in the gradient of the augmentor's loss",
        "share_d3d": "share of the 3D discriminator in it",
        "share_d2d": "share of the 2D discriminator in it",
        "share_reg": "share of the regularisation of what is learned in it",
        "share_angles": "share of `reg_angles` in it",
        "feedback": "loss of the feedback, after the warm-up",
        "hardness": "the model's mean squared error on the augmented pairs in frame, divided by "
        "that on their original pairs, after the warm-up; its target is `beta`, and its root is "
        "the ratio of the errors in mm; 0 if no pair is in frame",
        "gamma_ba": "mean absolute change of unit bone vectors",
        "gamma_bl": "mean absolute relative change of bone lengths",
        "diversity_ba": "share of the square of the learned bends that differs between rows; at "
        "0, all rows are bent alike",
        "diversity_bl": "the same of the learned changes of bone lengths",
        "evenness_r": "how evenly the learned rotations are spread over all directions: 1 if none "
        "is preferred, a third if all are about one axis",
        "evenness_t": "the same of the learned changes of position",
        "model_error": "squared error of the model on original rows, relative to that of "
        "predicting the root for every joint, after the warm-up; a trained model has 0.01, and 1 "
        "is no better than nothing",
        "implausible": "share of the joint angles of augmented poses outside the range of all "
        "original poses so far",
        "implausible_prior": "the same of the samples of the prior, before the augmentor",
        "loss_d3d": "loss of the 3D discriminator",
        "d3d_real": "mean score of real poses by the 3D discriminator; 1 is real, 0 is fake",
        "d3d_fake": "mean score of augmented poses by the 3D discriminator",
        "loss_d2d": "loss of the 2D discriminator",
        "d2d_real": "mean score of real poses by the 2D discriminator; 1 is real, 0 is fake",
        "d2d_fake": "mean score of augmented poses by the 2D discriminator",
    },
}


def described() -> str:
    """Return the groups as lists, for a docstring."""
    lines = []
    for group, keys in STATS.items():
        lines += ["", f"{group}:", ""]
        for key, meaning in keys.items():
            lines += textwrap.wrap(
                f"- ``{key}``: {meaning}.", 92, subsequent_indent="  ", break_on_hyphens=False
            )
    return "\n".join(lines)


def table() -> str:
    """Return the keys as a Markdown table: key, meaning."""
    rows = [["key", "meaning"], ["---"] * 2]
    for group, keys in STATS.items():
        rows.append([f"**{group}**", ""])
        rows += [[f"`{key}`", meaning] for key, meaning in keys.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
