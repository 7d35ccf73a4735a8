"""`python -m poseaug_plugin COMMAND`, the same as `poseaug-plugin COMMAND`."""

from .cli import console

if __name__ == "__main__":
    console()
