"""Names of repositories, and downloads from a hub on this machine through huggingface_hub itself."""

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

from hub_server import READER, WRITER, environment, serving
from unveil.errors import UnveilError
from unveil.files.hub import HubName, download, hidden, hub_name
from unveil.files.hub_layouts import OURS

MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"x" * 5000,
    "flax_model.msgpack": b"y" * 70,
    "README.md": b"hi",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.fixture
def hub(home, monkeypatch):
    with serving(home, monkeypatch) as hub:
        hub.put("org/net", MODEL)
        yield hub


def silent(*_):
    pass


def get(text: str, progress=silent, only: tuple[str, ...] = ()):
    name = hub_name(text)
    assert name is not None
    return download(name, progress, only)


def refused(text: str, only: tuple[str, ...] = ()) -> str:
    with pytest.raises(UnveilError) as caught:
        get(text, only=only)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(text)
    return message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/net", HubName("org/net", "org/net")),
        ("org/net@v1", HubName("org/net@v1", "org/net", "v1")),
        ("org/net@v1:fp16", HubName("org/net@v1:fp16", "org/net", "v1", "", "fp16")),
        ("org/net:fp16", HubName("org/net:fp16", "org/net", None, "", "fp16")),
        ("org/net/a.ckpt", HubName("org/net/a.ckpt", "org/net", None, "a.ckpt")),
        ("org/net@main/a/b", HubName("org/net@main/a/b", "org/net", "main", "a/b")),
        ("org/net@refs/pr/3", HubName("org/net@refs/pr/3", "org/net", "refs/pr/3")),
        ("org/net@a%2Fb", HubName("org/net@a%2Fb", "org/net", "a/b")),
        ("hf://org/net/a/b", HubName("hf://org/net/a/b", "org/net", None, "a/b")),
        ("hf:/runs/net", HubName("hf:/runs/net", "runs/net")),
        ("google/ddpm-cat-256", HubName("google/ddpm-cat-256", "google/ddpm-cat-256")),
    ],
)
def test_what_a_name_says(text, wanted, home):
    assert hub_name(text) == wanted


PATHS = "maze-large runs/image logs/hopper a/b/c ./a/b /a/b ../a/b ~/a a/ a//b a/b/ -a/b a/b@ a/b: a/b..c a--b/c hf://a"


@pytest.mark.parametrize("text", [*PATHS.split(), "a b/c", "a/" + "b" * 200, ""])
def test_what_can_only_be_a_path(text, home):
    assert hub_name(text) is None


def test_a_local_path_comes_first_and_hf_names_the_repository(home):
    assert hub_name("org/net") is not None
    (home.parent / "here" / "org").mkdir()
    assert hub_name("org/net") is None and hub_name("org/net@v1") is None
    assert hub_name("hf://org/net") == HubName("hf://org/net", "org/net")
    assert hidden("org/net") == "; the repository of the Hugging Face Hub is hf://org/net"
    assert [hidden(text) for text in ("runs/a", "maze", "org", "./org/net")] == [""] * 4


def test_what_is_needed_is_downloaded_once_with_its_bytes_shown(hub):
    seen = []
    folder = get("org/net", lambda *shown: seen.append(shown))
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"} == set(hub.downloads())
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    total = 5002
    assert seen[0] == ("bytes of org/net", 0, total, {}) and seen[-1][1:3] == (total, total)
    assert [shown[1] for shown in seen] == sorted({shown[1] for shown in seen})
    assert not any("flax" in asked for asked in hub.asked)
    hub.sent.clear()
    seen.clear()
    assert get("org/net", lambda *shown: seen.append(shown)) == folder and not hub.sent and not seen
    assert str(folder).startswith(constants.HF_HUB_CACHE)


def test_a_new_commit_is_loaded_and_only_what_changed_is_sent(hub):
    first = get("org/net")
    hub.put("org/net", MODEL | {"config.json": b'{"a": 1}'})
    hub.sent.clear()
    second = get("org/net")
    assert first != second and (second / "config.json").read_bytes() == b'{"a": 1}'
    assert hub.downloads() == ["config.json"] and (first / "config.json").read_bytes() == b"{}"


