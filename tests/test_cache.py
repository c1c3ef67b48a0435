"""The download cache gives whole, verified files or one clear error, whatever server, disk and other processes do."""

import hashlib
import json
import logging
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest
from http_server import Page, serve

from kipoi_borzoi.errors import DownloadError, InputError
from kipoi_borzoi.files import find_temporaries
from kipoi_borzoi.zoo import cache, download

HDF5 = b"\x89HDF\r\n\x1a\n"
WEIGHTS = HDF5 + bytes(range(256)) * 4096  # 1 MiB
OTHER = HDF5 + bytes(reversed(range(256))) * 4096
SHA = hashlib.sha256(WEIGHTS).hexdigest()
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BACKOFF_S", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def server():
    with serve({"/f0/weights.h5": Page(WEIGHTS)}) as server:
        yield server


@pytest.fixture
def url(server):
    return server.url("/f0/weights.h5")


def leftovers(url):
    """Files of the URL's folder other than the cached file, its pin and the lock file."""
    folder = cache.cached_path(url).parent
    known = {cache.cached_path(url).name, ".pin.json", ".lock"}
    return sorted(set(os.listdir(folder)) - known) if folder.exists() else []


def forget():
    """As in a new process: no file counts as verified."""
    cache._verified.clear()


def run_child(code, *args, **options):
    """Start Python on ``code`` with the modules it needs."""
    code = "import sys, os, logging\nfrom kipoi_borzoi.zoo import cache, download\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# ---------------------------------------------------------------- the plain case


def test_a_file_is_downloaded_once(server, url, folder):
    path = cache.fetch(url, sha256=SHA.upper())
    assert path.read_bytes() == WEIGHTS
    assert path == cache.cached_path(url) and path.name == "weights.h5" and folder in path.parents
    assert cache.fetch(url, sha256=SHA) == path
    forget()
    assert cache.fetch(url) == path
    assert len(server.requests) == 1
    assert leftovers(url) == []


def test_urls_that_differ_anywhere_have_their_own_files(server, url):
    server.pages |= {"/f1/weights.h5": Page(OTHER), "/f1/weights.h5?v=2": Page(WEIGHTS)}
    first, second, third = (cache.fetch(server.url(p)) for p in ("/f0/weights.h5", *list(server.pages)[1:]))
    assert [p.name for p in (first, second, third)] == ["weights.h5"] * 3
    assert [p.read_bytes() for p in (first, second, third)] == [WEIGHTS, OTHER, WEIGHTS]


@pytest.mark.parametrize(
    "path, name",
    [
        ("/a/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/a/.pin.json", "pin.json"),
        ("/", "file"),
        ("/x%20y;z.txt?q=/../a.h5", "x_y_z.txt"),
        ("/" + "n" * 300 + ".h5", "n" * 97 + ".h5"),
    ],
)
def test_names_in_the_cache_are_plain(path, name, folder):
    found = cache.cached_path("https://example.org" + path)
    assert found.name == name and found.parent.parent == folder


def test_the_default_folder_is_the_systems_cache(monkeypatch):
    monkeypatch.delenv("KIPOI_BORZOI_CACHE")
    assert "kipoi_borzoi" in str(cache.cache_dir()) and cache.cache_dir().is_absolute()
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", "~/elsewhere")
    assert cache.cache_dir() == pathlib.Path.home() / "elsewhere"


def test_the_progress_bar_can_be_shown_or_not(server, url, capsys):
    cache.fetch(url, progress=True)
    assert "weights.h5: 100%" in capsys.readouterr().err
    server.pages["/b.h5"] = Page(OTHER)
    cache.fetch(server.url("/b.h5"), progress=False)
    assert capsys.readouterr().err == ""


def test_a_download_is_not_kept_in_memory(server):
    size = 96 << 20
    server.pages["/big.h5"] = Page(HDF5 + bytes(size), block=1 << 20)
    child = run_child(
        """
        import resource
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path = cache.fetch(sys.argv[1], progress=False)
        print(path.stat().st_size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """,
        server.url("/big.h5"),
    )
    out, err = child.communicate(timeout=60)
    length, grown_kb = map(int, out.split())
    assert length == size + 8 and grown_kb < 40_000, err


# ---------------------------------------------------------------- what may be fetched from where


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://example.org/w.h5",
        "ftp://example.org/w.h5",
        "/etc/passwd",
        "https:///w.h5",
        "http://127.0.0.1.example.org/w.h5",
        "http://localhost@example.org/w.h5",
        "http://[::1/w.h5",
        "gs://bucket/w.h5",
    ],
)
def test_other_than_https_is_refused(url, folder):
    with pytest.raises(DownloadError, match="https|not a URL"):
        cache.fetch(url)
    assert not folder.exists()


