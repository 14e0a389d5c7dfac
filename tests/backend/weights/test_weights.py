# SPDX-License-Identifier: Apache-2.0
"""The weights catalogue: listing, fetching from a stand-in of the hub, resuming, verifying."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from _support.smplx_made_up import synthetic
from crowdgaussian.cli.main import main
from crowdgaussian.weights import TABLE, find, hub, local_path, require, weights_folder
from crowdgaussian.weights.catalogue import RemoteFile, RemoteWeights, Source
from crowdgaussian_shared.errors import CrowdGaussianError

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


class Site(BaseHTTPRequestHandler):
    """Serves CONTENT under every name; knows ranges; remembers what was asked of it."""

    asked: list = []

    def do_HEAD(self):
        self._head(404 if "absent" in self.path else 200, len(CONTENT))

    def do_GET(self):
        start = self.headers.get("Range", "bytes=0-")[6:].split("-")[0]
        type(self).asked.append((self.path, int(start)))
        if "absent" in self.path:
            self._head(404, 0)
            return
        self._head(206 if int(start) else 200, len(CONTENT) - int(start))
        self.wfile.write(CONTENT[int(start) :])

    def _head(self, code, length):
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", hashlib.sha256(CONTENT).hexdigest())
        self.send_header("X-Repo-Commit", "0" * 40)
        if code == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Site.asked = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(site, monkeypatch):
    made = RemoteWeights(
        name="made-up",
        stage="test",
        purpose="test",
        source=Source.URL,
        place=site,
        files=(RemoteFile("a.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest()[:8]),),
        licence="none",
        commercial=True,
    )
    monkeypatch.setitem(TABLE, "made-up", made)
    return made


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, error = capsys.readouterr()
    return code, out, error


def test_every_entry_says_all_a_user_has_to_know():
    for name, known in TABLE.items():
        assert name == known.name and known.files and known.licence and known.purpose
        assert bool(known.instructions) == (known.source is Source.MANUAL), name
        assert "{folder}" in known.instructions or known.source is not Source.MANUAL, name
        assert known.place.count("/") == 1 or known.source is not Source.HUB, name
        non_commercial = ("non-commercial", "-NC", "Stability")
        assert known.commercial != any(word in known.licence for word in non_commercial), name
        if known.revision:
            assert len(known.revision) == 40
    for name in (
        "smplx",
        "lhm-500m-hf",
        "lhm-mini",
        "lhm-1b-hf",
        "sapiens-1b",
        "sd-turbo",
        "multihmr-896-l",
        "sam-vit-h",
        "sam3",
        "vitpose",
        "rt-detr",
        "vgg16",
    ):
        assert name in TABLE


def test_list_names_every_file_with_its_licence(capsys, folder):
    code, out, _ = run(capsys, "weights", "list")
    assert code == 0 and all(name in out for name in TABLE) and str(folder) in out
    code, out, _ = run(capsys, "weights", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["weights"]}
    assert rows["open body"]["here"] and not rows["lhm-mini"]["here"]
    assert rows["lhm-mini"]["bytes"] == 2_775_668_536 and not rows["lhm-mini"]["commercial"]
    assert not folder.exists(), "listing made a folder"


def test_fetch_verify_and_path(capsys, entry, folder):
    assert run(capsys, "weights", "path", "made-up")[0] == 2
    code, out, _ = run(capsys, "weights", "fetch", "made-up")
    path = folder / "made-up" / "a.bin"
    assert code == 0 and out.strip() == str(path) and path.read_bytes() == CONTENT
    assert run(capsys, "weights", "path", "made-up")[1].strip() == str(path)
    assert run(capsys, "weights", "verify", "made-up")[:2] == (0, "made-up: ok (as published)\n")
    times = len(Site.asked)
    hub.fetch(entry)
    assert len(Site.asked) == times, "fetched again what was there"

    path.write_bytes(CONTENT[:-1] + b"!")
    code, out, error = run(capsys, "weights", "verify")
    assert code == 2 and "made-up: wrong (a.bin: its SHA-256 is" in out
    assert error.count("\n") == 1 and "made-up cannot be used" in error
    path.write_bytes(CONTENT[:-1])
    assert "1,023,999 bytes instead of 1,024,000" in run(capsys, "weights", "verify")[1]


@pytest.fixture
def of_preset(site, monkeypatch):
    """What the preset open-large lacks, small and served by the stand-in."""
    for name in ("vitpose", "rt-detr", "sam2.1-large"):
        file = RemoteFile("model.safetensors", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        small = {"source": Source.URL, "place": f"{site}/{name}", "files": (file,), "megabytes": 1}
        monkeypatch.setitem(TABLE, name, replace(TABLE[name], **small))
    return ("weights", "fetch", "--preset", "open-large")


def test_a_preset_is_fetched_at_once_with_every_licence_told_once(capsys, of_preset, folder):
    (folder / "rt-detr").mkdir(parents=True)
    (folder / "rt-detr" / "model.safetensors.part").write_bytes(CONTENT[:1000])
    code, out, told = run(capsys, *of_preset)
    assert code == 0
    assert told.count("Apache-2.0") == 1 and "3 of 3 MB to fetch" in told and str(folder) in told
    assert ("/rt-detr/model.safetensors", 1000) in Site.asked, "began again"
    for name in ("vitpose", "rt-detr", "sam2.1-large"):
        assert f"{name}: ok (as published)" in out
    times = len(Site.asked)
    code, out, told = run(capsys, *of_preset)
    assert code == 0 and "0 of 3 MB" in told and len(Site.asked) == times
    (folder / "vitpose" / "model.safetensors").write_bytes(b"x" * len(CONTENT))
    code, out, told = run(capsys, *of_preset)
    assert code == 2 and "vitpose: wrong" in out and "vitpose cannot be used" in told


def test_what_is_got_by_hand_is_told_after_all_else_is_fetched(capsys, of_preset, entry, folder):
    code, out, told = run(capsys, "weights", "fetch", "smplx", "made-up")
    assert code == 2 and str(folder / "made-up" / "a.bin") in out
    assert "The rest cannot be fetched automatically: for 'smplx' register at" in told


def test_a_disk_without_room_is_told_before_anything_is_fetched(capsys, of_preset, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_500_000))
    code, _, told = run(capsys, *of_preset)
    assert code == 2 and "3 MB are to be fetched" in told and "room for 2 MB" in told
    assert not Site.asked


def test_fetch_wants_to_know_what(capsys):
    assert "--preset NAME" in run(capsys, "weights", "fetch")[2]
    assert "no preset 'huge'" in run(capsys, "weights", "fetch", "--preset", "huge")[2]
    code, out, _ = run(capsys, "weights", "fetch", "--preset", "open")
    assert code == 0 and "needs nothing" in out


def test_an_interrupted_download_goes_on(entry, folder):
    (folder / "made-up").mkdir(parents=True)
    (folder / "made-up" / "a.bin.part").write_bytes(CONTENT[:1000])
    assert hub.fetch(entry).read_bytes() == CONTENT
    assert ("/a.bin", 1000) in Site.asked


def test_another_file_than_the_published_one_is_not_kept(entry, folder):
    for file in (replace(entry.files[0], sha256="0123"), replace(entry.files[0], size=5)):
        with pytest.raises(CrowdGaussianError, match="not the published file|cannot be reached"):
            hub.fetch(replace(entry, files=(file,)))
        assert not (folder / "made-up" / "a.bin").exists()


def test_a_repository_comes_through_the_hubs_client(site, entry, folder):
    """The real huggingface_hub, in a process of its own because it reads its settings once."""
    code = (
        "from crowdgaussian.weights import TABLE, hub\n"
        "from crowdgaussian.weights.catalogue import *\n"
        "entry = RemoteWeights('b', 'test', 'test', Source.HUB, 'somebody/model', "
        "(RemoteFile('x/model.bin'),), 'none', True)\n"
        "TABLE['b'] = entry\n"
        "print(hub.fetch(entry))\n"
        "entry = RemoteWeights('c', 'test', 'test', Source.HUB, 'somebody/model', "
        "(RemoteFile('absent.bin'),), 'none', True)\n"
        "TABLE['c'] = entry\n"
        "hub.fetch(entry)\n"
    )
    settings = os.environ | {
        "HF_ENDPOINT": site,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=60
    )
    path = folder / "b" / "x" / "model.bin"
    assert str(path) in done.stdout, done.stderr
    assert path.read_bytes() == CONTENT
    record = json.loads((folder / "b" / "fetched.json").read_text())
    assert record["x/model.bin"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert "https://huggingface.co/somebody/model does not have this file any more" in done.stderr


def test_an_offline_hub_is_one_sentence(folder):
    settings = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "crowdgaussian", "weights", "fetch", "lhm-mini"],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    licence, _, error = done.stderr.splitlines()
    assert done.returncode == 2 and "not for commercial use" in licence
    assert error.startswith("crowdgaussian: https://huggingface.co/3DAIGC/LHM-MINI cannot be")


def test_a_checkpoint_named_by_its_repository_is_looked_up_in_the_catalogue(folder):
    file = folder / "lhm-mini" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert hub.fetch_from_hub("3DAIGC/LHM-MINI", "model.safetensors") == file


def test_files_that_need_a_registration_have_instructions(capsys, folder):
    code, _, error = run(capsys, "weights", "fetch", "smplx")
    assert code == 2 and "register at https://smpl-x.is.tue.mpg.de" in error
    assert str(folder / "smplx") in error
    with pytest.raises(CrowdGaussianError, match="are not on this machine: register"):
        require("smplx")
    with pytest.raises(CrowdGaussianError, match="first, at .*facebook/sam3: access"):
        require("sam3")


def test_smplx_is_verified_by_its_arrays(capsys, folder):
    path = folder / "smplx" / "SMPLX_NEUTRAL.npz"
    path.parent.mkdir(parents=True)
    arrays = synthetic(np.random.default_rng(0))
    small = {name: np.zeros_like(value[:0]) for name, value in arrays.items()}
    hollow = {
        name: np.lib.stride_tricks.as_strided(
            np.zeros(1, value.dtype), value.shape, (0,) * value.ndim
        )
        for name, value in arrays.items()
    }
    np.savez_compressed(path, **hollow)
    assert run(capsys, "weights", "verify", "smplx")[0] == 0
    assert local_path("smplx") == path
    np.savez(path, **small)
    assert (
        "v_template is (0, 3) instead of (10475, 3)" in run(capsys, "weights", "verify", "smplx")[1]
    )
    path.write_bytes(b"no zip")
    assert "no readable .npz" in run(capsys, "weights", "verify", "smplx")[1]
    path.unlink()
    assert hub.verify(find("smplx")).state == "missing"


def test_where_the_files_go(monkeypatch, tmp_path):
    monkeypatch.delenv("CROWDGAUSSIAN_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert weights_folder() == tmp_path / "crowdgaussian" / "weights"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert weights_folder().parts[-4:] == ("Library", "Caches", "crowdgaussian", "weights")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert weights_folder() == tmp_path / "local" / "crowdgaussian" / "weights"


def test_an_unknown_name(capsys):
    code, _, error = run(capsys, "weights", "path", "lhm-2b")
    assert code == 2 and "weights list" in error


def test_a_download_in_a_process_of_its_own_ends_well_or_says_why(monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = []
    downloads = hub.Downloads(lambda: ended.append(downloads.state("open")))
    assert downloads.state("open") == ("idle", "")
    for name in ("open", "open-large"):
        downloads.start(name)
        assert downloads.state(name)[0] == "running"
        downloads.start(name)  # it is on its way already
    deadline = time.monotonic() + 60
    while {downloads.state(name)[0] for name in ("open", "open-large")} & {"running", "checking"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert downloads.state("open") == ("done", "") and ended == [("checking", "")]
    state, why = downloads.state("open-large")
    assert state == "failed" and why.startswith("https://huggingface.co/usyd-community/vitpose")
    downloads.close()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), CrowdGaussianError("Full.")])
def test_a_download_that_cannot_be_checked_says_so_and_can_be_tried_again(monkeypatch, error):
    process = [sys.executable, "-c", ""]
    started = subprocess.Popen
    monkeypatch.setattr(hub.subprocess, "Popen", lambda _, **rest: started(process, **rest))
    errors = [error]

    def check():
        if errors:
            raise errors.pop()

    downloads = hub.Downloads(check)
    for wanted in ("failed", "done"):
        downloads.start("open")
        deadline = time.monotonic() + 30
        while downloads.state("open")[0] in ("running", "checking"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        state, why = downloads.state("open")
        assert state == wanted
        if state == "failed":
            assert "cannot be checked" in why and str(error)[-6:] in why


def test_what_has_arrived_is_counted(entry, folder):
    assert hub.bytes_here(entry) == 0
    (folder / "made-up" / ".cache").mkdir(parents=True)
    (folder / "made-up" / ".cache" / "a.incomplete").write_bytes(CONTENT[:1000])
    (folder / "made-up" / "b.bin").write_bytes(CONTENT[:10])
    assert hub.bytes_here(entry) == 1010
