"""Files come over a network that breaks off, lies, wants a sign-in or is not there; what is kept is whole and right."""

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from allmlp.errors import CannotDownload
from allmlp.weights.catalogue import CATALOGUE
from allmlp.weights.download import cache_folder, download, fetch, find_on_disk, from_hub

CONTENT = bytes(range(256)) * 1200  # 0.3 MiB: several reads of a socket
MIB = len(CONTENT) / 2**20
DIGEST = hashlib.sha256(CONTENT).hexdigest()

GOOGLES = CATALOGUE["mixer_b16_224.goog_sam_in1k"]
TIMMS = CATALOGUE["mixer_b16_224.goog_in21k_ft_in1k"]
FACEBOOKS = CATALOGUE["resmlp_12_224.fb_in1k"]


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def left(folder: Path) -> set[str]:
    """The files in a folder but for the locks, which are empty and stay."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture
def google(site):
    """The row of one of Google's files, at the site."""
    return GOOGLES.with_(url=site.add("/sam/Mixer-B_16.npz", CONTENT), size_mib=MIB, sha256=DIGEST[:8])


def test_a_file_is_fetched_once_under_the_name_of_the_weights(site, google, home):
    path = fetch(google)
    assert path == home / "mixer_b16_224.goog_sam_in1k.npz"
    assert path.read_bytes() == CONTENT
    assert fetch(google) == find_on_disk(google) == path
    assert len(site.requests) == 1
    assert left(home) == {path.name}


def test_an_explicit_cache_folder_comes_before_the_variable_and_that_before_torch(home, tmp_path, monkeypatch):
    assert cache_folder(tmp_path / "x") == tmp_path / "x"
    assert cache_folder() == home
    monkeypatch.delenv("ALLMLP_HOME")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert cache_folder() == tmp_path / "torch" / "hub" / "checkpoints"


def test_a_wrong_checksum_is_refused_and_leaves_nothing(google, home):
    with pytest.raises(CannotDownload) as error:
        fetch(google.with_(sha256="76587d61"))
    assert f"has the checksum {DIGEST[:8]}…, not 76587d61…, and was removed" in str(error.value)
    assert left(home) == set()


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "starts again"])
def test_a_transfer_that_breaks_off_is_kept_and_gone_on_with(site, google, home, ranges):
    site.ranges, site.break_off_after = ranges, 200_000
    with pytest.raises(CannotDownload, match="broke off after 200000 of 307200 bytes.*0.2 MiB are kept, ask again"):
        fetch(google)
    assert find_on_disk(google) is None
    site.break_off_after = None
    assert fetch(google).read_bytes() == CONTENT
    assert [wanted for _, _, wanted, _ in site.requests] == [None, "bytes=200000-"]
    assert left(home) == {"mixer_b16_224.goog_sam_in1k.npz"}


def test_a_kept_part_that_is_longer_than_the_file_is_thrown_away(google, home):
    home.mkdir()
    (home / ".mixer_b16_224.goog_sam_in1k.npz.part").write_bytes(CONTENT + b"x")
    assert fetch(google).read_bytes() == CONTENT


def test_a_kept_part_of_another_file_is_found_by_the_checksum(google, home):
    home.mkdir()
    (home / ".mixer_b16_224.goog_sam_in1k.npz.part").write_bytes(b"x" * 1000)
    with pytest.raises(CannotDownload, match="checksum"):
        fetch(google)
    assert fetch(google).read_bytes() == CONTENT


def test_two_at_once_share_one_transfer(site, tmp_path):
    url = site.add("/x.npz", CONTENT)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: download(url, tmp_path / "x.npz"), range(2)))
    assert (tmp_path / "x.npz").read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_page_to_sign_in_is_not_taken_for_weights(site, google, home):
    site.add("/sam/Mixer-B_16.npz", b"<html>Welcome to the hotel</html>")
    with pytest.raises(CannotDownload, match="gives 0.00 MiB where about 0.29 are expected"):
        fetch(google)
    assert find_on_disk(google) is None


