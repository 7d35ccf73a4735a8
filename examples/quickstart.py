"""Train a small lifter plainly, with `random` (the control) and with `default`; compare the errors.

    python examples/quickstart.py                  # synthetic motion, no data needed
    python examples/quickstart.py --data FOLDER    # Human3.6M's files and a cross-dataset test set

It is the command `poseaug-plugin demo`. The training loop is in `poseaug_plugin/demo.py`.
"""

import sys

from poseaug_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
