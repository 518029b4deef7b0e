# Installs a package into a copy of this system, looks at what it brought, and removes it again. The copy is in memory and in the mount
# namespace that this script runs in: the system itself stays as it is.
#
# $1 the package's name, $2 its version, $3 its file, $4 an empty folder
name=$1 version=$2 package=$3 root=$4

die() { echo "installed: $name: $*" >&2; exit 1; }

mount -t tmpfs dist "$root"
mkdir "$root/changes" "$root/work" "$root/system"
mount -t overlay -o "lowerdir=/,upperdir=$root/changes,workdir=$root/work" dist "$root/system"
for part in dev proc; do mount --rbind "/$part" "$root/system/$part"; done
# A service manager of the host is not the copy's.
mount -t tmpfs dist "$root/system/run"
cp "$package" "$root/system/run/package.deb"
inside() { chroot "$root/system" "$@"; }

# Triggers refresh caches that nobody will read; an image of Debian for containers may leave out documentation.
inside dpkg --no-triggers --path-include='/usr/share/*' --install /run/package.deb
said=$(inside "$name" --version)
[ "$said" = "$name $version" ] || die "--version says '$said'"

inside test -s "/usr/share/man/man1/$name.1.gz" || die "no manual page"
for command in $(inside "$name" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -v '^help$'); do
	inside test -s "/usr/share/man/man1/$name-$command.1.gz" || die "no manual page of $command"
done
inside bash -c ". /usr/share/bash-completion/completions/$name && complete -p $name" >/dev/null || die "no completion for bash"
inside head -n 1 "/usr/share/zsh/vendor-completions/_$name" | grep -qx "#compdef $name" || die "no completion for zsh"
inside grep -q "complete -c $name" "/usr/share/fish/vendor_completions.d/$name.fish" || die "no completion for fish"

unit=$name.service
# Other units of the host may be at fault: what is said of ours counts.
faults=$(inside systemd-analyze verify --recursive-errors=no "/usr/lib/systemd/system/$unit" 2>&1) || die "$unit: $faults"
case $faults in *"$name"*) die "$unit: $faults" ;; esac
# 2.5 of 10: what is left is a network, its ports, and root without root's powers.
inside systemd-analyze security --no-pager --offline=yes --threshold=25 "$unit" >"$root/exposure" 2>&1 ||
	die "$unit is exposed: $(cat "$root/exposure")"
tail -n 1 "$root/exposure"
# The folder is made by init: a service that starts before has nothing to serve.
[ ! -e "$root/system/etc/systemd/system/multi-user.target.wants/$unit" ] || die "$unit is enabled unasked"

inside dpkg --no-triggers --purge "$name"
left=$(inside find /etc /lib /usr /var/lib -xdev -name "*$name*")
[ -z "$left" ] || die "left after --purge: $left"
