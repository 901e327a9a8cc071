"""Archives are unpacked by us: plain ones whole, hostile ones not at all."""

import gzip
import io
import stat
import tarfile
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.files import archives
from unveil.files.archives import extract, is_page
from unveil.planning.weights.public_archives import public_archives

FILES = {"pretrained/hopper/diffusion/h/state_0.pt": b"weights" * 1000, "pretrained/hopper/args.json": b"{}"}


def tar(path, members, mode="w:gz", form=tarfile.PAX_FORMAT):
    """Members are (name, content) or (name, content, what to change of its header)."""
    with tarfile.open(path, mode, format=form) as file:
        for name, content, *change in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in (change[0] if change else {}).items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content, *change in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, compression
            for key, value in (change[0] if change else {}).items():
                setattr(info, key, value)
            file.writestr(info, content)
    return path


def refused(path, out, match="refused"):
    with pytest.raises(UnveilError, match=match) as caught:
        extract(path, out)
    assert "\n" not in str(caught.value)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    return str(caught.value)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "zip"])
def test_a_plain_archive_comes_out_whole_and_without_rights(tmp_path, mode, form):
    members = [(name, content, {} if mode == "zip" else {"mode": 0o4777}) for name, content in FILES.items()]
    if mode == "zip":
        path = zipped(tmp_path / "a", [("pretrained/", b""), *members])
    else:
        path = tar(tmp_path / "a", [("./pretrained", b"", {"type": tarfile.DIRTYPE}), *members], mode, form)
    assert extract(path, tmp_path / "new" / "out") == 2
    for name, content in FILES.items():
        file = tmp_path / "new" / "out" / name
        assert file.read_bytes() == content
        assert not file.stat().st_mode & 0o7111
    assert [place.name for place in (tmp_path / "new").iterdir()] == ["out"]


def test_what_is_there_already_stays(tmp_path):
    path = tar(tmp_path / "a.tar.gz", FILES.items())
    (tmp_path / "out").mkdir()
    with pytest.raises(UnveilError, match="exists already"):
        extract(path, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnveilError, match="exists already"):
        extract(path, tmp_path / "link")
    with pytest.raises(UnveilError, match="No such file"):
        extract(tmp_path / "b.tar", tmp_path / "new")


NAMES = [
    "/etc/passwd",
    "../a",
    "a/../../b",
    "a/..",
    "a//b",
    "..\\a",
    "C:a",
    "a\x1b[2Ja",
    "a\x00b",
    "a\udc80b",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tmp_path, name):
    if "\x00" not in name:  # no tar has one
        assert "plain relative name" in refused(
            tar(tmp_path / "a", [*FILES.items(), (name, b"x")]), tmp_path / "out"
        )
    if "\udc80" not in name:  # no zip has one
        assert "plain relative name" in refused(
            zipped(tmp_path / "a", [*FILES.items(), (name, b"x")]), tmp_path / "out"
        )
    assert {place.name for place in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize(
    "names",
    [
        ["a/state_0.pt", "a/state_0.pt"],
        ["a/x", "a/./x"],
        ["a/State.pt", "a/state.pt"],
        ["a/x", "A/y"],
        ["stra\u00dfe", "strasse"],
        ["caf\u00e9", "cafe\u0301"],
        ["a", "a/b"],
        ["a/b", "a"],
    ],
)
def test_names_that_meet(tmp_path, names):
    members = [(name, b"x") for name in names]
    assert "occurs twice, or beside" in refused(tar(tmp_path / "a", members), tmp_path / "out")
    with warnings.catch_warnings(action="ignore"):  # zipfile's, of names that stand there twice
        path = zipped(tmp_path / "b", members)
    assert "occurs twice, or beside" in refused(path, tmp_path / "out")


TYPES = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
    b"Z",
]


@pytest.mark.parametrize("kind", TYPES)
def test_only_files_and_folders_come_out_of_a_tar(tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    members = [*FILES.items(), ("link", b"", {"type": kind, "linkname": "../secret"}), ("link/x", b"x")]
    assert "neither a file nor a folder" in refused(tar(tmp_path / "a", members), tmp_path / "out")
    assert (tmp_path / "secret").read_text() == "secret"


def test_sparse_files_are_refused(tmp_path):
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "a",
        "GNU.sparse.realsize": "100000000000",
    }
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    refused(tar(tmp_path / "a", [("GNUSparseFile.0/a", content, {"pax_headers": pax})]), tmp_path / "out")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_only_files_and_folders_come_out_of_a_zip(tmp_path, mode):
    path = zipped(
        tmp_path / "a", [*FILES.items(), ("link", b"/etc/passwd", {"external_attr": (mode | 0o777) << 16})]
    )
    assert "neither a file nor a folder" in refused(path, tmp_path / "out")


def test_other_packings_of_a_zip_are_refused(tmp_path):
    assert "compressed by a" in refused(
        zipped(tmp_path / "a", FILES.items(), zipfile.ZIP_LZMA), tmp_path / "out"
    )


