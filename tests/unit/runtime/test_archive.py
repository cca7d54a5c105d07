"""A bundle as a zip and as a folder: exactly the listed files, or a refusal."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.archive import FILE_MODE, FIXED_DATE, SUMS, UNIX, bundle_id, unpack, verify
from runtime.errors import BundleError
from tests.support.tiny_bundle import rewrite_sums

FILES = {"README.md": b"read me\n", "golden/000.npy": b"\x93NUMPY pixels", "runtime/__init__.py": b""}
Entries = list[tuple[zipfile.ZipInfo, bytes]]


def entry(name: str, *, mode: int = FILE_MODE, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """Return an entry as a bundle has it, with another mode or method where the test asks for one."""
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.create_system, info.external_attr, info.compress_type = UNIX, mode, method
    return info


def sums(files: dict[str, bytes]) -> bytes:
    """Return the list of the files with their hashes."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def good_entries(files: dict[str, bytes] = FILES) -> Entries:
    """Return the entries of a small archive that is accepted."""
    return [(entry(name), content) for name, content in sorted({**files, SUMS: sums(files)}.items())]


def write_zip(path: Path, entries: Entries) -> Path:
    """Write an archive of the entries."""
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return path


def assert_refused(zip_path: Path, reason: str = "bundle|unpacked") -> None:
    """Check that unpacking fails in one line that names the file, and leaves no file inside or outside the folder."""
    parent = zip_path.parent
    before = sorted(parent.rglob("*"))
    with pytest.raises(BundleError, match=reason) as caught:
        unpack(zip_path, parent / "bundle")
    assert str(caught.value).startswith(f"{zip_path}: ")
    assert "\n" not in str(caught.value)
    assert sorted(parent.rglob("*")) == before


def test_a_good_archive_is_unpacked_whole(tmp_path: Path) -> None:
    unpack(write_zip(tmp_path / "good.zip", good_entries()), tmp_path / "new" / "bundle")
    unpacked = {
        path.relative_to(tmp_path / "new" / "bundle").as_posix(): path.read_bytes()
        for path in (tmp_path / "new").rglob("*")
        if path.is_file()
    }
    assert unpacked == {**FILES, SUMS: sums(FILES)}
    assert verify(tmp_path / "new" / "bundle") == len(FILES)


def with_entry(name: str, content: bytes = b"more", **changes: int) -> Entries:
    return [*good_entries(), (entry(name, **changes), content)]


def listed_too(name: str) -> Entries:
    return good_entries({**FILES, name: b"escaped"})


def replaced(name: str, info: zipfile.ZipInfo, content: bytes | None = None) -> Entries:
    return [
        (info, old if content is None else content) if each.filename == name else (each, old)
        for each, old in good_entries()
    ]


def with_extra() -> Entries:
    info = entry("README.md")
    info.extra = b"\x99\x99\x02\x00ab"
    return replaced("README.md", info)


def with_entry_comment() -> Entries:
    info = entry("README.md")
    info.comment = b"hidden"
    return replaced("README.md", info)


def with_sums(content: bytes) -> Entries:
    return replaced(SUMS, entry(SUMS), content)


