"""Download one file over https or http: several mirrors, resumed where it broke off, checked before it gets its name.

It grows under another name beside its place, so that what stands under the final name was always whole and checked.
"""

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from helpers import env

TIMEOUT = 30.0  # seconds without a byte, after which a server counts as stalled
TRIES, PAUSE = 4, 1.0  # attempts without a new byte before the next mirror; seconds before the second, then doubled
CHUNK = 2**18


class _Broken(Exception):
    """It broke off: another attempt may help."""


class _Gone(Exception):
    """This mirror will not give it."""


def download(urls, path, fault, announce=None):
    """Download a file from the first mirror that gives the right one; returns its path.

    urls: mirrors in the order to try. path: where it will stand. fault: function of a path -> what is wrong with
    that file, or None; bytes that it refuses are kept as `<name>.refused`. announce: called with (url, bytes or None)
    before the first byte is taken. What broke off goes on at the next call, if the server says it is still the same.
    Raises OSError if no mirror gives it, saying why of each, and at once if the disk is full or another process is
    at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        return _from_any(urls, path, fault, announce)


@contextlib.contextmanager
def _alone(path):
    """Keep a second process from writing to the same part file, where the system can lock one."""
    lock = path.with_name(f".{path.name}.lock")
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{path.name} is being downloaded by another process: wait until it is done") from None
        except (ImportError, OSError):  # Windows, and some network folders
            pass
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def _from_any(urls, path, fault, announce):
    part, reasons = path.with_name(f".{path.name}.part"), []
    for url in urls:
        try:
            _whole(url, part, announce)
        except (_Broken, _Gone) as error:
            reasons.append(f"{url}: {error}")
            continue
        problem = fault(part)
        if problem is None:
            os.replace(part, path)
            _note(part).unlink(missing_ok=True)
            return path
        refused = path.with_name(f"{path.name}.refused")
        os.replace(part, refused)
        _note(part).unlink(missing_ok=True)
        reasons.append(f"{url}: what came {problem}, kept as {refused.name}")
    raise OSError(f"{path.name} could not be downloaded; {'; '.join(reasons) or 'there is no address to try'}")


def _whole(url, part, announce):
    """Bring the part file to its full length, in as many attempts as bring it forward."""
    best, failed = 0, 0
    while True:
        try:
            return _attempt(url, part, announce)
        except _Broken as error:
            size = part.stat().st_size if part.exists() else 0
            failed = 0 if size > best else failed + 1
            best = max(best, size)
            if failed >= TRIES:
                raise _Broken(f"{error}, {TRIES} times in a row without a new byte") from None
            time.sleep(PAUSE * 2**failed / 2)


def _attempt(url, part, announce):
    have, validator = _begun(url, part)
    headers = {"User-Agent": "helpers (urllib)", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    if urlsplit(url).scheme not in ("https", "http"):
        raise _Gone("only https and http are fetched")
    try:
        response = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server has no more than we do
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise _Broken(f"HTTP {error.code} {error.reason}") from None
        raise _Gone(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"no answer ({error})") from None
    with response:
        total = response.headers.get("Content-Length")
        if have and response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != have:
                part.unlink()
                raise _Broken("it answered with another range than the one asked for")
            total = found[2]
        elif response.status != 200:
            raise _Gone(f"HTTP {response.status}")
        else:  # a server without ranges, or another file than before: from the beginning
            have = 0
            validator = response.headers.get("ETag") or ""
            validator = response.headers.get("Last-Modified", "") if validator[:2] in ("", "W/") else validator
        if total is None and not response.chunked:
            raise _Gone("it does not say how long the file is, so that a whole one cannot be told from a part")
        total = None if total is None else int(total)
        if announce:
            announce(url, total)
        try:
            free = shutil.disk_usage(part.parent).free
            if total is not None and free < total - have:
                raise OSError(errno.ENOSPC, f"{total - have} bytes are needed, {free} are free")
            _note(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
            got = _save(response, part, have, total)
        except OSError as error:
            hint = "free some space and try again" if error.errno == errno.ENOSPC else "see to it and try again"
            raise OSError(error.errno, f"{part.parent} cannot take the download ({error.strerror}): {hint}") from error
    if total is not None and got < total:
        raise _Broken(f"it broke off after {got} of {total} bytes")


def _save(response, part, have, total):
    """Write what comes to the part file from byte `have` on; returns its length."""
    name = part.name.removeprefix(".").removesuffix(".part")
    with part.open("r+b" if have else "wb") as file, contextlib.closing(env.progress(desc=name, total=total)) as bar:
        bar.unit, bar.unit_scale = "B", True
        file.seek(have)
        bar.update(have)
        while True:
            try:
                data = response.read1(CHUNK)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _Broken(f"it broke off after {have} bytes ({error or type(error).__name__})") from None
            if not data:
                break
            file.write(data)
            have += len(data)
            bar.update(len(data))
        file.flush()
        os.fsync(file.fileno())
    return have


def _note(part):
    """Where it is noted what the part file is a part of."""
    return part.with_name(f"{part.name}.json")


def _begun(url, part):
    """Return how many bytes there are of this very file, and what tells the server which file was meant."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        if note["url"] == url and note["validator"]:
            return part.stat().st_size, note["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirection to https, and from http to http; nowhere else."""

    def redirect_request(self, request, response, code, reason, headers, url):
        scheme = urlsplit(url).scheme
        if scheme != "https" and scheme != urlsplit(request.full_url).scheme:
            raise urllib.error.HTTPError(url, code, f"sends on to {url}, which is not https", headers, response)
        return super().redirect_request(request, response, code, reason, headers, url)


_OPENER = urllib.request.build_opener(_Redirects)