def test_revisions_are_branches_and_commits(hub):
    it = hub.put("org/net", MODEL | {"model.safetensors": b"older"}, branch="v1")
    hub.put("org/net", MODEL | {"model.safetensors": b"a pull request"}, branch="refs/pr/1")
    for revision, content in (
        ("v1", b"older"),
        (it.commit("v1"), b"older"),
        ("refs/pr/1", b"a pull request"),
    ):
        assert (get(f"org/net@{revision}") / "model.safetensors").read_bytes() == content
    assert (get("org/net") / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert "it has no revision 'v2'" in refused("org/net@v2")


def test_a_single_file_a_folder_and_a_variant(hub):
    hub.put(
        "org/many", {"a.ckpt": b"a", "b.ckpt": b"bb", "c/config.json": b"{}", "c/model.safetensors": b"c"}
    )
    assert get("org/many/b.ckpt").read_bytes() == b"bb" and hub.downloads() == ["b.ckpt"]
    assert {p.name for p in get("org/many@main/c").iterdir()} == {"config.json", "model.safetensors"}
    assert "holds 2 checkpoints (a.ckpt, b.ckpt)" in refused("org/many")
    assert "there is no d.ckpt in it" in refused("org/many/d.ckpt")
    hub.put("org/half", MODEL | {"model.fp16.safetensors": b"half"})
    hub.sent.clear()
    assert (get("org/half:fp16") / "model.fp16.safetensors").read_bytes() == b"half"
    assert hub.downloads() == ["config.json", "model.fp16.safetensors"]
    get("org/half")
    assert "model.safetensors" in hub.downloads()


def test_without_a_network_the_cache_serves_if_it_is_complete(hub, monkeypatch):
    folder = get("org/net")
    commit = folder.name
    hub.put("org/part", MODEL | {"model.fp16.safetensors": b"half"})
    get("org/part:fp16")
    for how in ("offline", "down"):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
        hub.down = how == "down"
        hub.asked.clear()
        assert get("org/net") == get(f"org/net@{commit}") == folder
        why = "HF_HUB_OFFLINE is set; unset it" if how == "offline" else "answers HTTP 503"
        assert why in refused("org/none") and why in refused("org/net@v1")
        assert "1 of 2 files are not in the cache (model.safetensors), and" in refused("org/part")
        assert bool(hub.asked) == (how == "down")


def test_nobody_answers(hub, monkeypatch):
    folder = get("org/net")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of "discard"
    assert get("org/net") == folder
    assert "http://127.0.0.1:9 cannot be reached" in refused("org/none")


def test_private_and_gated_repositories_say_what_they_need(hub, monkeypatch):
    hub.put("org/secret", MODEL, private=True)
    hub.put("org/gated", MODEL, gated=True)
    assert "no such repository, or a private one, for which to set HF_TOKEN" in refused("org/secret")
    assert refused("org/secret")[10:] == refused("org/absent")[10:]
    gated = refused("org/gated")
    assert f"it is gated: ask for access at {hub.url}/org/gated" in gated and "HF_TOKEN" in gated
    monkeypatch.setenv("HF_TOKEN", READER)
    assert (get("org/secret") / "config.json").is_file()
    assert "it is gated" in refused("org/gated")
    assert "or the token (HF_TOKEN, hf auth login) may not read it" in refused("org/absent")
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert (get("org/gated") / "config.json").is_file()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.put("org/other", MODEL)
    assert "the token (HF_TOKEN, hf auth login) is not valid" in refused("org/other")


def test_a_token_of_hf_auth_login_is_used(hub, home):
    hub.put("org/secret", MODEL, private=True)
    home.mkdir(exist_ok=True)
    (home / "token").write_text(READER)
    assert (get("org/secret") / "config.json").is_file()


def test_a_download_that_breaks_off_continues_where_it_was(hub, monkeypatch):
    """The rest of the file is asked for, not the whole; progress does not count anything twice."""
    monkeypatch.setattr(time, "sleep", silent)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.break_after, seen = 2000, []
    folder = get("org/net", lambda *shown: seen.append(shown))
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert [it for it in hub.sent if it[0] == "model.safetensors"] == [
        ("model.safetensors", 0, 2000),
        ("model.safetensors", 2000, 3000),
    ]
    assert seen[-1][1:3] == (5002, 5002)


def test_after_an_interruption_the_complete_files_are_kept(hub):
    """Ctrl-C, and a later call."""

    def stop(what, done, total, numbers):
        if done >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("org/net", stop)
    hub.sent.clear()
    folder = get("org/net")
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert (folder / "config.json").read_bytes() == MODEL["config.json"]
    hub.sent.clear()
    get("org/net")
    assert not hub.downloads()  # all are complete now


def test_other_layouts_are_refused_before_they_are_downloaded(hub):
    said = refused("org/net", only=(OURS,))
    assert "is a model of diffusers, LeRobot or transformers" in said
    assert "unveil weights convert org/net OUT" in said and not hub.sent


def test_a_full_disk_and_a_cache_that_cannot_be_written(hub, home):
    home.mkdir()
    (home / "hub").write_text("a file")
    said = refused("org/net")
    assert str(home / "hub") in said


def test_without_huggingface_hub_one_line_says_how_to_install_it(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'unveil[hub]'" in refused("org/net")


def test_a_process_of_its_own_obeys_the_environment_alone(hub, home):
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE as huggingface_hub reads them when it is imported."""
    hub.put("org/secret", MODEL, private=True)
    code = (
        "import sys; from unveil.files.hub import *; print(download(hub_name('org/secret'), lambda *_: None))"
    )
    own = home.parent / "other home"
    for more in ({"HF_TOKEN": READER}, {"HF_HUB_OFFLINE": "1"}):
        env = environment(hub, own) | {"PYTHONPATH": os.pathsep.join(sys.path)} | more
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(own / "hub" / "models--org--secret"))
    assert hub.downloads() == ["config.json", "model.safetensors"]
