# SPDX-License-Identifier: Apache-2.0
"""What the panel and the preferences draw, for every state a job or a server can be in."""

from dataclasses import replace
from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import pytest
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.jobs.session import ServerView, Session
from crowdgaussian_addon.jobs.table import JobRow
from crowdgaussian_addon.ops import reconstruct, state
from crowdgaussian_addon.ui import panel, preferences
from crowdgaussian_shared.protocol import messages as m

DEVICE = m.Device("cpu", "CPU, 2 cores", 16 << 30, 8 << 30)
PRESETS = (
    m.Preset("open", True, True, "Free to use, also commercially."),
    m.Preset("paper", False, False, "Not for commercial use.", "It needs weights."),
)


@pytest.fixture
def session(tmp_path):
    """The add-on, registered, with a session of its own."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    state.close_session()
    crowdgaussian_addon.register()
    state._session = Session(tmp_path, "test")
    yield state._session
    crowdgaussian_addon.unregister()


def draw(**options):
    """The panel's layout after drawing."""
    fake = SimpleNamespace(layout=FakeLayout())
    context = SimpleNamespace(
        scene=bpy.context.scene,
        preferences=bpy.context.preferences,
        region=SimpleNamespace(width=options.get("width", 300)),
    )
    panel.CROWDGAUSSIAN_PT_reconstruct.draw(fake, context)
    return fake.layout


def add_row(session, **values):
    row = JobRow("id", "/photos/party.jpg", "/scenes/party", "this computer", **values)
    session.table.add(row)
    return row


def connect(session):
    session.server = ServerView(
        "connected", "", m.Welcome(1, "s", 1, DEVICE, m.Limits(), PRESETS), "tcp://127.0.0.1:5555"
    )


def test_first_look(session):
    layout = draw()
    assert "Server: not running" in layout.texts()
    assert layout.buttons() == ["crowdgaussian.connect", "crowdgaussian.choose_photo"], (
        "Reconstruct must wait for a photo"
    )


def test_a_photo_has_a_thumbnail_and_enables_the_button(
    session, tmp_path, scene_folder, monkeypatch
):
    assert isinstance(panel.icon_of(str(scene_folder.photo_path)), int)  # 0 without a window
    monkeypatch.setattr(panel, "icon_of", lambda photo: 7 if photo else 0)
    bpy.context.scene.crowdgaussian.photo = f'"{scene_folder.photo_path}"'
    assert bpy.context.scene.crowdgaussian.photo == str(scene_folder.photo_path)
    layout = draw()
    assert "crowdgaussian.reconstruct" in layout.buttons()
    assert ("template_icon", {"icon_value": 7, "scale": panel._THUMBNAIL}) in layout.calls
    bpy.context.scene.crowdgaussian.photo = str(tmp_path / "none.jpg")
    assert "There is no such file." in draw().texts()


def test_refinement_is_a_choice_and_the_row_says_who_has_none(session):
    assert any("refinement" in str(call) for call in draw().calls)
    add_row(session, state="done", finished=True, unrefined="Not refined: person 2. No memory.")
    assert "Not refined: person 2. No memory." in " ".join(draw(width=900).texts())


def test_licence_in_words(session):
    assert "The server tells the licence when it" in draw().texts()
    connect(session)
    assert "Free to use, also commercially." in draw().texts()
    bpy.context.scene.crowdgaussian.preset = "paper"
    assert "Not available: It needs weights." in draw().texts()


def test_a_preset_that_lacks_models_has_a_button_and_shows_how_it_goes(session):
    connect(session)
    lacking = m.Preset("paper", False, False, "", "It lacks smplx.", (), 16_000_000_000)
    bpy.context.scene.crowdgaussian.preset = "paper"
    assert "crowdgaussian.fetch_models" not in draw().buttons()  # nothing that can be fetched
    info = m.DownloadInfo(1, lacking, "idle", 0, 16_000_000_000)
    session._take_download(info)
    layout = draw()
    assert "crowdgaussian.fetch_models" in layout.buttons()
    assert "Fetch Models (16.0 GB)" in layout.texts()
    session._take_download(replace(info, state="running", received=4_000_000_000))
    layout = draw()
    assert "The server fetches models, 25%" in layout.texts()
    assert "crowdgaussian.fetch_models" not in layout.buttons()
    session._take_download(replace(info, state="failed", error="The network is down."))
    layout = draw()
    assert "The network is down." in layout.texts()
    assert "crowdgaussian.fetch_models" in layout.buttons()
    asked = []
    session.fetch_models = asked.append
    assert bpy.ops.crowdgaussian.fetch_models(preset="paper") == {"FINISHED"} and asked == ["paper"]
    fake = SimpleNamespace(layout=FakeLayout(), preset="paper")
    reconstruct.CROWDGAUSSIAN_OT_fetch_models.draw(fake, None)
    assert fake.layout.texts() == ["It lacks smplx."]


