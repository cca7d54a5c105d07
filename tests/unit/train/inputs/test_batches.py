from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.project import Project
from pipeline.network.inference import Frames
from pipeline.train.inputs.batches import Images, Source, exact, pictures, prefetch
from pipeline.train.inputs.frame_cache import KeptBox
from pipeline.train.inputs.random_views import random_views, view_generator
from pipeline.train.inputs.whole_frames import KeptWhole
from tests.support.children import wait_until
from tests.support.small_project import small_project
from tests.support.training_images import CLASSES, CPU, CROP, FLIP, PREPROCESS, images_of, params_with


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project(tmp_path_factory.mktemp("sources") / "project")


def _frames(images: Images) -> Frames:
    return Frames(images.project, images.rows, CLASSES, images.preprocess)


def test_exact_images_are_bit_for_bit_what_evaluation_sees(small: Project) -> None:
    images = images_of(small, "val")
    source, frames = exact(images), _frames(images)
    assert len(source) == len(frames)
    indices = [5, 0, 3]
    inputs, labels = source.batch(indices, 7, CPU)
    assert inputs.dtype == torch.float32
    assert labels.dtype == torch.int64
    for position, index in enumerate(indices):
        input_chw, label = frames[index]
        assert torch.equal(inputs[position], input_chw)
        assert labels[position] == label


def test_a_training_picture_without_views_differs_from_the_exact_one_by_rounding_alone(small: Project) -> None:
    images = images_of(small, "train")
    source = pictures(images, params_with(small))
    inputs, labels = source.batch(range(len(source)), 0, CPU)
    frames = _frames(images)
    expected = torch.stack([frames[index][0] for index in range(len(frames))])
    bound = torch.tensor([0.5 / 255 / std for std in PREPROCESS.std]).view(1, 3, 1, 1)
    difference = (inputs - expected).abs()
    assert (difference <= bound * (1 + 1e-4)).all()
    assert (difference.amax(dim=(0, 2, 3)) > 0.9 * bound.flatten()).all()  # so the training picture is rounded
    assert labels.tolist() == [CLASSES.index(row.label) for row in images.rows]


def test_seed_epoch_and_picture_decide_about_the_views(small: Project) -> None:
    params = params_with(small, CROP, FLIP, seed=3)
    source = pictures(images_of(small, "train"), params)
    indices = [4, 9, 2]
    assert isinstance(source.frames.kept, KeptWhole)
    raw = [torch.from_numpy(np.array(source.frames[index])).permute(2, 0, 1) for index in indices]
    numbers = [int(sha256_of(small.root / source.frames.rows[index].path), 16) for index in indices]
    expected = random_views(raw, params.online, [view_generator(3, 5, number) for number in numbers], 32)
    inputs, _ = source.batch(indices, 5, CPU)
    assert torch.equal(inputs, PREPROCESS.normalised(expected.permute(0, 2, 3, 1)))
    assert not torch.equal(inputs, source.batch(indices, 6, CPU)[0])


@pytest.mark.parametrize("online", [(CROP, FLIP), (FLIP,), ()])
def test_the_views_of_a_picture_do_not_change_with_the_images_beside_it(
    small: Project, online: tuple[dict[str, object], ...]
) -> None:
    images = images_of(small, "train")
    fewer = dataclasses.replace(images, rows=images.rows[5:1:-1], labels=images.labels[2:6].flip(0))
    params = params_with(small, *online)
    of_all, of_fewer = (pictures(some, params).batch(range(4), 3, CPU) for some in (images, fewer))
    assert not torch.equal(of_all[0], of_fewer[0])
    of_all = pictures(images, params).batch([5, 4, 3, 2], 3, CPU)
    assert torch.equal(of_all[0], of_fewer[0])
    assert torch.equal(of_all[1], of_fewer[1])


def test_without_a_random_crop_pictures_are_kept_at_their_size(small: Project) -> None:
    frames = pictures(images_of(small, "train"), params_with(small, FLIP)).frames
    assert isinstance(frames.kept, KeptBox)
    assert frames[0].shape == (32, 32, 3)


