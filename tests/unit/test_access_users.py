"""The users file: who stands in it, how it is written and read, what it refuses."""

from __future__ import annotations

import io
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tunesvc.cli import main
from tunesvc.dashboard import passwords, users
from tunesvc.dashboard.listening import in_force, listening
from tunesvc.dashboard.roster import Roster
from tunesvc.errors import StorageError, TuneError, UnknownNameError, UsageError

PASSWORD = "four words of mine"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A users file with the editor ada."""
    path = tmp_path / "access" / "users.yaml"
    users.add(path, "ada", PASSWORD, "editor")
    return path


def test_a_password_is_kept_as_its_hash(file: Path) -> None:
    """Only who knows it matches; nobody but the owner reads the file."""
    kept = users.read(file)["ada"].password
    assert kept
    assert passwords.matches(kept, PASSWORD)
    assert not passwords.matches(kept, PASSWORD + " ")
    assert PASSWORD not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_password_however_it_is_composed() -> None:
    """A keyboard may send é as one character or as two."""
    kept = passwords.hashed("caf\u00e9 caf\u00e9 caf\u00e9")
    assert passwords.matches(kept, "cafe\u0301 cafe\u0301 cafe\u0301")


def test_nobody_has_the_unknown_users_password() -> None:
    """What an unknown user is compared with lets nobody in."""
    assert not passwords.matches(None, "nobody has this password")
    assert not passwords.matches(None, "x" * 10**6)


def test_an_unknown_user_takes_as_long_as_a_known_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are compared with a hash of the same settings, once."""
    seen = []

    class Watched(PasswordHasher):
        def verify(self, kept: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            seen.append(str(kept).rsplit("$", 2)[0])
            return super().verify(kept, password)

    monkeypatch.setattr(passwords, "_hasher", Watched())
    passwords.matches(users.read(file)["ada"].password, "wrong password")
    passwords.matches(None, "wrong password")
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_changed_user_keeps_his_role(file: Path) -> None:
    """A new name is a reader's, unless told otherwise."""
    assert users.add(file, "bob", PASSWORD)
    assert not users.add(file, "ada", "another password")
    assert {name: each.role for name, each in users.read(file).items()} == {
        "ada": "editor",
        "bob": "reader",
    }
    users.add(file, "ada", "another password", "reader")
    assert users.read(file)["ada"].role == "reader"


def test_an_older_hash_is_made_anew(file: Path) -> None:
    """Once the password is known, and unless somebody changed it meanwhile."""
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    file.write_text(json.dumps({"ada": {"role": "editor", "password": weak}}))
    before = users.read(file)["ada"]
    assert before.password
    assert passwords.is_outdated(before.password)
    after = users.rehash(file, "ada", before, PASSWORD)
    assert after == users.read(file)["ada"] != before
    assert after.password
    assert not passwords.is_outdated(after.password)
    assert passwords.matches(after.password, PASSWORD)
    assert users.rehash(file, "ada", before, "something old") == before
    assert users.read(file)["ada"] == after


def test_a_token_is_kept_as_its_digest(file: Path) -> None:
    """It is of 256 random bits, found by its digest alone, and the next one replaces it."""
    token = users.new_token(file, "prometheus")
    assert len(token) == 43
    assert token not in file.read_text()
    roster = Roster(file)
    found = roster.of_token(token)
    assert found
    assert (found[0], found[1].role) == ("prometheus", "reader")
    assert roster.of_token("") is None
    assert roster.of_token(users.digest(token)) is None
    users.new_token(file, "prometheus", "editor")
    assert roster.of_token(token) is None


def test_people_and_tokens_have_names_of_their_own(file: Path) -> None:
    """A person's entry never becomes a token's, nor the other way round."""
    with pytest.raises(UsageError, match="person's name"):
        users.new_token(file, "ada")
    users.new_token(file, "script")
    with pytest.raises(UsageError, match="name of a token"):
        users.add(file, "script", PASSWORD)


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1025])
def test_passwords_that_are_none(file: Path, password: str) -> None:
    """Too short or too long: refused, and not repeated."""
    with pytest.raises(UsageError) as told:
        users.add(file, "bob", password)
    assert not password or password not in str(told.value)


@pytest.mark.parametrize("name", ["", "a b", "-x", "../x", "x" * 65, "a\nb", "ä"])
def test_names_that_are_none(file: Path, name: str) -> None:
    """They would not fit into a log's line, a form or a command."""
    with pytest.raises(UsageError, match="is not a name"):
        users.add(file, name, PASSWORD)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ada: [", "users.yaml:1:7: not valid YAML"),
        ("- ada", "has no names"),
        ("ada: {role: admin, password: s3cret}", "users.yaml:1:7: ada.role: Input should be"),
        ("ada: {role: editor, password: s3cret}", "not a hash by argon2id"),
        ("ada: {role: editor, token: s3cret}", "not a SHA-256"),
        ("ada: {role: editor}", "either `password` or `token`"),
        ("ada: s3cret", "users.yaml:1:1: ada"),
        ("12: {role: editor}", "12 is not a name"),
        ("ada: {role: reader}\nada: {role: editor}", "twice"),
        ("ada: {rolle: editor}", "ada.role"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    """One clear error with the place, and nothing of what may be a password."""
    path = tmp_path / "users.yaml"
    path.write_text(text)
    with pytest.raises(TuneError) as told:
        users.read(path)
    assert says in str(told.value)
    assert "s3cret" not in str(told.value)
    assert told.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "\n", "# nobody yet\n", "{}\n"])
