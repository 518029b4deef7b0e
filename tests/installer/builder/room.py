"""Where this room and its cache lie."""

import pathlib

ROOM = pathlib.Path(__file__).resolve().parent.parent


def default_cache():
    """`target/installer-cache` of the workspace, which every build shares."""
    return ROOM.parent.parent / "target" / "installer-cache"
