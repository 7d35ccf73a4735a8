"""Fields of any container and kind are read, copied, set and repeated; the rest is refused."""

from __future__ import annotations

import collections
import dataclasses
import threading
import types
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras, people
from poseaug_plugin import BatchError, BatchFormat, Camera
from poseaug_plugin.batches.containers import (
    as_tensor,
    describe,
    duplicate,
    get_field,
    overwrite,
    repeat_rows,
    representable,
    set_fields,
)
from poseaug_plugin.batches.infer import infer_format
from poseaug_plugin.geometry.camera import project


class Named(NamedTuple):
    x: Any
    other: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    other: Any


@dataclasses.dataclass
class Counted:
    x: Any
    other: Any
    count: int = dataclasses.field(init=False, default=0)


class Own(MutableMapping[str, Any]):
    """A mapping that keeps its values in another one, which a shallow copy shares."""

    def __init__(self, *, x: Any, other: Any) -> None:
        self.values_of: dict[str, Any] = dict(x=x, other=other)

    def __getitem__(self, key: str) -> Any:
        return self.values_of[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.values_of[key] = value

    def __delitem__(self, key: str) -> None:
        del self.values_of[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


class TwoArguments(tuple[Any, ...]):
    """A tuple whose constructor does not take an iterable."""

    label: str

    def __new__(cls, first: Any, second: Any) -> TwoArguments:
        return super().__new__(cls, (first, second))


CONTAINERS: dict[str, Any] = {
    "read-only": lambda x, other: types.MappingProxyType(dict(x=x, other=other)),
    "chain": lambda x, other: collections.ChainMap({}, dict(x=x, other=other)),
    "user": lambda x, other: collections.UserDict(x=x, other=other),
    "own": lambda x, other: Own(x=x, other=other),
    "named": Named,
    "frozen": Frozen,
    "counted": Counted,
    "object": lambda x, other: types.SimpleNamespace(x=x, other=other),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("outer", ["", "nested", "rows"])
def test_a_field_of_any_container_is_replaced_in_a_copy_that_shares_the_rest(
    name: str, outer: str
) -> None:
    lock = threading.Lock()
    inner = CONTAINERS[name](1, lock)
    batch: Any = {"": inner, "nested": {"in": inner}, "rows": {"in": [inner, inner]}}[outer]
    key = "in.x" if outer else "x"
    made = set_fields(batch, {key: [2, 1] if outer == "rows" else 2})
    assert get_field(batch, key) == ([1, 1] if outer == "rows" else 1)
    assert get_field(made, key) == ([2, 1] if outer == "rows" else 2)
    other = get_field(made, key.replace("x", "other"))
    assert (other[0] if outer == "rows" else other) is lock
    changed = made if not outer else made["in"][0] if outer == "rows" else made["in"]
    assert type(changed) is type(inner)


def test_a_dataclass_keeps_fields_that_its_constructor_does_not_take() -> None:
    batch = Counted(1, 2)
    batch.count = 7
    assert set_fields(batch, {"x": 3}).count == 7


def test_a_tuple_is_copied_whatever_its_constructor_takes() -> None:
    batch = TwoArguments(1, 2)
    batch.label = "a"
    made = set_fields(batch, {1: 3})
    assert (type(made), tuple(made), made.label) == (TwoArguments, (1, 3), "a")


def test_looking_for_a_field_does_not_add_it_to_a_defaultdict() -> None:
    batch: Any = collections.defaultdict(list, x=1)
    with pytest.raises(KeyError):
        get_field(batch, "y")
    assert list(batch) == ["x"]


def test_a_container_that_cannot_be_changed_is_refused() -> None:
    class Fixed:
        x = property(lambda _: 1)

    with pytest.raises(BatchError, match=r"a Fixed cannot be replaced.*Yield a tuple, list, dict"):
        set_fields(Fixed(), {"x": 2})


class Hostile:
    """Looking at it raises."""

    @property
    def shape(self) -> Any:
        raise RuntimeError

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: 10**400,
        lambda: [[10**400]],
        lambda: "text",
        lambda: ["1", "2"],
        lambda: object(),
        Hostile,
        lambda: [Hostile()] * 2,
        lambda: {1, 2},
        lambda: iter([1.0]),
        lambda: collections.deque([1.0]),
        lambda: np.array([1j]),
        lambda: np.array([True]),
        lambda: np.array(["2020-01-01"], "datetime64"),
        lambda: np.zeros(2, [("x", "f4")]),
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.ones(2, dtype=torch.bool),
        lambda: torch.ones(2, 2).to_sparse(),
        lambda: torch.ones(2, 2).to_mkldnn(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        nested,
        lambda: [torch.ones(2).to_sparse()] * 2,
        lambda: [torch.ones(2, device="meta")] * 2,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_an_array_of_real_numbers_is_refused(make: Any) -> None:
    value = make()
    with pytest.raises(BatchError, match=r"^it is \w+.*; expected one array or tensor of real num"):
        as_tensor(value, "it")
    assert type(value).__name__ in describe([value])
    with pytest.raises(BatchError, match="cannot tell which field is what"):
        infer_format([value, value], None)


def test_rows_that_were_not_collated_are_told_from_clips_of_different_lengths() -> None:
    pose_3d, camera = people(40)[:, 0], cameras(40)
    rows = [*zip(pose_3d, project(pose_3d, camera))]
    with pytest.raises(BatchError, match="let the collate function stack each"):
        BatchFormat(pose_3d=0, pose_2d=1).read(rows, H36M, Camera())
    with pytest.raises(BatchError, match="cannot tell which field is what") as error:
        infer_format(rows, None)
    assert "39" not in str(error.value)


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">i4", "g", "O", "u2"])
def test_numpy_dtypes_that_torch_lacks_are_read_and_written(dtype: str) -> None:
    pose_3d, camera = people(8)[:, 0], cameras(8)
    fields = [(1000 * pose_3d).numpy().astype(dtype), project(pose_3d, camera), camera]
    if dtype == "u2":
        fields[0] = (1000 * pose_3d + 3000).numpy().astype(dtype)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute", unit=0.001)
    poses = fmt.read(fields, H36M, Camera())
    written = fmt.write(fields, poses, torch.ones(8, dtype=torch.bool), H36M)
    assert written[0].dtype == fields[0].dtype
    assert np.abs(written[0].astype("f8") - fields[0].astype("f8")).max() <= 4


def test_rows_beyond_the_range_of_a_dtype_are_told_for_every_byte_order() -> None:
    new = torch.tensor([[1.0], [1e5], [-1e5]])
    for dtype in (">f2", "<f2", ">i2"):
        fits = representable(np.zeros((3, 1), dtype), new)
        assert fits is not None
        assert fits.tolist() == [True, False, False]
    assert representable(np.zeros((3, 1), ">f4"), new) is None


@pytest.mark.parametrize("lacks", [0, 9, 15])
def test_only_the_given_rows_are_written_in_a_dtype_with_limits(lacks: int) -> None:
    """And a joint without 2D is where its 3D projects to, whichever it is."""
    joints = tuple(joint for joint in range(16) if joint != lacks)
    pose_3d = people(8)[:, 0]
    pose_2d = project(pose_3d, Camera().intrinsics)
    fields = (pose_3d.half(), pose_2d[:, joints].half())
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", joints_2d=joints)
    poses = fmt.read(fields, H36M, Camera())
    assert torch.allclose(poses.pose_2d[:, 0], pose_2d, atol=2e-3)
    rows = torch.arange(8) % 2 == 0
    written = fmt.write(fields, dataclasses.replace(poses, root=poses.root + 1), rows, H36M)
    assert torch.equal(written[0][~rows], fields[0][~rows])
    assert (written[0][rows] != fields[0][rows]).all()


def computed() -> Tensor:
    return torch.ones(2, 3, requires_grad=True) * 1


@pytest.mark.parametrize("value", [computed(), list(computed())])
def test_what_is_read_has_no_gradient(value: Any) -> None:
    assert not as_tensor(value, "x").requires_grad


class Keeping:
    """An object that keeps its fields in a mapping of its own, which a shallow copy shares."""

    def __init__(self) -> None:
        self.__dict__["kept"] = {"x": 1, "y": 2}

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["kept"][name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.kept[name] = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Keeping:
        copied = Keeping()
        copied.kept.update(self.kept)
        return copied


def test_an_object_whose_fields_are_replaced_is_copied_with_what_it_keeps() -> None:
    given = Keeping()
    made = set_fields(given, {"x": 5})
    assert (made.x, made.y, given.x) == (5, 2, 1)


def test_rows_that_cannot_be_deep_copied_are_repeated() -> None:
    lock = threading.Lock()
    rows = list(computed())
    batch = ([lock, {"lock": lock, "x": np.zeros(2)}], rows, computed(), Named(computed(), lock))
    locks, tensors, field, named = repeat_rows(batch, 2)
    assert locks[:2] == [lock, lock]
    assert locks[3]["lock"] is lock
    assert locks[3]["x"] is not locks[2]["x"]
    assert tensors[0] is rows[0]
    assert tensors[1].data_ptr() != rows[0].data_ptr()
    assert tensors[1].requires_grad
    assert len(field) == len(named.x) == 4
    assert named.other is lock


def test_sparse_fields_and_nested_dataclasses_are_repeated() -> None:
    sparse = torch.eye(2).to_sparse()
    made = repeat_rows({"sparse": sparse, "in": Frozen(np.arange(2), "x")}, 2)
    assert made["sparse"].to_dense().tolist() == torch.eye(2).repeat_interleave(2, 0).tolist()
    assert made["in"].x.tolist() == [0, 0, 1, 1]


def test_duplicate_shares_only_what_cannot_be_copied() -> None:
    lock, array = threading.Lock(), np.zeros(2)
    made = duplicate({"a": [lock, array, (lock,)], "b": computed()})
    assert made["a"][0] is made["a"][2][0] is lock
    assert made["a"][1] is not array
    assert made["b"].requires_grad


@pytest.mark.parametrize("name", sorted({*CONTAINERS} - {"object"}))
def test_duplicate_copies_the_arrays_of_a_container_that_cannot_be_deep_copied(name: str) -> None:
    lock, array = threading.Lock(), np.zeros(2)
    made = duplicate(CONTAINERS[name](array, lock))
    assert get_field(made, "other") is lock
    assert get_field(made, "x") is not array


def test_objects_whose_rows_cannot_be_repeated_are_refused_when_written() -> None:
    pose_3d = people(8)[:, 0]
    inner = types.SimpleNamespace(x=pose_3d, y=project(pose_3d, Camera().intrinsics))
    fmt = BatchFormat(pose_3d="in.x", pose_2d="in.y", root="absolute")
    poses = fmt.read({"in": inner}, H36M, Camera()).repeat(2)
    doubled = repeat_rows({"in": inner}, 8)
    with pytest.raises(BatchError, match=r"has 8 rows, but there are 16 poses.*mix='replace'"):
        fmt.write(doubled, poses, torch.ones(16, dtype=torch.bool), H36M)


def test_numbers_without_dimensions_have_no_skeleton() -> None:
    fmt = BatchFormat(pose_3d=0, pose_2d=1)
    with pytest.raises(ValueError, match="no preset skeleton has 0 joints"):
        fmt.guess_skeleton((np.ones(()), 2.0))


@pytest.mark.parametrize("dims", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("view", [False, True])
def test_a_field_keeps_its_layout_in_memory(dims: tuple[int, ...], view: bool) -> None:
    old = torch.rand(4, 4, 4).permute(dims)
    old = old if view else old.contiguous()
    for new in (torch.rand(4, 4, 4), torch.rand(4, 4, 4).permute(2, 0, 1)):
        made = overwrite(old, new, torch.arange(4) < 2)
        assert made.stride() == old.stride()
        assert torch.equal(made[:2], new[:2])
        assert torch.equal(made[2:], old[2:])


@pytest.mark.parametrize("image", [torch.Tensor.clone, torch.Tensor.numpy])
def test_people_in_a_list_of_images_are_replaced_one_by_one(image: Any) -> None:
    old, new = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    rows = torch.tensor([[True, False, True], [False, False, False]])
    made = overwrite([image(one) for one in old], new, rows)
    assert [type(one) for one in made] == [type(image(old[0]))] * 2
    wanted = torch.where(rows[..., None], new, old)
    assert all(torch.equal(torch.as_tensor(one), two) for one, two in zip(made, wanted))
