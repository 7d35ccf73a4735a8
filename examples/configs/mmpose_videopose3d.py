"""mmpose's VideoPose3D for single frames of Human3.6M, with PoseAug.

In a checkout of mmpose with its data: `python tools/train.py PATH/TO/THIS/FILE`.

The plugin is `custom_imports` and the second of `custom_hooks`. A list in a config replaces that of
its base, so `custom_hooks` repeats the hook of mmpose's default runtime.

The flip is repaired, for training with and without the plugin: mmpose 1.3.2 flips the 2D about
x = 0.5, which is meant for relative coordinates, while the 2D is in pixels here. Half of the rows
would lie outside the image. Human3.6M's images are 1000 pixels wide.
"""

_base_ = [
    "mmpose::body_3d_keypoint/video_pose_lift/h36m/"
    "video-pose-lift_tcn-1frm-supv-cpn-ft_8xb128-160e_h36m.py"
]

custom_imports = dict(imports="poseaug_plugin.integrations.mmengine")
custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="PoseAugHook", skeleton="h36m_17"),
]

train_pipeline = _base_.train_pipeline
train_pipeline[0]["keypoints_flip_cfg"] = dict(center_x=500)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