FAULTS: dict[str, tuple[Callable[[], Entries], str]] = {
    "an extra entry": (lambda: with_entry("extra.txt"), "'extra.txt' is not listed"),
    "a missing entry": (lambda: good_entries()[1:], "'README.md' is missing"),
    "no list": (lambda: [each for each in good_entries() if each[0].filename != SUMS], f"not one {SUMS}"),
    "nothing": (list, f"not one {SUMS}"),
    "other content": (lambda: replaced("README.md", entry("README.md"), b"Read me\n"), "'README.md' has been changed"),
    "a compressed entry": (
        lambda: replaced("README.md", entry("README.md", method=zipfile.ZIP_DEFLATED), b"read me\n" * 99),
        "is compressed",
    ),
    "an entry stored as compressed": (
        lambda: replaced("runtime/__init__.py", entry("runtime/__init__.py", method=zipfile.ZIP_DEFLATED)),
        "is compressed",
    ),
    "a link": (lambda: with_entry("link", b"/etc/passwd", mode=(stat.S_IFLNK | 0o777) << 16), "not a plain file"),
    "a folder": (lambda: with_entry("folder/", b"", mode=(stat.S_IFDIR | 0o755) << 16), "not a plain file"),
    "a program": (lambda: with_entry("program", mode=(stat.S_IFREG | 0o755) << 16), "not a plain file"),
    "an extra field": (with_extra, "more than its bytes"),
    "a comment on an entry": (with_entry_comment, "more than its bytes"),
    "a name beyond ASCII": (lambda: with_entry("鳞片"), "more than its bytes"),
    "an escaping name": (lambda: with_entry("../escaped"), "is not listed"),
    "an escaping name that is listed": (lambda: listed_too("../escaped"), "plain names"),
    "an absolute name that is listed": (lambda: listed_too("/escaped"), "plain names"),
    "an escape inside a name": (lambda: listed_too("golden/../../escaped"), "plain names"),
    "a backslash": (lambda: listed_too("..\\escaped"), "plain names"),
    "a drive": (lambda: listed_too("C:escaped"), "plain names"),
    "a hidden name": (lambda: listed_too(".bashrc"), "plain names"),
    "a name with a space": (lambda: listed_too("two words"), "plain names"),
    "names that differ in case": (lambda: listed_too("readme.MD"), "twice"),
    "a file that is a folder too": (lambda: listed_too("README.md/inside"), "cannot be unpacked"),
    "the list inside itself": (lambda: listed_too(SUMS.lower()), "twice"),
    "an empty list": (lambda: with_sums(b""), "not a list"),
    "a list without an end": (lambda: with_sums(sums(FILES)[:-1]), "not a list"),
    "a list in capitals": (lambda: with_sums(sums(FILES).upper()), "not a list"),
    "an unsorted list": (lambda: with_sums(b"".join(reversed(sums(FILES).splitlines(keepends=True)))), "not sorted"),
    "a list with a line twice": (lambda: with_sums(sums(FILES) + sums(FILES).splitlines(keepends=True)[-1]), "twice"),
}


@pytest.mark.parametrize(("entries", "reason"), FAULTS.values(), ids=FAULTS)
def test_an_archive_with_a_fault_is_refused(entries: Callable[[], Entries], reason: str, tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "bad.zip", entries()), reason)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "twice.zip", with_entry("README.md", b"read me\n")), "twice")


