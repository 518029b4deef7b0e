# Installs a package into a copy of this system, looks at what it brought, removes it, installs it again and lets a service manager start it. The
# copy is in memory and in the namespaces that this script runs in (mount, network, process identifiers, cgroups): the system itself stays as it is.
#
# $1 the package's name, $2 its version, $3 its file, $4 an empty folder, $5 a folder for what is said, $6 the program leaseboot-lm
name=$1 version=$2 package=$3 memory=$4 root=$4/system words=$5 lm=$6
unit=$name.service
folder=/var/lib/$name

die() { echo "installed: $name: $*" >&2; exit 1; }
inside() { chroot "$root" "$@"; }
# Triggers refresh caches that nobody will read; an image of Debian for containers may leave out documentation.
dpkg_quietly() { inside dpkg --no-triggers --path-include='/usr/share/*' "$@" >/dev/null; }

copy_the_system() {
	mount -t tmpfs dist "$memory"
	mkdir "$memory/changes" "$memory/work" "$root"
	mount -t overlay -o "lowerdir=/,upperdir=$memory/changes,workdir=$memory/work" dist "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs run "$root/run"
	cp "$package" "$root/run/package.deb"
}

look_at_files() {
	said=$(inside "$name" --version)
	[ "$said" = "$name $version" ] || die "--version says '$said'"
	inside test -s "/usr/share/man/man1/$name.1.gz" || die "no manual page"
	for command in $(inside "$name" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -v '^help$'); do
		inside test -s "/usr/share/man/man1/$name-$command.1.gz" || die "no manual page of $command"
	done
	inside bash -c ". /usr/share/bash-completion/completions/$name && complete -p $name" >/dev/null || die "no completion for bash"
	inside head -n 1 "/usr/share/zsh/vendor-completions/_$name" | grep -qx "#compdef $name" || die "no completion for zsh"
	inside grep -q "complete -c $name" "/usr/share/fish/vendor_completions.d/$name.fish" || die "no completion for fish"
}

look_at_unit() {
	# Other units of the host may be at fault: what is said of ours counts.
	faults=$(inside systemd-analyze verify --recursive-errors=no "/usr/lib/systemd/system/$unit" 2>&1) || die "$unit: $faults"
	case $faults in *"$name"*) die "$unit: $faults" ;; esac
	# 2.5 of 10: what is left is a network, its ports, and root without root's powers.
	exposure=$(inside systemd-analyze security --no-pager --offline=yes --threshold=25 "$unit" 2>&1) || die "$unit: $exposure"
	echo "$exposure" | tail -n 1
	# The folder is made by init: a service that starts before has nothing to serve.
	[ ! -e "$root/etc/systemd/system/multi-user.target.wants/$unit" ] || die "$unit is enabled unasked"
}

make_folder() {
	ip link set lo up
	ip link add wire type bridge
	ip address add 10.10.0.1/24 dev wire
	ip link set wire up
	case $name in
	leaseboot-lm)
		inside "$name" init "$folder" --interface wire --address 10.10.0.1/24
		mkdir "$root$folder/image"
		files=
		for file in vmlinuz stage1.img; do
			printf boot >"$root$folder/image/$file"
			sha256=$(sha256sum <"$root$folder/image/$file" | cut -d ' ' -f 1)
			files="$files{\"name\": \"$file\", \"sha256\": \"$sha256\", \"size\": 4},"
		done
		echo "{\"files\": [${files%,}]}" >"$root$folder/image/manifest.json"
		sed -i 's/^# boot_files = /boot_files = /' "$root$folder/lm.toml"
		;;
	leaseboot-po)
		"$lm" init "$root/run/lm" --interface wire --address 10.10.0.1/24
		"$lm" tenant add acme --config "$root/run/lm/lm.toml" --out "$root/run/bundle"
		inside "$name" init "$folder" --endpoint 10.10.0.1:51820 --tunnel 10.99.0.1/24 --lm https://10.10.0.1:8443 --lm-bundle /run/bundle
		;;
	esac
}

# Ends with the exit code of the probe, which waits for the service's own word that it serves.
start_under_systemd() {
	case $name in
	leaseboot-lm) ready='curl --silent --fail http://127.0.0.1:9469/readyz' ;;
	leaseboot-po) ready="$name list --config $folder/po.toml" ;;
	esac
	cat >"$root/run/probe" <<-END
		for second in \$(seq 20); do
			if $ready; then systemctl stop $unit && systemctl exit 0; exit; fi
			sleep 1
		done
		systemctl --no-pager status $unit
		journalctl --no-pager --unit $unit
		systemctl exit 1
	END
	mkdir -p "$root/run/systemd/system"
	cat >"$root/run/systemd/system/probe.service" <<-END
		[Unit]
		DefaultDependencies=no
		Wants=$unit
		[Service]
		Type=oneshot
		ExecStart=/bin/sh /run/probe
		StandardOutput=file:/run/words/probe
		StandardError=inherit
	END
	mkdir "$root/run/words"
	mount --bind "$words" "$root/run/words"
	mount -t tmpfs cgroups "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd cgroups "$root/sys/fs/cgroup/systemd"
	container=lxc exec chroot "$root" /lib/systemd/systemd --system --unit=probe.service --log-target=console >"$words/systemd" 2>&1
}

copy_the_system
dpkg_quietly --install /run/package.deb
look_at_files
look_at_unit
dpkg_quietly --purge "$name"
left=$(inside find /etc /lib /usr /var/lib -xdev -name "*$name*")
[ -z "$left" ] || die "left after --purge: $left"
dpkg_quietly --install /run/package.deb
make_folder >/dev/null
start_under_systemd
