"""Extract survives odd files, mutated copies and being killed. The suite runs a part of each trial in tests/trials."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.child_process import run_in_child
from pipeline.extract.child import Outcome
from pipeline.extract.decode_all import CHILD
from tests.trials import every_recording, killed_extractions, mutated_recordings

SMALL_BYTES = 60_000
COPIES = 40
KILLS, CLIPS = 3, 6


def test_every_small_recording_ends_in_all_its_frames_or_in_one_line(shared: Path) -> None:
    files = every_recording.files_of(shared, most_bytes=SMALL_BYTES)
    results = every_recording.results_of(files, every_recording.table_of(shared))
    assert {result.path.name: result.complaints for result in results if result.complaints} == {}
    kinds = {kind: sum(result.kind == kind for result in results) for kind in ("frames", "damaged", "refused")}
    assert kinds["frames"] > 40
    assert kinds["refused"] > 5


def test_a_wrong_count_in_the_table_is_reported(shared: Path) -> None:
    name = "torchcodec_h265_video.mp4"
    table = every_recording.table_of(shared)
    table[name]["frames_decoded"] = "11"
    (result,) = every_recording.results_of([shared / "data" / "videos" / "codec_matrix" / name], table)
    assert result.complaints == ("(10, 10) frames, not 11",)


def test_mutated_copies_end_in_frames_or_in_one_line(shared: Path) -> None:
    tally = mutated_recordings.tally(mutated_recordings.sources_of(shared), COPIES)
    assert sum(tally.kinds.values()) == COPIES
    assert tally.kinds["stopped"] == 0
    assert min(tally.kinds["frames"], tally.kinds["refused"]) > 5  # else the mutations are too mild, or too harsh


def test_mutated_clips_of_every_other_container_end_in_frames_or_in_one_line(tmp_path: Path) -> None:
    sources = mutated_recordings.other_containers(tmp_path)
    n_copies = len(sources) * len(mutated_recordings.MUTATIONS) * 2
    copies = list(mutated_recordings.write_copies(sources, n_copies, tmp_path, seed=1))
    outcomes = run_in_child(  # one child for all, since none of these copies crashes a decoder
        CHILD,
        {
            "sources": [(str(copy), copy.name) for copy in copies],
            "frames": str(tmp_path / "frames"),
            "settings": mutated_recordings.SETTINGS.to_json(),
            "digests": {},
        },
        subject="copies",
        timeout_seconds=60,
        max_bytes=mutated_recordings.LIMITS.bytes,
    )
    kinds = [mutated_recordings.kind_of(Outcome.from_json(outcome))[0] for outcome in outcomes]
    assert set(kinds) == {"frames", "damaged", "refused"}
    assert min(kinds.count(kind) for kind in ("damaged", "refused")) >= 5  # else the mutations are too mild


def test_the_same_seed_mutates_alike_and_every_copy_differs_from_its_source(shared: Path, tmp_path: Path) -> None:
    sources = mutated_recordings.sources_of(shared)
    first = [path.read_bytes() for path in mutated_recordings.write_copies(sources, COPIES, tmp_path)]
    assert first == [path.read_bytes() for path in mutated_recordings.write_copies(sources, COPIES, tmp_path)]
    assert first != [path.read_bytes() for path in mutated_recordings.write_copies(sources, COPIES, tmp_path, seed=1)]
    contents = {path.read_bytes() for path in sources}
    assert sum(copy in contents for copy in first) < COPIES // 10


def test_a_killed_run_resumes_and_gives_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    results = list(killed_extractions.trials(tmp_path, KILLS, CLIPS))
    assert len(results) == KILLS
    for result in results:
        assert (result["same_bytes"], result["decoded_again"], result["left_behind"]) == (True, 0, [])
    assert any(result["killed"] and result["clips_done"] for result in results)
    assert all(result["clips_done"] + result["decoded_after"] == CLIPS for result in results)  # type: ignore[operator]
