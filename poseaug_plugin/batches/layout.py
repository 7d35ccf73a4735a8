"""How a codebase shapes its pose arrays, and the one shape the plugin works in: (B, T, J, C)."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from ..errors import BatchError

__all__ = ["Layout"]

# By number of dimensions; t is 1 where it is not named. Five: a graph's or AdaptPose's window.
PATTERNS = {2: "b (j c)", 3: "b j c", 4: "b t j c", 5: "b c t j 1"}
WINDOW = "b 1 t j c"
COLUMNS = "b (j c) t"  # mmpose's temporal convolutions


@dataclass(frozen=True)
class Layout:
    """One of six shapes.

    Flat (B, J*C), (B, J, C), clips (B, T, J, C), (B, 1, T, J, C) or (B, J*C, T), graphs
    (N, C, T, J, 1).
    """

    pattern: str
    joints: int

    @classmethod
    def of(cls, x: Tensor, joints: int, channels: int, what: str) -> Layout:
        """Read the layout off a tensor.

        Args:
            channels: 2 for 2D, which may have one more (a confidence), 3 for 3D.
            what: named in messages.

        Raises:
            BatchError: no rows, another joint count, or a shape that is none of the six.
        """
        shape = tuple(x.shape)
        if not shape or 0 in shape:
            raise BatchError(f"{what} has shape {shape}: no rows. Skip empty batches.")
        pattern = PATTERNS.get(len(shape), "")
        if len(shape) == 5 and shape[-1] != 1:
            pattern = WINDOW
        if len(shape) == 3 and shape[1] == joints * channels:
            return cls(COLUMNS, joints)
        sizes = dict(zip(pattern.replace("(", "").replace(")", "").split(), shape))
        if pattern == PATTERNS[2]:
            sizes = {"j": shape[1] // channels, "c": channels if shape[1] % channels == 0 else 0}
        widths = (2, 3) if channels == 2 else (3,)
        fits = sizes.get("j") == joints and sizes.get("c") in widths and sizes.get("1", 1) == 1
        if not fits:
            raise BatchError(
                f"{what} has shape {shape}, expected (B, {joints}, {channels}), "
                f"(B, T, {joints}, {channels}), (B, {joints * channels}) or "
                f"(N, {channels}, T, {joints}, 1) for a skeleton of {joints} joints; pass the "
                "data's skeleton= and the right fields in batch=."
            )
        return cls(pattern, joints)

    def canonical(self, x: Tensor) -> Tensor:
        """To (B, T, J, C)."""
        return rearrange(x, f"{self.pattern} -> {self._ours}", j=self.joints)

    def shaped(self, x: Tensor) -> Tensor:
        """From (B, T, J, C) back."""
        return rearrange(x, f"{self._ours} -> {self.pattern}")

    @property
    def _ours(self) -> str:
        return "b t j c" if "t" in self.pattern else "b 1 j c"
