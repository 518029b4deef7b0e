# Sourced: what a scenario hears on the serial line, and in the log that the wrapper follows.
bb=busybox
[ -x /bin/busybox ] && bb=/bin/busybox

tell() {
    echo "scenario: $*" > /dev/console
}

# From the enterprise, through the tunnel; for as long as somebody may be at work on the card.
look_whether_the_tunnel_carries() {
    $bb ip -4 address show > /dev/console
    $bb ip -4 route show > /dev/console
    tries=0
    until page=$($bb timeout 5 $bb wget -q -O - http://172.20.0.2/); do
        tries=$((tries + 1))
        [ "$tries" -lt 40 ] || { tell "the tunnel carries nothing any more"; return; }
        $bb sleep 1
    done
    tell "fetched $page"
    echo "survived" > /run/survival.log
}

stay() {
    while :; do $bb sleep 3600; done
}