def test_https_and_loopback_http_are_allowed():
    for url in ("https://example.org/w.h5", "http://127.0.0.1:80/w", "http://localhost/w", "http://[::1]:8/w"):
        download.check_url(url)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://example.org/w.h5", "ftp://127.0.0.1/w.h5"])
def test_redirects_are_checked(server, target):
    server.pages["/r.h5"] = Page(redirect=target)
    with pytest.raises(DownloadError, match=f"r.h5: refused: redirected to {target} is not an https"):
        cache.fetch(server.url("/r.h5"))
    assert leftovers(server.url("/r.h5")) == []


def test_a_site_elsewhere_cannot_redirect_to_this_machine():
    download.check_url("http://127.0.0.1/w", origin="http://localhost/w")
    with pytest.raises(DownloadError, match="refused: redirected to http://127.0.0.1/w"):
        download.check_url("http://127.0.0.1/w", origin="https://example.org/w")


def test_good_redirects_are_followed_and_loops_are_not(server, url):
    server.pages |= {"/a.h5": Page(redirect="/b.h5"), "/b.h5": Page(redirect=url), "/l": Page(redirect="/l")}
    assert cache.fetch(server.url("/a.h5")).read_bytes() == WEIGHTS
    with pytest.raises(DownloadError, match="more than 10 redirects"):
        cache.fetch(server.url("/l"))


