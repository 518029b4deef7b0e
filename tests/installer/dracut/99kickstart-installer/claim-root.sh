#!/bin/sh
# dracut refuses to start without a root; the installer needs none, it makes one.
root=installer
rootok=1
export root rootok
