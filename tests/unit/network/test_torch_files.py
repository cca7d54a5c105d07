from __future__ import annotations

import math
import random
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.base.errors import DataError
from pipeline.network.torch_files import load_weights, read_plain, state_dict_of, write_plain
from tests.support.planted_pickle import MakesAFile


def test_tensors_and_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    write_plain({"weights": torch.arange(5.0), "epochs": [1, 2.5, None, "last"]}, tmp_path / "values.pt")
    values = read_plain(tmp_path / "values.pt")
    assert torch.equal(values.pop("weights"), torch.arange(5.0))
    assert values == {"epochs": [1, 2.5, None, "last"]}


def test_a_full_disk_is_the_operating_systems_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")  # as torch ends its archive after a failed write

    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OSError, match="No space left on device"):
        write_plain({}, tmp_path / "values.pt")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"conv1.weight": MakesAFile(tmp_path / "planted")}, path)
    with pytest.raises(DataError, match=r"not a file of plain tensors and values \(it would run [\w.]+\)$"):
        read_plain(path)
    assert not (tmp_path / "planted").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "planted").exists()  # so running the code is noticed


def _refusal(path: Path) -> DataError | None:
    with warnings.catch_warnings(action="ignore"):  # torch warns of a changed version number
        try:
            read_plain(path)
        except DataError as error:
            return error
    return None


@pytest.mark.parametrize("zipped", [True, False])
def test_every_error_of_torch_on_a_damaged_file_is_one_clear_line(tmp_path: Path, zipped: bool) -> None:
    path, generator, refusals = tmp_path / "weights.pt", random.Random(0), []
    torch.save({f"layer{n}.weight": torch.ones(2) for n in range(4)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for offset in generator.sample(range(len(whole)), 3):
            damaged[offset] = generator.randrange(256)
        path.write_bytes(damaged[: generator.randrange(len(whole))] if generator.random() < 0.3 else damaged)
        refusals.append(_refusal(path))
    errors = [error for error in refusals if error is not None]
    assert not any("\n" in str(error) for error in errors)
    assert len({type(error.__cause__) for error in errors}) > 2


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    stored, deflated = tmp_path / "stored.pt", tmp_path / "deflated.pt"
    torch.save({"weight": torch.zeros(1 << 18)}, stored)
    with zipfile.ZipFile(stored) as parts, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts.namelist():
            archive.writestr(name, parts.read(name))
    assert deflated.stat().st_size < stored.stat().st_size / 100
    assert torch.load(deflated, weights_only=True)["weight"].shape == (1 << 18,)  # so torch itself would unpack it
    with pytest.raises(DataError, match=r"deflated.pt: found the compressed part"):
        read_plain(deflated)
    assert read_plain(stored)["weight"].shape == (1 << 18,)


def test_one_turned_bit_of_a_weight_is_damage_although_torch_reads_it(tmp_path: Path) -> None:
    path, weights = tmp_path / "weights.pt", torch.arange(1000.0)
    torch.save({"weight": weights}, path)
    assert torch.equal(read_plain(path)["weight"], weights)  # the negative control
    content = bytearray(path.read_bytes())
    place = content.index(weights.numpy().tobytes()[400:800])
    content[place] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], weights)
    with pytest.raises(DataError, match=r"weights.pt: its part .* is damaged \(the checksum differs\)"):
        read_plain(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "found no state dict"),
        ({"a": [1.0]}, "found no state dict"),
        ({1: torch.ones(2)}, "found the name 1"),
        ({"a": torch.ones(2).bool()}, "a: found a tensor of torch.bool"),
        ({"a": torch.ones(2) * 1j}, "a: found a tensor of torch.complex64"),
        ({"a": torch.ones(2).to_sparse()}, "torch.sparse_coo"),
        ({"a": torch.ones(2, device="meta")}, "on meta"),
        ({"a": torch.ones(1).expand(2**40)}, "numbers that share memory"),
        ({"a": torch.tensor([1.0, math.nan])}, "a: found a number that is not finite"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "not finite in float32"),
    ],
)
def test_weights_that_no_network_has_are_refused(value: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        state_dict_of(value)
    sound = {"a": torch.ones(2), "n": torch.tensor(3)}
    assert state_dict_of(sound) == sound


def test_whole_numbers_in_place_of_weights_are_refused() -> None:
    layer = nn.Linear(2, 1)
    whole = {name: value.to(torch.int64) for name, value in layer.state_dict().items()}
    with pytest.raises(TypeError, match=r"weight: found torch.int64; expected torch.float32"):
        load_weights(layer, whole)
    load_weights(layer, {name: value.double() for name, value in layer.state_dict().items()})