def test_server_and_its_machine(session):
    connect(session)
    texts = draw().texts()
    assert "127.0.0.1:5555: ready" in texts and "CPU, 2 cores, 8 GiB free" in texts
    session.server = ServerView(
        "lost", "Nobody listens there; start the server.", None, "tcp://a:1"
    )
    texts = draw().texts()
    assert "A:1: out of reach" in texts and "Nobody listens there; start the" in texts
    assert "crowdgaussian.doctor" in draw().buttons()


def test_for_a_server_elsewhere_the_doctor_is_a_command(session, monkeypatch):
    monkeypatch.setattr(state, "preferences", lambda: SimpleNamespace(place="THERE", cache=""))
    add_row(session, state="failed", finished=True, error="The worker died.")
    layout = draw(width=900)
    assert "On the server, `crowdgaussian doctor` says more." in layout.texts()
    assert "crowdgaussian.doctor" not in layout.buttons()


@pytest.mark.parametrize("values, words", [
    ({"state": "submitting"}, "Starting"),
    ({"state": "uploading", "sent": 0.4}, "Sending the photo, 40 %"),
    ({"state": "queued", "position": 3}, "Waiting, place 3"),
    ({"state": "busy", "error": "8 jobs wait already."}, "8 jobs wait already."),
    ({"state": "running", "stage": "people", "fraction": 0.5}, "Finding people  6 %"),
    ({"state": "running", "stage": "avatars", "fraction": 0.5, "person": 1, "people_found": 6},
     "Building person 2 of 6  59 %"),
    ({"state": "running", "stage": "masks", "cancelling": True}, "Stopping  12 %"),
    ({"state": "running", "stage": "refine", "fraction": 0.5}, "Refining the crowd  80 %"),
    ({"state": "running", "stage": "avatars", "fraction": 1.0, "refines": True}, "Building  60 %"),
    ({"state": "done", "files_missing": 4}, "Fetching 4 files"),
])  # fmt: skip
def test_rows_on_their_way(session, values, words):
    add_row(session, **values)
    layout = draw()
    assert "party.jpg" in layout.texts() and words in layout.texts()
    assert any(call[0] == "progress" for call in layout.calls)
    pressable = "crowdgaussian.cancel" in layout.buttons()
    assert pressable is not values.get("cancelling", False)


@pytest.mark.parametrize("values, words, buttons", [
    ({"state": "done", "people_done": 6, "people_found": 6}, "Done: 6 people",
     ["remove_job", "import_again", "open_folder"]),
    ({"state": "done", "people_done": 5, "people_found": 6, "people_failed": 1},
     "Done: 5 of 6 people, 1 failed", ["remove_job", "import_again", "open_folder"]),
    ({"state": "failed", "error": "Nobody was found."}, "Failed",
     ["remove_job", "doctor", "go_on", "open_folder"]),
    ({"state": "cancelled", "people_done": 1, "people_found": 3}, "Cancelled: 1 of 3 people",
     ["remove_job", "go_on", "import_again", "open_folder"]),
])  # fmt: skip
def test_rows_that_have_ended(session, values, words, buttons):
    add_row(session, finished=True, **values)
    layout = draw()
    assert words in layout.texts()
    if "error" in values:
        assert values["error"] in layout.texts()
    assert [b.split(".")[1] for b in layout.buttons()][2:] == buttons
    assert not any(call[0] == "progress" for call in layout.calls)


def test_a_paused_row_says_why_and_can_go_on(session):
    add_row(session, state="paused", trouble="The server was killed; start it again.")
    layout = draw()
    assert "Paused" in layout.texts() and "crowdgaussian.go_on" in layout.buttons()
    assert " ".join(layout.texts()).count("The server was killed") == 1


def test_long_sentences_are_wrapped_to_the_width(session):
    add_row(session, state="failed", finished=True, error="word " * 40)
    narrow, wide = (max(map(len, draw(width=w).texts())) for w in (220, 900))
    assert narrow < 40 < wide


def test_preferences_page(session, monkeypatch):
    fake = SimpleNamespace(
        layout=FakeLayout(),
        place="HERE",
        backend="",
        cache="",
        bl_rna=preferences.CrowdGaussianPreferences.bl_rna,
        _draw_server=lambda context: preferences.CrowdGaussianPreferences._draw_server(
            fake, context
        ),
    )
    for place, names in (
        ("HERE", {"place", "backend", "first_look", "cache"}),
        ("THERE", {"place", "pairing", "address", "first_look", "cache"}),
    ):
        fake.place, fake.layout = place, FakeLayout()
        preferences.CrowdGaussianPreferences.draw(fake, bpy.context)
        assert {call[1] for call in fake.layout.calls if call[0] == "prop"} == names
        assert "crowdgaussian.connect" in fake.layout.buttons()


def test_a_button_without_a_server_says_what_to_do(session, scene_folder):
    with pytest.raises(RuntimeError, match="Enable the CrowdGaussian extension"):
        bpy.ops.crowdgaussian.reconstruct(filepath=str(scene_folder.photo_path))
    assert any("Enable the CrowdGaussian" in text for text in draw().texts())
    with pytest.raises(RuntimeError, match="No photo is chosen"):
        bpy.ops.crowdgaussian.reconstruct()
    assert any(text.startswith("No photo is chosen") for text in draw().texts())