def refused(row) -> str:
    with pytest.raises(CannotDownload) as error:
        fetch(row)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_a_file_or_a_server_one_line_says_what_to_get_from_where_and_where_to_put_it(site, google, home):
    for url, reason in {f"{site.address}/gone.npz": "answers 404 Not Found",
                        f"http://127.0.0.1:{closed_port()}/x.npz": "Connection refused"}.items():  # fmt: skip
        message = refused(google.with_(url=url))
        assert message.startswith(f"mixer_b16_224.goog_sam_in1k: {url} ")
        assert reason in message
        assert message.endswith(f"to do without a network, get {url} as {home}/mixer_b16_224.goog_sam_in1k.npz (0 MiB)")
    assert not site.requests[1:]


@pytest.mark.parametrize("row", [GOOGLES, TIMMS, FACEBOOKS], ids=lambda row: row.name)
def test_offline_nothing_is_asked_and_the_line_says_where_to_put_a_file(row, home, monkeypatch, refuse_any_connection):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(row)
    assert message.startswith(f"{row.name}: not downloaded, since HF_HUB_OFFLINE is set; to do without a network, get ")
    assert f"{row.url} as {home}/{row.name}{Path(row.url).suffix} " in message
    if row.hub_id:
        assert f"/{row.hub_id}/resolve/main/model.safetensors as {home}/{row.name}.safetensors or " in message


@pytest.fixture
def refuse_any_connection(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(("row", "name"), [
    (GOOGLES, "mixer_b16_224.goog_sam_in1k.npz"),
    (GOOGLES, "mixer_b16_224.goog_sam_in1k.safetensors"),
    (TIMMS, "mixer_b16_224.goog_in21k_ft_in1k.safetensors"),
    (TIMMS, "mixer_b16_224.goog_in21k_ft_in1k.pth"),
    (TIMMS, "jx_mixer_b16_224-76587d61.pth"),  # where timm downloads to
    (FACEBOOKS, "resmlp_12_no_dist.pth"),  # where torch.hub does
])
def test_a_file_put_there_by_hand_is_found(row, name, home, monkeypatch, refuse_any_connection):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home.mkdir()
    (home / name).write_bytes(b"weights")
    assert fetch(row) == home / name
    assert fetch(row, cache_dir=home) == home / name


def test_googles_file_name_alone_says_too_little(home):
    home.mkdir()
    (home / "Mixer-B_16.npz").write_bytes(b"of imagenet1k, sam or gsam?")
    assert find_on_disk(GOOGLES) is None


def test_timms_weights_come_from_the_hub_once_and_are_then_found_offline(hub, home, tmp_path, monkeypatch):
    hub.add(f"/{TIMMS.hub_id}/resolve/main/model.safetensors", CONTENT)
    path = fetch(TIMMS)
    assert path.read_bytes() == CONTENT
    assert tmp_path / "hub" in path.parents
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(TIMMS) == path
    assert len(hub.requests) == asked
    assert refused(TIMMS.with_(hub_id="timm/another"))


def test_a_cache_folder_is_used_for_the_hub_too(hub, home, tmp_path):
    hub.add(f"/{TIMMS.hub_id}/resolve/main/model.safetensors", CONTENT)
    assert tmp_path / "mine" in fetch(TIMMS, cache_dir=tmp_path / "mine").parents
    assert find_on_disk(TIMMS) is None
    assert find_on_disk(TIMMS, cache_dir=tmp_path / "mine") is not None


def test_a_repository_without_the_file_is_named(hub, home):
    message = refused(TIMMS)
    assert message.startswith(f"{TIMMS.name}: {TIMMS.hub_id} ")
    assert f"{home}/{TIMMS.name}.safetensors" in message


def test_of_several_files_the_first_that_the_repository_has_is_taken(hub):
    hub.add("/owner/name/resolve/main/pytorch_model.bin", CONTENT)
    assert from_hub("owner/name", ["model.safetensors", "pytorch_model.bin"]).read_bytes() == CONTENT
    with pytest.raises(CannotDownload, match="owner/name on the Hugging Face Hub has no model.safetensors or x.bin"):
        from_hub("owner/name", ["model.safetensors", "x.bin"])


def test_a_full_disk_is_told_in_one_line(google, home, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in refused(google)
