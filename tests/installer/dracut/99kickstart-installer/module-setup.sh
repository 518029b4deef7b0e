#!/bin/bash
# dracut module: an installer takes the place of mounting a root file system.
#
# It brings python3 with its library, pykickstart, and the tools that the installer calls. dracut's network module is not
# asked for: the network belongs to whoever set it up before /init.

check() {
    return 255
}

depends() {
    echo base udev-rules
}

install() {
    inst_multiple \
        python3 python3.11 perl mmdebstrap apt-get apt-cache apt-config dpkg dpkg-deb dpkg-query dpkg-split dpkg-trigger \
        sfdisk blockdev wipefs partx mkfs.ext4 mke2fs mkswap blkid tune2fs \
        mount umount mountpoint chroot curl tar gzip gunzip xz zstd unxz \
        ip udevadm ldconfig env sync sleep cat cp mv rm ln mkdir chmod chown touch head tail sort tr cut wc uname date \
        basename dirname readlink mktemp stat sed grep find id tee true false test expr stty dd df du \
        awk mawk hostname install unshare nsenter lsblk setsid flock modprobe
    inst_simple /usr/lib/x86_64-linux-gnu/libeatmydata.so
    inst_simple /etc/mke2fs.conf
    inst_simple /etc/nsswitch.conf
    inst_multiple $(find /usr/lib/locale/C.utf8 -type f)
    install_python
    install_perl
    install_apt
    inst_hook cmdline 90 "$moddir/claim-root.sh"
    inst_hook pre-mount 10 "$moddir/run-installer.sh"
}

# Only compiled modules: an emulated machine should not compile them, nor fetch both forms.
install_python() {
    mapfile -t files < <(
        find /usr/lib/python3.11 -type f \( -name '*.pyc' -o -name '*.so' \) ! -path '*/__pycache__/*' |
            grep -vE '/(test|unittest|asyncio|idlelib|lib2to3|ensurepip|tkinter|turtledemo|pydoc_data|distutils|config-3|venv|wsgiref|curses|dbm|xmlrpc)(/|-)' |
            grep -vE '/(turtle|pydoc|doctest|pickletools|_pydecimal)\.pyc|lib-dynload/_(test|codecs_(cn|hk|jp|kr|tw|iso2022)|sqlite|curses|dbm|tkinter)'
        find /usr/lib/kickstart-installer -type f ! -path '*/__pycache__/*' \
            \( ! -name '*.py' -o -path '*/kickstart-installer/installer/*' \) ! -name '*.mo'
    )
    inst_multiple "${files[@]}"
}

install_perl() {
    mapfile -t files < <(
        find -L /usr/share/perl/5.36 /usr/lib/x86_64-linux-gnu/perl/5.36 /usr/lib/x86_64-linux-gnu/perl-base \
            -type f \( -name '*.pm' -o -name '*.ph' -o -name '*.pl' -o -name '*.so' \) |
            grep -vE '/(CPAN|Module|Unicode|unicore|Pod/Perldoc|TAP|Test|Test2|ExtUtils|Locale|Encode/(CN|JP|KR|TW|EBCDIC)|CORE|DBM_Filter|Archive|autodie|App)(/|\.)'
    )
    inst_multiple "${files[@]}"
}

install_apt() {
    mapfile -t files < <(
        find /usr/lib/apt/methods -type f
        find /usr/share/dpkg /etc/dpkg -type f
    )
    inst_multiple "${files[@]}" 
    inst_dir /etc/apt/apt.conf.d
    inst_dir /etc/apt/preferences.d
    inst_dir /etc/apt/trusted.gpg.d
    inst_dir /etc/apt/sources.list.d
    inst_dir /var/lib/dpkg
    inst_dir /var/cache/apt/archives/partial
    inst_dir /var/lib/apt/lists/partial
    : > "$initdir/var/lib/dpkg/status"
    # In the place of ldconfig's own cache, which would hold the time of the build.
    : > "$initdir/var/cache/ldconfig"
}
