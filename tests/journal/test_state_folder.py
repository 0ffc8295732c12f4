"""The state folder: private, writable, on a disk that is kept."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import World
from tests.world.unprivileged import unprivileged
from token_refresh.journal.state_folder import StateError, StateFolder, file_system

SOMEBODY = 12_345
# A folder of somebody else's is made by root alone (chown(2)). The rule itself is shown to any user, with a folder of
# root's; these add the number in place of a name, and the folder of one store.
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def mounts(tmp_path: Path, *lines: str) -> Path:
    """A list of mounts as the kernel writes it."""
    file = tmp_path / "mounts"
    file.write_text("".join(f"{line} rw 0 0\n" for line in ("/dev/root / ext4", *lines)))
    return file


def test_the_folder_and_each_store_s_folder_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = StateFolder(tmp_path / "deep" / "state", is_explicit=True)
        assert mode(state.path) == 0o700
        assert mode(state.of_store("airtable one")) == 0o700
    finally:
        os.umask(before)


def test_each_store_has_a_folder_of_its_own_and_always_the_same(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state", is_explicit=True)
    assert state.of_store("airtable one") == state.of_store("airtable one")
    assert state.of_store("airtable one") != state.of_store("airtable two")


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state", is_explicit=True)
    assert list(state.path.iterdir()) == []


def test_a_folder_that_others_can_read_is_refused_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o750)
    with pytest.raises(StateError, match="other users can read") as error:
        StateFolder(path, is_explicit=True)
    assert error.value.action == f"Run: chmod -R go= {path}"


@pytest.mark.parametrize("what", ["a file of another program", "sticky"])
def test_a_folder_that_is_not_the_programs_alone_is_not_to_be_changed(tmp_path: Path, what: str) -> None:
    """`chmod -R go=` on /opt or /tmp breaks the machine."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777 if what == "sticky" else 0o755)
    if what != "sticky":
        (path / "another program").touch()
    with pytest.raises(StateError, match="other users can read") as error:
        StateFolder(path, is_explicit=True)
    assert error.value.action == "Set STATE_DIR to a new folder."


def test_what_the_program_itself_puts_into_the_folder_is_known(world: World) -> None:
    """Otherwise the one command that repairs its permissions would not be shown any more."""
    world.program.settings |= {"WEBHOOK_URL": f"{world.oauth.url}/gone", "WEBHOOK_SECRET": f"whsec_{'0f' * 16}"}
    world.program.settings["NOTIFY_COMMAND"] = "true"
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    world.oauth.revoke("loc")
    world.clock.advance(3600)
    result = world.program.run()
    assert "reauthorize" in result.said
    folder = Path(world.program.settings["STATE_DIR"])
    made = [one.name for one in folder.iterdir()]
    assert {"tokens.sqlite3", "news", "webhooks"} <= {name.split("-")[0] for name in made}
    folder.chmod(0o755)
    result = world.program.run()
    assert f"Run: chmod -R go= {folder}" in result.err, made


def test_a_folder_whose_files_a_pod_s_group_was_given_is_right_again_after_the_one_command(tmp_path: Path) -> None:
    """Kubernetes gives `fsGroup` everything in a volume at once."""
    path = tmp_path / "a state"
    (StateFolder(path, is_explicit=True).of_store("one") / "file").touch(0o600)
    for one in (path, *path.rglob("*")):
        one.chmod(one.stat().st_mode | 0o060)
    with pytest.raises(StateError, match="other users can read") as error:
        StateFolder(path, is_explicit=True)
    subprocess.run(["/bin/sh", "-c", error.value.action.removeprefix("Run: ")], check=True)
    assert not [one for one in (path, *path.rglob("*")) if one.stat().st_mode & 0o077]
    StateFolder(path, is_explicit=True).of_store("one")


def test_a_store_s_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state", is_explicit=True)
    state.of_store("one").chmod(0o755)
    with pytest.raises(StateError, match="other users can read"):
        state.of_store("one")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        StateFolder(tmp_path / "state", is_explicit=True)


