"""Shapes of pose arrays in different codebases, and the plugin's own: (B, T, J, C)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from einops import rearrange
from torch import Tensor

from ..errors import BatchError

__all__ = ["Layout"]

# By number of dimensions; T is 1 if there is no t. Five may also be AdaptPose's windows.
PATTERNS = {2: "b (j c)", 3: "b j c", 4: "b t j c", 5: "b c t j 1"}
WINDOW = "b 1 t j c"
COLUMNS = "b (j c) t"  # mmpose's temporal convolutions
SCENES = {4: "b p j c", 5: "b p t j c"}  # p people of one image, who become rows


@dataclass(frozen=True)
class Layout:
    """One of eight shapes of a pose array.

    Single frames are (B, J * C) or (B, J, C), clips (B, T, J, C), (B, 1, T, J, C) or (B, J * C, T),
    graphs (N, C, T, J, 1), and scenes of P people (B, P, J, C) or (B, P, T, J, C).
    """

    pattern: str
    joints: int
    people: int = 1  # rows of the plugin's form for each row of the array
    frames: int = 1

    @classmethod
    @lru_cache(maxsize=64)
    def of(
        cls, shape: tuple[int, ...], joints: int, channels: int, what: str, scenes: bool = False
    ) -> Layout:
        """The layout of a tensor of a given shape.

        Args:
            channels: 3 for 3D, 2 for 2D, which may have a third (a confidence).
            what: name of the tensor in error messages.
            scenes: whether the second dimension is people.

        Raises:
            BatchError: no rows, another number of joints, or none of the shapes.
        """
        if not shape or 0 in shape:
            raise BatchError(f"{what} has shape {shape}: no rows. Skip empty batches.")
        pattern = (SCENES if scenes else PATTERNS).get(len(shape), "")
        if not scenes and len(shape) == 5 and shape[-1] != 1:
            pattern = WINDOW
        if not scenes and len(shape) == 3 and shape[1] == joints * channels:
            return cls(COLUMNS, joints, frames=shape[2])
        sizes = dict(zip(pattern.replace("(", "").replace(")", "").split(), shape))
        if pattern == PATTERNS[2]:
            sizes = {"j": shape[1] // channels, "c": channels if shape[1] % channels == 0 else 0}
        widths = (2, 3) if channels == 2 else (3,)
        fits = sizes.get("j") == joints and sizes.get("c") in widths and sizes.get("1", 1) == 1
        if not fits:
            expected = (
                f"(B, P, {joints}, {channels}) or (B, P, T, {joints}, {channels}) with P people"
                if scenes
                else f"(B, {joints}, {channels}), (B, T, {joints}, {channels}), "
                f"(B, {joints * channels}) or (N, {channels}, T, {joints}, 1)"
            )
            raise BatchError(
                f"{what} has shape {shape}, expected {expected} for a skeleton of {joints} joints; "
                f"{_cure(sizes, joints, channels, what)}."
            )
        return cls(pattern, joints, sizes.get("p", 1), sizes.get("t", 1))

    def canonical(self, x: Tensor) -> Tensor:
        """Reshape to (B, T, J, C)."""
        return rearrange(x, f"{self.pattern} -> {self._ours}", j=self.joints)

    def shaped(self, x: Tensor) -> Tensor:
        """Reshape back from (B, T, J, C)."""
        people = {"p": self.people} if "p" in self.pattern else {}
        return rearrange(x, f"{self._ours} -> {self.pattern}", **people)

    @property
    def _ours(self) -> str:
        rows = "(b p)" if "p" in self.pattern else "b"
        return f"{rows} t j c" if "t" in self.pattern else f"{rows} 1 j c"


def _cure(sizes: dict[str, int], joints: int, channels: int, what: str) -> str:
    """The likely cause of a shape that does not fit, and what to pass."""
    if what == "the estimator's output":
        return "convert it in predict="
    found, width = sizes.get("j", 0), sizes.get("c", 0)
    option = "joints_2d" if channels == 2 else "joints_3d"
    others = "; with another number of joints pass the data's skeleton="
    if found == joints and width > channels:
        return (
            f"it has {width} channels: yield the first {channels} alone (further ones, as "
            f"velocities, would describe the old pose), or add them in the model{others}"
        )
    if found == joints - 1 and width in (channels, channels + 1):
        return (
            f"it lacks one joint: pass {option}=(...) in batch=, the skeleton's joints that it "
            f"holds in its own order (3D without its root: all others){others}"
        )
    return "pass the data's skeleton= and the right fields in batch="
