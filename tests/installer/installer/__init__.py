"""A stand-in for Anaconda that installs Debian: kickstart in, a disk that boots out.

It runs from dracut's initramfs, in place of mounting a root file system. It finds its kickstart where `inst.ks=` says,
reads it with pykickstart, the parser that Anaconda itself uses, and gives every command the meaning it has there. What
it does not support it refuses, naming the line; it never leaves a line out in silence.

The network is set up before it starts, by whom it does not know, and it leaves it alone.

The order is Anaconda's: %pre, disks, %pre-install, packages, configuration, boot loader, %post, reboot.
"""