def test_a_folder_without_permission_to_write_is_refused() -> None:
    def refused(home: Path) -> None:
        home.chmod(0o500)
        with pytest.raises(StateError, match=r"cannot be written \(Permission denied\)"):
            StateFolder(home, is_explicit=True)
        with pytest.raises(StateError, match=r"cannot be written \(Permission denied\)"):
            StateFolder(home / "state", is_explicit=True)

    unprivileged(refused)


def test_a_probe_of_a_killed_process_with_our_number_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container the program may have the same number in every run."""
    (tmp_path / f".probe-{os.getpid()}").touch()
    StateFolder(tmp_path, is_explicit=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_new_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / f".probe-{os.getpid()}").mkdir()
    with pytest.raises(StateError, match="cannot be written"):
        StateFolder(tmp_path, is_explicit=True)


def test_a_folder_on_a_disk_that_takes_no_files_is_refused() -> None:
    with pytest.raises(StateError, match="cannot be written"):
        StateFolder(Path("/proc/self/state"), is_explicit=True)


def test_a_folder_of_another_user_is_refused_and_the_sudo_line_shown() -> None:
    def refused(_: Path) -> None:
        with pytest.raises(StateError, match="belongs to root") as error:
            StateFolder(Path("/usr"), is_explicit=True)
        assert "sudo -u root " in error.value.action

    unprivileged(refused)


@AS_ROOT
def test_a_folder_of_a_user_without_a_name_is_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, SOMEBODY, SOMEBODY)
    with pytest.raises(StateError, match=f"belongs to #{SOMEBODY}") as error:
        StateFolder(path, is_explicit=True)
    assert f"sudo -u '#{SOMEBODY}' " in error.value.action


@AS_ROOT
def test_a_store_s_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state", is_explicit=True)
    os.chown(state.of_store("one"), SOMEBODY, SOMEBODY)
    with pytest.raises(StateError, match="belongs to"):
        state.of_store("one")


# Where it lies


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "overlay"])
def test_a_disk_that_is_not_kept_is_refused(tmp_path: Path, kind: str) -> None:
    listed = mounts(tmp_path, f"none {tmp_path} {kind}")
    with pytest.raises(StateError, match=f"lies on {kind}, which is not kept over a restart"):
        StateFolder(tmp_path / "state", is_explicit=False, mounts=listed)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_disk_is_refused(tmp_path: Path, kind: str) -> None:
    listed = mounts(tmp_path, f"host:/share {tmp_path} {kind}")
    with pytest.raises(StateError, match="no reliable locks"):
        StateFolder(tmp_path / "state", is_explicit=False, mounts=listed)


def test_a_folder_that_was_named_may_lie_anywhere(tmp_path: Path) -> None:
    listed = mounts(tmp_path, f"none {tmp_path} tmpfs")
    StateFolder(tmp_path / "state", is_explicit=True, mounts=listed)


def test_the_mount_nearest_to_the_folder_counts(tmp_path: Path) -> None:
    listed = mounts(tmp_path, f"none {tmp_path} tmpfs", f"/dev/sdb {tmp_path}/disk ext4", "none /elsewhere nfs")
    assert file_system(tmp_path / "disk" / "state", listed) == "ext4"
    assert file_system(tmp_path / "disks", listed) == "tmpfs"
    assert file_system(Path("/srv"), listed) == "ext4"


def test_of_two_mounts_at_one_point_the_later_one_counts(tmp_path: Path) -> None:
    """As an automounter leaves it: its own kind first, then what it brought."""
    listed = mounts(tmp_path, f"systemd-1 {tmp_path} autofs", f"host:/share {tmp_path} nfs4")
    assert file_system(tmp_path / "state", listed) == "nfs4"


def test_a_mount_point_with_blanks_is_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "my disk"
    folder.mkdir()
    listed = mounts(tmp_path, f"none {tmp_path}/my\\040disk tmpfs")
    assert file_system(folder, listed) == "tmpfs"


def test_a_link_is_followed_to_the_disk_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    listed = mounts(tmp_path, f"none {tmp_path}/real tmpfs")
    assert file_system(tmp_path / "link" / "state", listed) == "tmpfs"


def test_a_system_that_does_not_list_its_mounts_is_accepted(tmp_path: Path) -> None:
    StateFolder(tmp_path / "state", is_explicit=False, mounts=tmp_path / "none")