def test_a_proxy_setting_does_not_reach_loopback(server, url, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert cache.fetch(url).read_bytes() == WEIGHTS


# ---------------------------------------------------------------- broken transfers


def test_a_broken_transfer_is_resumed(server, url):
    server.pages["/f0/weights.h5"].breaks = [300_000, 200_000]
    assert cache.fetch(url, sha256=SHA).read_bytes() == WEIGHTS
    assert server.ranges() == [None, "bytes=300000-", "bytes=500000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"v1"', '"v1"']
    assert leftovers(url) == []


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_without_ranges_or_a_strong_etag_it_is_restarted(server, url, change):
    page = server.pages["/f0/weights.h5"]
    page.breaks = [300_000]
    for name, value in change.items():
        setattr(page, name, value)
    assert cache.fetch(url).read_bytes() == WEIGHTS
    assert len(server.requests) == 2


@pytest.mark.parametrize("obeys_if_range", [True, False])
def test_a_file_that_changes_between_two_attempts_is_restarted(server, url, monkeypatch, obeys_if_range):
    page = server.pages["/f0/weights.h5"]
    page.breaks, page.if_range = [300_000], obeys_if_range

    def change(_):
        page.body, page.etag = OTHER, '"v2"'

    monkeypatch.setattr(download.time, "sleep", change)
    assert cache.fetch(url).read_bytes() == OTHER
    assert leftovers(url) == []


def test_a_range_beyond_the_file_is_restarted(server, url, monkeypatch):
    page = server.pages["/f0/weights.h5"]
    page.body, page.breaks = WEIGHTS + b"longer", [len(WEIGHTS)]
    monkeypatch.setattr(download.time, "sleep", lambda _: setattr(page, "body", WEIGHTS))
    assert cache.fetch(url).read_bytes() == WEIGHTS


def test_server_errors_are_retried(server, url):
    server.pages["/f0/weights.h5"].statuses = [500, 503, 429]
    assert cache.fetch(url).read_bytes() == WEIGHTS
    assert len(server.requests) == 4


def test_attempts_end_when_there_is_no_progress(server, url):
    server.pages["/f0/weights.h5"].statuses = [502] * 10
    with pytest.raises(DownloadError, match="download failed, 4 attempts in a row: the server answered HTTP 502"):
        cache.fetch(url)
    assert len(server.requests) == 4
    assert leftovers(url) == []


def test_attempts_go_on_as_long_as_the_file_grows(server, url):
    server.pages["/f0/weights.h5"].breaks = [150_000] * 6
    assert cache.fetch(url).read_bytes() == WEIGHTS
    assert len(server.requests) == 7


def test_a_server_that_always_breaks_off_at_the_same_place_is_given_up(server, url):
    server.pages["/f0/weights.h5"].breaks = [1000] * 20
    server.pages["/f0/weights.h5"].ranges = False
    with pytest.raises(DownloadError, match="download failed"):
        cache.fetch(url)
    assert not cache.cached_path(url).exists()


def test_the_part_of_a_failed_call_is_continued_by_the_next(server, url):
    page = server.pages["/f0/weights.h5"]
    page.breaks = [700_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="ended after 700,000 of 1,048,584 bytes|Connection broken|Incomplete"):
        cache.fetch(url)
    assert not cache.cached_path(url).exists()
    assert len(leftovers(url)) == 1
    page.breaks.clear()
    assert cache.fetch(url, sha256=SHA).read_bytes() == WEIGHTS
    assert server.ranges()[-1] == "bytes=700000-"
    assert leftovers(url) == []


def test_chunked_transfer(server, url):
    page = server.pages["/f0/weights.h5"]
    page.chunked = True
    page.breaks = [300_000]
    assert cache.fetch(url).read_bytes() == WEIGHTS
    assert len(server.requests) == 2


def test_a_body_of_unknown_length_needs_a_checksum(server, url):
    server.pages["/f0/weights.h5"].length = False
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        cache.fetch(url)
    assert cache.fetch(url, sha256=SHA).read_bytes() == WEIGHTS


def test_a_missing_file_is_said_at_once(server):
    with pytest.raises(DownloadError, match="no.h5: the server answered HTTP 404 Not Found"):
        cache.fetch(server.url("/no.h5"))
    assert len(server.requests) == 1
    assert leftovers(server.url("/no.h5")) == []


def test_no_network_names_url_and_place(server, url, folder):
    server.server_close()
    with pytest.raises(DownloadError, match="Connection refused") as caught:
        cache.fetch(url)
    assert url in str(caught.value) and str(cache.cached_path(url)) in str(caught.value)


def test_a_killed_download_leaves_no_file_and_is_resumed(server, url):
    page = server.pages["/f0/weights.h5"]
    page.pause_s, page.block = 0.05, 1 << 15
    child = run_child("cache.fetch(sys.argv[1], progress=False)", url)
    target, deadline = cache.cached_path(url), time.monotonic() + 30
    while not (parts := find_temporaries(target.parent) if target.parent.exists() else []) or (
        parts[0].path.stat().st_size < 100_000
    ):
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not target.exists()
    (part,) = find_temporaries(target.parent)
    size = part.path.stat().st_size
    page.pause_s = 0
    assert 100_000 <= size < len(WEIGHTS)
    assert cache.fetch(url, sha256=SHA).read_bytes() == WEIGHTS
    assert server.ranges() == [None, f"bytes={size}-"]
    assert leftovers(url) == []


def test_an_interrupted_download_leaves_no_file_and_is_resumed(server, url):
    page = server.pages["/f0/weights.h5"]
    page.pause_s, page.block = 0.05, 1 << 15
    child = run_child("cache.fetch(sys.argv[1], progress=False)", url)
    deadline = time.monotonic() + 30
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode != 0 and not cache.cached_path(url).exists()
    page.pause_s = 0
    assert cache.fetch(url, sha256=SHA).read_bytes() == WEIGHTS
    assert server.ranges()[1].startswith("bytes=")
    assert leftovers(url) == []


# ---------------------------------------------------------------- what arrives must be what it should be


@pytest.mark.parametrize(
    "name, body, message",
    [
        ("w.h5", b"<!DOCTYPE html><html>log in", "is an HTML .* page, expected an HDF5 file"),
        ("w.h5", b"\n <HTML><head>", "is an HTML .* page, expected an HDF5 file"),
        ("t.txt", b"\xef\xbb\xbf<!doctype html>", "is an HTML .* page, expected a text table"),
        ("p.json", b'<?xml version="1.0"?><Error>', "is an HTML .* page, expected a JSON file"),
        ("w", b"<html>", "is an HTML .* page, expected a data file"),
        ("w.safetensors", b"<html>", "is an HTML .* page, expected a .safetensors file"),
        ("w.h5", b"version https://git-lfs", "is not an HDF5 file: it begins with b'version https://'"),
        ("p.json", b"index\tidentifier", "is not a JSON file"),
        ("t.txt", HDF5 + b"\0\0", "is not a text table"),
        ("t.txt.gz", b"index\tidentifier", "is not a gzip file"),
        ("w.h5", b"", "the file is empty, expected an HDF5 file"),
    ],
)
def test_a_file_of_another_kind_is_refused(server, name, body, message):
    server.pages["/" + name] = Page(body)
    url = server.url("/" + name)
    with pytest.raises(DownloadError, match=message) as caught:
        cache.fetch(url, sha256=SHA)  # said before the checksum, which would only say that something differs
    assert url in str(caught.value)
    assert not cache.cached_path(url).exists() and leftovers(url) == []


@pytest.mark.parametrize("name, body", [("p.json", b' {"model": 1}'), ("t.txt", b"\tidentifier"), ("x.bin", b"\0")])
def test_other_kinds_of_file_are_accepted(server, name, body):
    server.pages["/" + name] = Page(body)
    assert cache.fetch(server.url("/" + name)).read_bytes() == body


def test_a_checksum_mismatch_names_both(server, url):
    with pytest.raises(DownloadError) as caught:
        cache.fetch(url, sha256=OTHER_SHA)
    assert SHA in str(caught.value) and OTHER_SHA in str(caught.value) and url in str(caught.value)
    assert not cache.cached_path(url).exists() and leftovers(url) == []


@pytest.mark.parametrize("sha256", ["", "abc", SHA + "0", "g" * 64, "md5:" + SHA[:60]])
def test_a_checksum_must_be_one(url, sha256):
    with pytest.raises(InputError, match="expected 64 hexadecimal digits"):
        cache.fetch(url, sha256=sha256)


def test_the_first_download_is_pinned_and_said(server, url, caplog):
    with caplog.at_level(logging.INFO):
        path = cache.fetch(url)
    assert f"pinned sha256 {SHA}" in caplog.text
    assert json.loads((path.parent / ".pin.json").read_text()) == {"url": url, "sha256": SHA}


def test_a_stated_checksum_is_not_called_a_pin(url, caplog):
    with caplog.at_level(logging.INFO):
        cache.fetch(url, sha256=SHA)
    assert "pinned" not in caplog.text


def test_a_file_that_changes_upstream_violates_the_pin(server, url):
    path = cache.fetch(url)
    path.unlink()
    server.pages["/f0/weights.h5"] = Page(OTHER, etag='"v2"')
    with pytest.raises(DownloadError, match="as pinned at the first download") as caught:
        cache.fetch(url)
    assert SHA in str(caught.value) and OTHER_SHA in str(caught.value) and str(path.parent) in str(caught.value)
    assert not path.exists()
    shutil.rmtree(path.parent)  # what the message advises
    assert cache.fetch(url).read_bytes() == OTHER


def test_a_stated_checksum_rules_over_a_pin(server, url):
    cache.fetch(url)
    server.pages["/f0/weights.h5"] = Page(OTHER, etag='"v2"')
    assert cache.fetch(url, sha256=OTHER_SHA).read_bytes() == OTHER
    forget()
    assert cache.fetch(url).read_bytes() == OTHER  # the pin has followed
    assert len(server.requests) == 2


@pytest.mark.parametrize("sha256", [None, SHA])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_corrupt_cached_file_is_replaced_with_a_warning(server, url, caplog, sha256, damage):
    path = cache.fetch(url, sha256=sha256)
    forget()
    path.write_bytes(WEIGHTS[:-1] if damage == "truncate" else WEIGHTS[:-1] + b"X")
    with caplog.at_level(logging.WARNING):
        assert cache.fetch(url, sha256=sha256).read_bytes() == WEIGHTS
    assert "corrupt or outdated" in caplog.text and str(path) in caplog.text
    assert len(server.requests) == 2


def test_a_change_of_the_cached_file_is_seen_within_one_process(server, url):
    path = cache.fetch(url)
    status = path.stat()
    path.write_bytes(WEIGHTS[:-1] + b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.fetch(url).read_bytes() == WEIGHTS


def test_an_unchanged_file_is_hashed_once_per_process(url, monkeypatch):
    cache.fetch(url)
    forget()
    hashed = []
    monkeypatch.setattr(cache, "sha256_of_file", lambda path: hashed.append(path) or SHA)
    cache.fetch(url)
    cache.fetch(url)
    assert len(hashed) == 1


def test_a_corrupt_pin_says_what_to_remove(url):
    path = cache.fetch(url)
    (path.parent / ".pin.json").write_text("{")
    with pytest.raises(DownloadError, match=f"not a pin .* remove {path.parent}"):
        cache.fetch(url)


def test_a_file_placed_by_hand_is_accepted_and_pinned(server, url):
    path = cache.cached_path(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert cache.fetch(url) == path
    assert server.requests == []
    assert json.loads((path.parent / ".pin.json").read_text())["sha256"] == OTHER_SHA


def test_a_web_page_placed_by_hand_is_refused(server, url):
    path = cache.cached_path(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(DownloadError, match="HTML") as caught:
        cache.fetch(url)
    assert str(path) in str(caught.value)


# ---------------------------------------------------------------- several processes, and folders that cannot be written


def test_two_processes_download_one_file_once(server, url):
    server.pages["/f0/weights.h5"].pause_s = 0.03
    children = [run_child("print(cache.fetch(sys.argv[1], progress=False))", url) for _ in range(2)]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert out.strip() == str(cache.cached_path(url)), err
    assert cache.cached_path(url).read_bytes() == WEIGHTS
    assert len(server.requests) == 1
    assert leftovers(url) == []


def fetch_in_threads(url, count):
    results = []

    def run():
        try:
            results.append(cache.fetch(url, progress=False).read_bytes())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


@pytest.mark.parametrize("fault", [OSError(37, "No locks available"), None])
def test_with_locks_refused_or_lying_the_file_is_whole_all_the_same(server, url, monkeypatch, fault):
    def flock(*args):
        if fault is not None:
            raise fault

    monkeypatch.setattr(cache.fcntl, "flock", flock)
    server.pages["/f0/weights.h5"].pause_s = 0.03
    assert fetch_in_threads(url, 3) == [WEIGHTS] * 3
    assert leftovers(url) == []


def test_a_lock_whose_holder_does_nothing_is_not_waited_for_long(server, url, monkeypatch, caplog):
    monkeypatch.setattr(cache, "STALLED_S", 0.3)
    target = cache.cached_path(url)
    target.parent.mkdir(parents=True)
    with cache._locked(target.parent, url):
        assert cache.fetch(url).read_bytes() == WEIGHTS
    assert "stalled" in caplog.text


def test_a_lock_whose_holder_makes_progress_is_waited_for(server, url, monkeypatch):
    monkeypatch.setattr(cache, "STALLED_S", 1.0)
    server.pages["/f0/weights.h5"].pause_s = 0.1  # 17 blocks: longer than the limit, but never still for so long
    assert fetch_in_threads(url, 2) == [WEIGHTS] * 2
    assert len(server.requests) == 1


@pytest.fixture
def open_folder():
    """A folder that other users can enter, which pytest's own are not."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def fetch_as_user(url, cache_folder):
    """Fetch in a process that is not root, whom permission bits would not stop."""
    code = """
        from kipoi_borzoi.errors import DownloadError
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            print("OK", cache.fetch(sys.argv[1], progress=False))
        except DownloadError as error:
            print("ERROR", error)
        """
    child = run_child(code, url, env={**os.environ, "KIPOI_BORZOI_CACHE": str(cache_folder)})
    out, err = child.communicate(timeout=60)
    assert out, err
    return out.strip()


def test_a_read_only_cache_is_used_when_it_holds_the_file(server, url, open_folder, monkeypatch):
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(open_folder))
    path = cache.fetch(url)
    for place in [open_folder, *open_folder.rglob("*")]:
        place.chmod(place.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    assert fetch_as_user(url, open_folder) == f"OK {path}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("state", ["empty", "corrupt"])
def test_a_read_only_cache_without_a_valid_copy_is_one_clear_error(server, url, open_folder, monkeypatch, state):
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(open_folder))
    if state == "corrupt":
        cache.fetch(url).write_bytes(b"garbage")
    for place in [open_folder, *open_folder.rglob("*")]:
        place.chmod(place.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    out = fetch_as_user(url, open_folder)
    assert out.startswith(f"ERROR {url}: the cache folder {open_folder} holds no valid copy")
    assert "Permission denied" in out and "set KIPOI_BORZOI_CACHE to a folder" in out


def test_a_cache_that_is_no_folder_is_one_clear_error(server, url, folder):
    folder.write_text("a file")
    with pytest.raises(DownloadError, match="cannot be used .* set KIPOI_BORZOI_CACHE"):
        cache.fetch(url)


def test_a_full_disk_leaves_nothing_behind(server, url):
    child = run_child(
        """
        import resource
        from kipoi_borzoi.errors import DownloadError
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # no file may grow beyond this
        try:
            cache.fetch(sys.argv[1], progress=False)
        except DownloadError as error:
            print(error)
        """,
        url,
    )
    out, err = child.communicate(timeout=60)
    assert "File too large" in out and "KIPOI_BORZOI_CACHE" in out and "enough space" in out, err
    assert not cache.cached_path(url).exists() and leftovers(url) == []
    assert cache.fetch(url).read_bytes() == WEIGHTS


def test_temporaries_of_dead_processes_are_swept_when_the_file_is_there_already(server, url):
    path = cache.fetch(url)
    child = run_child("from kipoi_borzoi.files import create_temporary; create_temporary(sys.argv[1])", str(path))
    child.communicate(timeout=60)
    assert len(leftovers(url)) == 1
    cache.fetch(url)
    assert leftovers(url) == []
