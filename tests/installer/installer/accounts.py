"""`rootpw`, `user`, `sshkey`. Passwords reach programs on standard input only."""

from installer.errors import InstallError

NO_PASSWORD = ("*", "!", "!!")


def check(kickstart):
    """Refuses passwords that could not work."""
    root = kickstart.rootpw
    if root.seen and root.isCrypted:
        _check_hash(f"line {root.lineno}: rootpw --iscrypted", root.password)
    for data in kickstart.user.userList:
        if data.isCrypted:
            _check_hash(f"line {data.lineno}: user --name={data.name} --iscrypted", data.password)


def configure(kickstart, target):
    """Makes accounts, sets passwords, adds keys."""
    root = kickstart.rootpw
    if root.password:
        _set_password(target, "root", root.password, root.isCrypted)
    if root.lock or not root.password:
        target.run("passwd", "--quiet", "--lock", "root")
    for data in kickstart.user.userList:
        _add_user(target, data)
    for data in kickstart.sshkey.sshUserList:
        _add_key(target, data.username, data.key)


def _check_hash(place, value):
    if not value.startswith("$") and value not in NO_PASSWORD:
        raise InstallError(f"{place}: the value is no crypt(3) hash (those begin with $)")


def _set_password(target, name, password, is_crypted):
    target.run("chpasswd", *(("--encrypted",) if is_crypted else ()), stdin=f"{name}:{password}\n")


def _add_user(target, data):
    groups = [group.strip() for group in data.groups]
    for group in groups:
        target.run("groupadd", "--force", group)
    options = {"--comment": data.gecos, "--home-dir": data.homedir, "--shell": data.shell or "/bin/bash",
               "--uid": data.uid, "--gid": data.gid, "--groups": ",".join(groups)}
    words = [word for option, value in options.items() if value not in (None, "") for word in (option, str(value))]
    target.run("useradd", "--create-home", *words, data.name)
    if data.password:
        _set_password(target, data.name, data.password, data.isCrypted)
    if data.lock:
        target.run("passwd", "--quiet", "--lock", data.name)


def _add_key(target, name, key):
    entry = target.run("getent", "passwd", name).strip().split(":")
    place = target.path(entry[5]) / ".ssh"
    place.mkdir(mode=0o700, exist_ok=True)
    keys = place / "authorized_keys"
    with open(keys, "a", encoding="utf-8") as file:
        file.write(key + "\n")
    keys.chmod(0o600)
    target.run("chown", "--recursive", f"{entry[2]}:{entry[3]}", f"{entry[5]}/.ssh")