def test_bombs_are_refused_before_they_swell(tmp_path):
    zeros = bytes(30 * 2**20)
    for path in (tar(tmp_path / "a", [("a", zeros)]), zipped(tmp_path / "b", [("a", zeros)])):
        assert path.stat().st_size < 2**16
        assert "larger than" in refused(path, tmp_path / "out")
    header = tarfile.TarInfo("a")
    header.size = 2**60
    (tmp_path / "c").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)))
    assert "larger than" in refused(tmp_path / "c", tmp_path / "out")
    for kind in (
        tarfile.XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
    ):  # a name of gigabytes, which tarfile would read at once
        header.type, header.size = kind, 2**33
        (tmp_path / "d").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)))
        assert "a header of" in refused(tmp_path / "d", tmp_path / "out")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    (tmp_path / "e").write_bytes(
        gzip.compress((header.tobuf() + b"a".ljust(512, b"\0")) * 5000)
    )  # headers of headers of headers
    assert "headers of headers" in refused(tmp_path / "e", tmp_path / "out")


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST", 10)
    assert "more than 10 members" in refused(
        tar(tmp_path / "a", [(f"{i}", b"") for i in range(11)]), tmp_path / "out"
    )


def test_damage_anywhere_is_noticed_or_harmless(tmp_path):
    """Cut or flipped, an archive gives what was in it, or nothing; never a part."""
    noise = np.random.default_rng(0).bytes(5000)
    members = [("pretrained/a", noise), ("pretrained/b", noise[::-1])]
    for path in (
        tar(tmp_path / "a.tar", members, "w"),
        tar(tmp_path / "a.tgz", members),
        zipped(tmp_path / "a.zip", members),
    ):
        whole = path.read_bytes()
        for cut in (
            0,
            3,
            100,
            len(whole) // 2,
            len(whole) - 9000 if path.suffix == ".tar" else len(whole) - 30,
        ):
            (tmp_path / "cut").write_bytes(whole[: max(cut, 0)])
            refused(tmp_path / "cut", tmp_path / "out")
        for place in np.random.default_rng(1).integers(0, len(whole), 60):
            (tmp_path / "flipped").write_bytes(
                whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
            )
            out = tmp_path / f"{path.suffix}{place}"
            with suppress(UnveilError):
                extract(tmp_path / "flipped", out)
            assert not out.exists() or len([file for file in out.rglob("*") if file.is_file()]) == 2
    damaged = bytearray((tmp_path / "a.tar").read_bytes())
    damaged[damaged.rindex(b"pretrained/b") + 150] ^= (
        1  # the second header's checksum: tarfile would stop there, content
    )
    (tmp_path / "half").write_bytes(damaged)
    assert "no end-of-archive block" in refused(tmp_path / "half", tmp_path / "out")


def test_nothing_of_use_is_refused(tmp_path):
    refused(tar(tmp_path / "a", [("a", b"", {"type": tarfile.DIRTYPE})]), tmp_path / "out", "no file in it")
    (tmp_path / "b").write_bytes(b"\x1f\x8b" + bytes(100))
    refused(tmp_path / "b", tmp_path / "out")


def test_a_large_gzip_is_read_once(tmp_path, monkeypatch):
    """Members whose sizes are whole blocks: looking back a byte must not begin the gzip anew."""
    block = np.random.default_rng(0).bytes(2**18)
    path = tar(tmp_path / "a", [(f"{i}", block) for i in range(30)])
    begun, rewind = [], gzip._GzipReader._rewind
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: (begun.append(1), rewind(self))[1])
    with gzip.open(path) as again:  # the count sees what begins anew
        again.read(2**22)
        again.seek(0)
    assert len(begun) == 1
    assert extract(path, tmp_path / "out") == 30
    assert len(begun) == 1


def test_pages_are_told_from_archives(tmp_path):
    for content in (b"<!DOCTYPE html><html>", b"\n\n <HTML>", b"\xef\xbb\xbf<!doctype HTML>"):
        (tmp_path / "page").write_bytes(content)
        assert is_page(tmp_path / "page")
    assert not is_page(tar(tmp_path / "a", FILES.items(), "w")) and not is_page(
        zipped(tmp_path / "b", FILES.items())
    )


def test_the_manifest_is_https_and_names_its_sources():
    public = public_archives()
    assert set(public) == {"diffuser-locomotion", "diffuser-maze2d", "diffuser-kuka"}
    for it in public.values():
        assert (
            it.url.startswith("https://")
            and it.page.startswith("https://")
            and "github.com/jannerm/diffuser" in it.source
        )
        assert "/" not in it.file and it.file.endswith((".tar", ".zip", ".tar.gz"))
        assert it.size is None or it.size > 0
        assert it.sha256 is None or (len(it.sha256) == 64 and int(it.sha256, 16))
    assert len({it.file for it in public.values()}) == len(public)
