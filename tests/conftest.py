"""One thread: results must not hinge on the machine, and two busy cores run faster so."""

import torch

torch.set_num_threads(1)
