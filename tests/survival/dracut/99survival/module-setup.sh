#!/bin/bash
# dracut module: no installer, but what installers do to the network. The word scenario= on the command line says what:
#
#   rename   udev gives the card the name that a .link file says
#   dhcp     dhclient takes an address for a minute and renews it
#   switch   systemd changes to another root and kills what it does not spare
#   manager  NetworkManager takes the card and asks by DHCP (with rd.neednet=1 ip=dhcp)

check() {
    return 255
}

depends() {
    echo base udev-rules
}

install() {
    inst_multiple busybox ip nmcli head udevadm dhclient dhclient-script run-parts chown mv rm cat cp mount mkdir sleep grep sed hostname
    inst_multiple /etc/dhcp/dhclient.conf
    inst_dir /var/lib/dhcp
    inst_simple "$moddir/10-lender.link" /etc/systemd/network/10-lender.link
    inst_simple "$moddir/told.sh" /usr/lib/survival/told.sh
    inst_simple "$moddir/dhclient.conf" /usr/lib/survival/dhclient.conf
    # The root to change to.
    mapfile -t files < <(cd "$dracutsysrootdir/survivor" && find . -type f)
    for file in "${files[@]}"; do
        inst_simple "/survivor/$file" "/survivor/$file"
    done
    inst_simple "$moddir/told.sh" /survivor/told.sh
    inst_simple /usr/bin/busybox /survivor/bin/busybox
    inst_simple /usr/lib/os-release /survivor/etc/os-release
    inst_hook cmdline 90 "$moddir/claim-root.sh"
    inst_hook pre-mount 10 "$moddir/deed.sh"
    inst_hook mount 10 "$moddir/mount-root.sh"
}
