"""The registry, and downloads from a server that does what bad servers do."""

import errno
import hashlib
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers import store
from helpers.weights import download, published
from helpers.weights.published import Entry

BODY = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(BODY).hexdigest()
PAGE = b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>"
POINTER = b"version https://git-lfs.example/spec/v1\noid sha256:00\nsize 12\n"


class Handler(BaseHTTPRequestHandler):
    """Answers by the path: each is a habit of some server."""

    def do_GET(self):
        kind = self.path.strip("/")
        self.server.seen[kind] += 1
        self.server.asked.append((kind, self.headers.get("Range")))
        turn = self.server.seen[kind]
        if kind == "gone":
            return self.send_error(404)
        if kind == "busy" and turn < 3:
            return self.send_error(503)
        if kind in ("moved", "away"):
            self.send_response(302)
            self.send_header("Location", "/whole" if kind == "moved" else "ftp://example.org/file")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = {"page": PAGE, "pointer": POINTER, "wrong": BODY[::-1], "empty": b""}.get(kind, BODY)
        ranges = kind not in ("plain", "plain-dies", "unmarked-dies", "chunked")
        tag = f'"{turn}"' if kind == "changing-dies" else 'W/"weak"' if kind == "weak-dies" else '"one"'
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if ranges and asked and self.headers.get("If-Range") == tag:
            start = int(asked[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                return self.end_headers()
            self.send_response(206)
            says = start + 7 if kind == "misplaced-dies" and turn == 2 else start
            self.send_header("Content-Range", f"bytes {says}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if kind != "unmarked-dies":
            self.send_header("ETag", tag)
        if kind == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif kind != "endless":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.send(kind, turn, body[start:])

    def send(self, kind, turn, body):
        if kind == "chunked":
            cut = body[:1000] if turn == 1 else body
            self.wfile.write(b"%x\r\n%s\r\n" % (len(cut), cut))
            if turn > 1:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True
        elif kind == "never" or (kind.endswith("dies") and turn == 1):
            self.wfile.write(b"" if kind == "never" and turn > 1 else body[: len(body) // 3])
            self.close_connection = True
        elif kind == "drip":  # a quarter of a megabyte at a time
            self.wfile.write(body[: 2**18])
            self.close_connection = True
        elif kind == "stalls" and turn == 1:
            self.wfile.write(body[:5000])
            self.wfile.flush()
            self.server.over.wait(5)
        else:
            self.wfile.write(body)

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running, monkeypatch):
    running.seen, running.asked = Counter(), []
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr(download, "TIMEOUT", 3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return running


@pytest.fixture
def register(server, tmp_path, monkeypatch):
    """Return a function that registers a file by the habits of its mirrors; it lies in `folder`."""
    monkeypatch.setenv("HELPERS_PUBLISHED", str(tmp_path / "published"))
    base = f"http://127.0.0.1:{server.server_address[1]}/"

    def add(*kinds, sha256="", **more):
        urls = tuple(kind if "://" in kind else base + kind for kind in kinds)
        entry = Entry("file.pth", "a test file", "the test licence", urls, sha256=sha256, **more)
        monkeypatch.setitem(published.REGISTRY, "test", entry)

    add.folder = tmp_path / "published"
    add.base = base
    return add


def get(wanted=True):
    return store.fetch("published/test", download=wanted)


def left(register):
    return sorted(path.name for path in register.folder.iterdir())


# The registry


def test_the_registry_is_well_formed():
    files = [entry.file for entry in published.REGISTRY.values()]
    assert len(files) == len(set(files)) >= 30 and all(re.fullmatch(r"[\w.-]+\.(pth|pkl)", name) for name in files)
    for name, entry in published.REGISTRY.items():
        assert re.fullmatch(r"[\w-]+", name) and entry.what and entry.licence and (entry.urls or entry.page)
        assert all(urlsplit(url).scheme in ("https", "http") for url in (*entry.urls, *filter(None, [entry.page])))
        assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}|", entry.sha256)
        if entry.sha256:  # the name of the file carries it
            assert entry.sha256[:8] in entry.file and all(url.endswith(entry.file) for url in entry.urls)
    assert len(published.REGISTRY["pggan-churchoutdoor"].urls) == 2
    assert "dead" in published.REGISTRY["genforce-pggan-churchoutdoor-256x256"].note


@pytest.mark.parametrize(("name", "near"), [("pggan-church", "pggan-churchoutdoor"), ("", "resnet18"), ("../x", "")])
def test_an_unknown_name_is_refused(name, near):
    with pytest.raises(ValueError, match=f"no published file {name!r} in the registry, did you mean .*{near}"):
        store.fetch(f"published/{name}")


# Without a download


def test_nothing_is_downloaded_unasked(register, server):
    register("whole", sha256=DIGEST[:8], note="it was down")
    with pytest.raises(FileNotFoundError) as error:
        get(False)
    assert not server.seen and not register.folder.exists()
    for part in ("a test file", "put file.pth into", str(register.folder), register.base + "whole", "the test licence"):
        assert part in str(error.value)
    assert 'store.fetch("published/test", download=True)' in str(error.value) and "it was down" in str(error.value)


def test_what_only_a_person_can_fetch_is_said(register):
    register(page="https://example.org/drive")
    with pytest.raises(FileNotFoundError, match=r"from https://example.org/drive.*a person has to"):
        get()


def test_files_lie_in_data_unless_said_otherwise(register, tmp_path, monkeypatch):
    monkeypatch.delenv("HELPERS_PUBLISHED")
    monkeypatch.setenv("HELPERS_DATA", str(tmp_path / "data"))
    register("whole")
    (tmp_path / "data" / "published").mkdir(parents=True)
    (tmp_path / "data" / "published" / "file.pth").write_bytes(BODY)
    assert get(False) == tmp_path / "data" / "published" / "file.pth"


@pytest.mark.parametrize(
    ("content", "sha256", "message"),
    [
        (PAGE, "", "is a web page, not the file: move it away"),
        (b"\n <html>", "", "is a web page"),
        (POINTER, "", "is a Git LFS pointer"),
        (b"", "", "is empty"),
        (BODY[::-1], DIGEST, "is another file: its sha256 starts .*, published is " + DIGEST[:12]),
        (BODY[:-1], DIGEST[:8], "is another file: .* published is " + DIGEST[:8]),
    ],
)
def test_a_placed_file_that_is_not_the_one_is_refused_and_left_alone(register, content, sha256, message):
    register("whole", sha256=sha256)
    register.folder.mkdir()
    (register.folder / "file.pth").write_bytes(content)
    for wanted in (False, True):
        with pytest.raises(ValueError, match=message):
            get(wanted)
    assert left(register) == ["file.pth"] and (register.folder / "file.pth").read_bytes() == content


# Hashes


def test_an_unknown_hash_is_recorded_said_and_held_to(register, capsys):
    register("whole")
    register.folder.mkdir()
    path = register.folder / "file.pth"
    path.write_bytes(BODY)
    assert get(False) == path
    assert f"published/test: sha256 {DIGEST[:12]}... was recorded on first use" in capsys.readouterr().out
    assert json.loads((register.folder / "hashes.json").read_text()) == {
        "file.pth": {"sha256": DIGEST, "bytes": len(BODY)}
    }
    os.utime(path, ns=(1, 1))
    get(False)
    assert capsys.readouterr().out == ""
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(ValueError, match=rf"has changed: .* on first use it was {DIGEST[:12]}"):
        get(False)


def test_a_known_hash_is_confirmed(register, capsys):
    register("whole", sha256=DIGEST[:8])
    register.folder.mkdir()
    (register.folder / "file.pth").write_bytes(BODY)
    get(False)
    assert f"is the published one (it starts {DIGEST[:8]})" in capsys.readouterr().out


def test_a_file_is_hashed_once_until_it_changes(register, monkeypatch):
    register("whole")
    register.folder.mkdir()
    (register.folder / "file.pth").write_bytes(BODY)
    get(False)
    monkeypatch.setattr(published, "sha256", lambda path: pytest.fail("hashed again"))
    get(False)


@pytest.mark.parametrize("text", ["{", "[]", '{"file.pth": 3}', '{"file.pth": {"bytes": 3}}'])
def test_a_damaged_record_is_not_overlooked(register, text):
    register("whole")
    register.folder.mkdir()
    (register.folder / "file.pth").write_bytes(BODY)
    (register.folder / "hashes.json").write_text(text)
    with pytest.raises(ValueError, match="hashes.json is damaged: correct it, or delete it"):
        get(False)


def test_a_record_that_cannot_be_written_is_warned_of(register, monkeypatch):
    register("whole")
    register.folder.mkdir()
    (register.folder / "file.pth").write_bytes(BODY)

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.warns(UserWarning, match="could not be written .*No space left"):
        assert get(False).read_bytes() == BODY


# Downloads


@pytest.mark.parametrize("sha256", ["", DIGEST[:8], DIGEST])
@pytest.mark.parametrize(
    "kind",
    ["whole", "plain", "moved", "busy", "dies", "plain-dies", "unmarked-dies", "weak-dies", "changing-dies"]
    + ["misplaced-dies", "chunked", "drip"],
)
def test_the_file_arrives_whatever_the_server_does(register, server, kind, sha256, capsys):
    register(kind, sha256=sha256)
    path = get()
    assert path.read_bytes() == BODY and left(register) == ["file.pth", "hashes.json"]
    out = capsys.readouterr().out
    size = "of unknown size" if kind == "chunked" else "1.0 MB"
    assert out.index("licence: the test licence") < out.index(f"downloading {size} from {register.base}{kind}")
    assert out.count("licence: ") == 1
    resumed = [asked for _, asked in server.asked if asked]
    if kind == "dies":
        assert resumed == [f"bytes={len(BODY) // 3}-"]
    if kind == "drip":
        assert resumed == [f"bytes={i * 2**18}-" for i in range(1, 4)]
    if kind in ("plain", "whole", "unmarked-dies", "weak-dies"):  # it could have become another file meanwhile
        assert not resumed
    before = len(server.asked)
    assert get() == path and len(server.asked) == before


def test_a_stalled_server_is_left_and_asked_for_the_rest(register, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    register("stalls")
    assert get().read_bytes() == BODY
    assert server.asked == [("stalls", None), ("stalls", "bytes=5000-")]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gone", "HTTP 404 Not Found"),
        ("never", r"it broke off after \d+ of \d+ bytes, 4 times in a row without a new byte"),
        ("endless", "it does not say how long the file is"),
        ("page", "what came is a web page, not the file, kept as file.pth.refused"),
        ("pointer", "is a Git LFS pointer"),
        ("empty", "what came is empty"),
        ("wrong", "is another file: its sha256 starts"),
        ("away", "sends on to ftp://example.org/file, which is not https|HTTP 302"),
        ("ftp://example.org/file", "only https and http are fetched"),
        ("file:///etc/hostname", "only https and http are fetched"),
        ("http://127.0.0.1:9/file", "no answer .*4 times in a row"),
    ],
)
def test_a_mirror_that_fails_is_named_and_the_next_one_tried(register, kind, reason):
    register(kind, sha256=DIGEST[:8])
    with pytest.raises(OSError, match=reason) as error:
        get()
    assert "put file.pth into" in str(error.value) and not (register.folder / "file.pth").exists()
    register(kind, "whole", sha256=DIGEST[:8])
    assert get().read_bytes() == BODY


def test_a_redirection_never_leaves_https():
    request = urllib.request.Request("https://example.org/file")
    redirect = lambda url: download._Redirects().redirect_request(request, None, 302, "Found", {}, url)  # noqa: E731
    assert redirect("https://cdn.example.org/file").full_url == "https://cdn.example.org/file"
    for url in ("http://example.org/file", "file:///etc/hostname", "ftp://example.org/file"):
        with pytest.raises(urllib.error.HTTPError, match="which is not https"):
            redirect(url)


def test_refused_bytes_are_kept_out_of_the_way(register):
    register("wrong", sha256=DIGEST)
    with pytest.raises(OSError):
        get()
    assert left(register) == ["file.pth.refused"]
    assert (register.folder / "file.pth.refused").read_bytes() == BODY[::-1]
    with pytest.raises(FileNotFoundError, match="put file.pth into"):
        get(False)


def test_a_download_goes_on_in_another_process(register, server, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)
    register("dies", sha256=DIGEST)

    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    monkeypatch.setattr(download.time, "sleep", die)
    with pytest.raises(Killed):
        get()
    assert left(register) == [".file.pth.part", ".file.pth.part.json"]
    assert get().read_bytes() == BODY and server.asked[-1] == ("dies", f"bytes={len(BODY) // 3}-")


def test_a_part_that_was_whole_already_is_taken(register, server):
    register("whole", sha256=DIGEST)
    register.folder.mkdir()
    (register.folder / ".file.pth.part").write_bytes(BODY)
    note = {"url": register.base + "whole", "validator": '"one"'}
    (register.folder / ".file.pth.part.json").write_text(json.dumps(note))
    assert get().read_bytes() == BODY and server.asked == [("whole", f"bytes={len(BODY)}-")]


@pytest.mark.parametrize("note", [None, "{", "[]", '{"url": "elsewhere", "validator": "1"}'])
def test_a_part_of_unknown_origin_is_begun_anew(register, server, note):
    register("whole")
    register.folder.mkdir()
    (register.folder / ".file.pth.part").write_bytes(b"something else")
    if note:
        (register.folder / ".file.pth.part.json").write_text(note)
    assert get().read_bytes() == BODY and server.asked == [("whole", None)]


def test_a_longer_part_than_the_file_is_begun_anew(register):
    register("whole", sha256=DIGEST)
    register.folder.mkdir()
    (register.folder / ".file.pth.part").write_bytes(BODY + b"more")
    note = {"url": register.base + "whole", "validator": '"one"'}
    (register.folder / ".file.pth.part.json").write_text(json.dumps(note))
    assert get().read_bytes() == BODY


def test_two_processes_do_not_write_the_same_part(register, server):
    fcntl = pytest.importorskip("fcntl")
    register("whole")
    register.folder.mkdir()
    with (register.folder / ".file.pth.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="file.pth is being downloaded by another process: wait"):
            get()
    assert not server.asked
    assert get().read_bytes() == BODY and left(register) == ["file.pth", "hashes.json"]


# The disk


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_leaves_nothing_under_the_final_name(register):
    register("whole")
    register.folder.mkdir()
    (register.folder / ".file.pth.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="cannot take the download .*No space left.*free some space") as error:
        get()
    assert error.value.errno == errno.ENOSPC and not (register.folder / "file.pth").exists()


def test_a_disk_that_is_too_small_is_found_out_first(register, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("", (), {"free": 1000}))
    register("whole", "plain")
    with pytest.raises(OSError, match=rf"cannot take the download \({len(BODY)} bytes are needed, 1000 are free\)"):
        get()
    assert left(register) == []


def test_what_is_shipped_is_not_downloaded():
    with pytest.raises(ValueError, match="is shipped, not downloaded: leave download out"):
        store.fetch("churches/generator.safetensors", download=True)