def test_bytes_that_belong_to_no_entry_are_refused(tmp_path: Path) -> None:
    good = write_zip(tmp_path / "good.zip", good_entries()).read_bytes()
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"#!/bin/sh\n" + good)
    assert_refused(bad, "leaves a gap")
    bad.write_bytes(good + b"junk")
    assert_refused(bad)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.comment = b"a comment"
        for info, content in good_entries():
            archive.writestr(info, content)
    assert_refused(bad, "bytes that belong to no entry")


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A bomb of overlapping entries: the directory names the same bytes many times."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in good_entries():
            archive.writestr(info, content)
        first, again = archive.filelist[0], entry("README.MD2")
        again.header_offset, again.CRC = first.header_offset, first.CRC
        again.file_size = again.compress_size = first.file_size
        archive.filelist.append(again)
    assert_refused(path, "overlaps another entry")


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    good = write_zip(tmp_path / "good.zip", good_entries())
    data = bytearray(good.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    good.write_bytes(data)
    assert_refused(good, "encrypted")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_archive_is_refused(share: float, bundle_zip: Path, tmp_path: Path) -> None:
    whole = bundle_zip.read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert_refused(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    assert_refused(tmp_path / "text.zip", "not a zip file")
    with pytest.raises(BundleError, match="No such file"):
        unpack(tmp_path / "none.zip", tmp_path / "bundle")


def test_a_damaged_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Dates in a header may change; the unpacked files may not."""
    whole = write_zip(tmp_path / "good.zip", good_entries()).read_bytes()
    chance, refused = random.Random(0), 0
    path, folder = tmp_path / "damaged.zip", tmp_path / "bundle"
    for trial in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        target = folder / str(trial)
        try:
            unpack(path, target)
        except BundleError:
            refused += 1
            assert not target.exists()
        else:
            assert verify(target) == len(FILES)
            assert all((target / name).read_bytes() == content for name, content in FILES.items())
    assert refused > 150


def test_a_folder_that_exists_is_never_touched(tmp_path: Path) -> None:
    good = write_zip(tmp_path / "good.zip", good_entries())
    target = tmp_path / "bundle"
    target.mkdir()
    with pytest.raises(BundleError, match="exists already"):
        unpack(good, target)
    assert list(target.iterdir()) == []
    target.rmdir()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="exists already"):
        unpack(good, target)


def test_the_pristine_bundle_verifies_with_its_caches(folder: Path) -> None:
    (folder / "runtime" / "__pycache__").mkdir()
    (folder / "runtime" / "__pycache__" / "archive.cpython-311.pyc").write_bytes(b"cache")
    assert verify(folder) == len((folder / SUMS).read_text().splitlines())


def test_a_file_that_is_not_listed_fails_verification(folder: Path) -> None:
    (folder / "runtime" / "sitecustomize.py").touch()
    with pytest.raises(BundleError, match=r"'runtime/sitecustomize\.py' is not listed"):
        verify(folder)


def test_a_file_that_is_missing_fails_verification(folder: Path) -> None:
    (folder / "NOTICES").unlink()
    with pytest.raises(BundleError, match="'NOTICES' is missing"):
        verify(folder)


def test_a_link_fails_verification_wherever_it_leads(folder: Path, tmp_path: Path) -> None:
    kept = (folder / "NOTICES").rename(tmp_path / "kept")
    (folder / "NOTICES").symlink_to(kept)
    with pytest.raises(BundleError, match="'NOTICES' is not a plain file"):
        verify(folder)


def test_a_linked_folder_fails_verification(folder: Path, tmp_path: Path) -> None:
    kept = (folder / "golden").rename(tmp_path / "golden")
    (folder / "golden").symlink_to(kept)
    with pytest.raises(BundleError, match="'golden' is not a plain file"):
        verify(folder)


def test_a_folder_without_a_list_fails_verification(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        verify(tmp_path)


def test_a_list_of_absurd_length_is_not_read(folder: Path) -> None:
    os.truncate(folder / SUMS, 2**20 + 1)
    with pytest.raises(BundleError, match="SHA256SUMS has more than 1048576 bytes; unpack the bundle anew"):
        verify(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_fails_verification(folder: Path) -> None:
    (folder / "NOTICES").chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        verify(folder)


def test_every_byte_of_a_bundle_counts(folder: Path) -> None:
    """One flipped bit anywhere is noticed, in the list too."""
    chance = random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        whole = path.read_bytes()
        for at in {0, len(whole) - 1, chance.randrange(len(whole))}:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                verify(folder)
        path.write_bytes(whole)
    assert verify(folder) == len(files) - 1


def test_a_list_that_is_rewritten_for_a_changed_file_verifies(folder: Path) -> None:
    """The list guards against damage, not against a liar, who can rewrite it."""
    n_files = verify(folder)
    (folder / "NOTICES").write_text("changed")
    rewrite_sums(folder)
    assert verify(folder) == n_files


def test_another_file_is_another_bundle_id(folder: Path) -> None:
    name = bundle_id(folder)
    assert name == hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()[:16]
    (folder / "NOTICES").write_text("changed")
    assert bundle_id(folder) == name  # of the list; `verify` compares the files with it
    rewrite_sums(folder)
    assert bundle_id(folder) != name


def test_a_folder_without_a_list_has_no_bundle_id(tmp_path: Path) -> None:
    assert bundle_id(tmp_path) is None
