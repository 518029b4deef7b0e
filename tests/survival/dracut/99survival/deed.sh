#!/bin/sh
# What happens while no root is mounted. It does not come back.
. /usr/lib/survival/told.sh
case $(getarg scenario=) in
    rename)
        # The kernel gives no new name to a card that is up (before Linux 6.2), so those who want one take it down.
        udevadm settle
        ip link set eth0 down
        udevadm trigger --action=add /sys/class/net/eth0
        udevadm settle
        ip link show renamed0 > /dev/console 2>&1 || { tell "udev gave no name"; return 0; }
        ip link set renamed0 up
        tell "the card is renamed0"
        ;;
    dhcp)
        for card in eth0 renamed0; do [ ! -e "/sys/class/net/$card" ] || break; done
        dhclient -v -d -cf /usr/lib/survival/dhclient.conf -lf /run/leases "$card" > /run/dhclient.log 2>&1 &
        until [ "$(grep -c '^bound to' /run/dhclient.log)" -ge 2 ]; do sleep 1; done
        grep '^DHCP\|^bound' /run/dhclient.log > /dev/console
        tell "renewed"
        ;;
    manager)
        # A card that has an address when it comes is nothing that it touches by itself ("connected (externally)"); installers tell it to.
        nmcli connection up "$(nmcli -g NAME connection show | grep -i wired | head -n 1)" > /dev/console 2>&1
        tries=0
        until ip -4 route show proto dhcp | grep -q .; do
            tries=$((tries + 1))
            [ "$tries" -lt 60 ] || { nmcli > /dev/console; tell "NetworkManager does not take the card"; return 0; }
            sleep 1
        done
        tell "NetworkManager has the card"
        ;;
    *)
        return 0
        ;;
esac
look_whether_the_tunnel_carries
stay
