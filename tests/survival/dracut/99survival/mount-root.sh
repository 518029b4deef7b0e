#!/bin/sh
# A root in memory, small and foreign: what is in it is all that there is after the change.
mount -t tmpfs -o mode=0755 root "$NEWROOT"
cp -a /survivor/. "$NEWROOT/"
mkdir -p "$NEWROOT/proc" "$NEWROOT/sys" "$NEWROOT/dev" "$NEWROOT/run" "$NEWROOT/usr"