def test_an_empty_file_has_nobody(tmp_path: Path, text: str) -> None:
    """It is read, but a dashboard into which nobody could log in is refused."""
    path = tmp_path / "users.yaml"
    path.write_text(text)
    assert users.read(path) == {}
    with pytest.raises(UsageError, match="nobody could log in"):
        in_force(path)


def test_changes_at_once_all_arrive(file: Path) -> None:
    """Each waits for the other, and nobody is lost."""
    names = [f"user{index}" for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: users.new_token(file, name), names))
    assert set(users.read(file)) == {"ada", *names}


def test_a_broken_file_is_not_overwritten(file: Path) -> None:
    """Whoever mends it finds what he wrote."""
    file.write_text("ada: [")
    with pytest.raises(UsageError):
        users.add(file, "bob", PASSWORD)
    assert file.read_text() == "ada: ["


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Told in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        users.add(tmp_path / "file" / "users.yaml", "ada", PASSWORD)


def test_the_roster_follows_the_file(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Added and removed people count at once; while it cannot be read, nobody does."""
    roster = Roster(file)
    users.add(file, "bob", PASSWORD)
    assert set(roster.current()) == {"ada", "bob"}
    users.remove(file, "bob")
    assert set(roster.current()) == {"ada"}
    whole = file.read_text()
    file.write_text("ada: [")
    for _ in range(2):
        with pytest.raises(UsageError):
            roster.current()
    assert caplog.text.count("nobody can log in") == 1
    file.unlink()
    with pytest.raises(UsageError):
        roster.current()
    file.write_text(whole)
    assert set(roster.current()) == {"ada"}


def test_only_this_machine_without_a_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another address needs a login; a file that was named must be there."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    monkeypatch.delenv(users.VARIABLE, raising=False)
    for host in ("127.0.0.1", "localhost"):
        assert "no login: this machine only" in listening(host).told()
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match="needs a login") as told:
            listening(host)
        assert "tunesvc user add" in told.value.fix
    for before in ({"proxy": "127.0.0.1"}, {"is_tls": True}):  # others come by way of a proxy
        with pytest.raises(UsageError, match="needs a login"):
            listening(**before)
    with pytest.raises(UsageError, match="cannot be read"):
        listening(users_file=tmp_path / "none.yaml")
    monkeypatch.setenv(users.VARIABLE, str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="cannot be read"):
        listening()


def test_a_users_file_is_in_force_everywhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, named by the variable, or in its default place; on loopback too."""
    monkeypatch.setenv("TUNESVC_HOME", str(file.parent))
    monkeypatch.delenv(users.VARIABLE, raising=False)
    assert listening().users == file
    monkeypatch.setenv("TUNESVC_HOME", "/nowhere")
    monkeypatch.setenv(users.VARIABLE, str(file))
    where = listening("0.0.0.0")
    assert where.users == file
    assert f"login: {file}" in where.told()
    assert "without TLS" in where.told()
    assert "without TLS" not in listening("0.0.0.0", is_tls=True).told()
    assert "without TLS, except by way of caddy" in listening("0.0.0.0", proxy="caddy").told()
    with pytest.raises(UsageError, match="no such address"):
        listening("no.such.host.invalid")


def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add, list, token and remove, by a password on standard input; it is never shown."""
    path = tmp_path / "users.yaml"

    def run(*arguments: str, code: int = 0, stdin: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["user", *arguments, "--file", str(path)])
        assert (ended.value.code or 0) == code
        out, err = capsys.readouterr()
        assert PASSWORD not in out + err
        return out

    assert "may log in, as editor" in run("add", "ada", "--role", "editor", stdin=PASSWORD + "\n")
    assert "is changed, as editor" in run("add", "ada", stdin=PASSWORD)
    token = run("token", "prometheus").strip()
    assert token == token.split()[0]
    assert json.loads(run("list", "--json")) == [
        {"name": "ada", "role": "editor", "by": "password"},
        {"name": "prometheus", "role": "reader", "by": "token"},
    ]
    assert "$argon2" not in run("list")
    run("remove", "prometheus")
    run("remove", "prometheus", code=2)
    run("add", "bob", code=2)
    assert set(users.read(path)) == {"ada"}


def test_removing_a_stranger(file: Path) -> None:
    """The names that are known are told, and no file is made for it."""
    with pytest.raises(UnknownNameError, match="there is no 'adda'") as told:
        users.remove(file, "adda")
    assert "ada" in told.value.why
    with pytest.raises(UsageError, match="cannot be read"):
        users.remove(file.parent / "other.yaml", "ada")
    assert not (file.parent / "other.yaml").exists()
