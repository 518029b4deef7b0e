# Outlives the laboratory and removes what is left of it: runs until its standard input closes, which the kernel sees to even
# when the laboratory is killed outright. Arguments: the namespaces. Every process inside them was started by the laboratory.
trap '' INT TERM HUP
cat >/dev/null
for namespace in "$@"; do
    [ -e "/run/netns/$namespace" ] || continue
    # A process may be forking while the list is read: look again until none is left.
    for _ in 1 2 3 4 5; do
        pids=$(ip netns pids "$namespace")
        [ -n "$pids" ] || break
        kill -KILL $pids 2>/dev/null
    done
done
for namespace in "$@"; do
    [ ! -e "/run/netns/$namespace" ] || ip netns del "$namespace"
done
