#!/bin/sh
# Devices have settled and no root is looked for: the installer runs from here and does not come back.
export PYTHONPATH=/usr/lib/kickstart-installer PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/usr/bin/python3 -m installer < /dev/null > /dev/console 2>&1
while :; do sleep 3600; done