def test_with_crop_center_random_crops_show_the_rim_too(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    images = images_of(project, "train")
    center = dataclasses.replace(PREPROCESS, crop="center")
    frame_hwc = np.zeros((40, 56, 3), np.uint8)
    frame_hwc[:, :8] = frame_hwc[:, -8:] = 255  # beside the central square, which evaluation sees
    path = project.root / images.rows[0].path
    Image.fromarray(frame_hwc).save(path, format="PNG")
    images = dataclasses.replace(images, rows=images.rows[:1], labels=images.labels[:1], preprocess=center)

    def n_with_rim(source: Source) -> int:
        black = torch.tensor([-mean / std for mean, std in zip(PREPROCESS.mean, PREPROCESS.std, strict=True)])
        views = (source.batch([0], epoch, CPU)[0][0] for epoch in range(40))
        return sum(bool(((view_chw - black.view(3, 1, 1)) > 1).any()) for view_chw in views)

    assert n_with_rim(exact(images)) == 0
    assert n_with_rim(pictures(images, params_with(project, CROP))) > 20
    assert n_with_rim(pictures(images, params_with(project, FLIP))) == 0  # so the rim is noticed


class Indices:
    """A source whose inputs are the indices that are asked for; a test may let it fail or wait at one of them."""

    def __init__(self, *, fails_at: int | None = None, waits_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.waits_at = waits_at
        self.is_waiting, self.may_go_on = threading.Event(), threading.Event()
        self.asked: list[int] = []
        self.threads: set[threading.Thread] = set()

    def __len__(self) -> int:
        return 100

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        self.threads.add(threading.current_thread())
        self.asked.append(indices[0])
        if indices[0] == self.waits_at:
            self.is_waiting.set()
            self.may_go_on.wait(60)
        if indices[0] == self.fails_at:
            raise DataError("frame 6: broken")
        return torch.tensor(indices), torch.tensor([epoch])


BATCHES = [range(start, start + 2) for start in range(0, 20, 2)]


def _first_indices(batches: Iterator[tuple[Tensor, Tensor]]) -> list[int]:
    return [int(inputs[0]) for inputs, _ in batches]


def test_batches_come_in_order_from_a_thread_that_then_ends() -> None:
    source = Indices()
    assert _first_indices(prefetch(source, BATCHES, 0, CPU)) == list(range(0, 20, 2))
    assert source.threads
    assert threading.current_thread() not in source.threads
    assert not any(thread.is_alive() for thread in source.threads)


def test_the_next_batches_are_prepared_while_the_caller_computes_but_not_all() -> None:
    source = Indices()
    batches = prefetch(source, BATCHES, 0, CPU)
    next(batches)
    assert wait_until(lambda: len(source.asked) >= 3, 60)
    time.sleep(0.05)  # for more, if more were asked for
    assert source.asked == [0, 2, 4]
    batches.close()  # type: ignore[attr-defined]


def test_an_error_in_the_thread_arrives_where_the_batches_are_used() -> None:
    source = Indices(fails_at=6)
    batches = prefetch(source, BATCHES, 0, CPU)
    assert [int(next(batches)[0][0]) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(DataError, match="frame 6: broken"):
        next(batches)
    assert not any(thread.is_alive() for thread in source.threads)


def test_leaving_the_loop_early_ends_the_thread() -> None:
    source = Indices(waits_at=2)
    for inputs, _ in prefetch(source, BATCHES, 0, CPU):
        assert int(inputs[0]) == 0
        assert source.is_waiting.wait(60)
        threading.Timer(1, source.may_go_on.set).start()  # long after the loop has been left
        break
    assert source.asked == [0, 2]  # the second had started, the third is cancelled
    assert not any(thread.is_alive() for thread in source.threads)


def test_there_may_be_no_batches() -> None:
    assert list(prefetch(Indices(), [], 0, CPU)) == []


def test_pictures_and_exact_images_are_sources(small: Project) -> None:
    sources: list[Source] = [exact(images_of(small, "val")), pictures(images_of(small, "train"), params_with(small))]
    for source in sources:
        batches = list(prefetch(source, [[0, 1], [2]], 0, CPU))
        assert [len(labels) for _, labels in batches] == [2, 1]
        assert all(inputs.shape[1:] == (3, 32, 32) for inputs, _ in batches)


def test_a_source_decodes_nothing_until_a_batch_needs_it(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    for source in (exact(images_of(project, "val")), pictures(images_of(project, "train"), params_with(project))):
        folder = project.cache / "frames" / source.frames.kept.key
        assert not folder.exists()
        source.batch([0], 0, CPU)
        assert len(list(folder.glob("*.records"))) == 1


def test_a_frame_that_changes_on_disk_is_seen(small: Project) -> None:
    images = images_of(small, "val")
    before = exact(images).batch([0], 0, CPU)[0]
    path = small.root / images.rows[0].path
    original = path.read_bytes()
    path.write_bytes((small.root / images.rows[-1].path).read_bytes())
    assert not torch.equal(exact(images).batch([0], 0, CPU)[0], before)
    path.write_bytes(original)
    assert torch.equal(exact(images).batch([0], 0, CPU)[0], before)


class CoreCount(Indices):
    """A source whose inputs are the number of cores that a batch may use."""

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.tensor(torch.get_num_threads()), torch.tensor(0)


def test_batches_are_prepared_on_one_core_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert [int(cores) for cores, _ in prefetch(CoreCount(), BATCHES, 0, CPU)] == [1] * len(BATCHES)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
