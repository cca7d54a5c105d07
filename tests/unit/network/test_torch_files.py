from __future__ import annotations

import random
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline.base.errors import DataError
from pipeline.network.torch_files import read_plain, write_plain
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
