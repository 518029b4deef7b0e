"""Reading a kickstart as Anaconda does: first the %pre scripts alone, then, when they have run, everything.

The two passes matter, because a %pre script may write the file that an %include names.
"""

from pykickstart.constants import KS_SCRIPT_PRE
from pykickstart.errors import KickstartError
from pykickstart.handlers.rhel9 import RHEL9Handler
from pykickstart.parser import KickstartParser, Script
from pykickstart.sections import (OnErrorScriptSection, PackageSection, PostScriptSection, PreInstallScriptSection,
                                  PreScriptSection, NullSection)

from installer import supported
from installer.errors import InstallError

OTHER_SECTIONS = ("%pre-install", "%post", "%onerror", "%traceback", "%packages", "%addon", "%anaconda",
                  "%certificate")


class Handler(RHEL9Handler):
    """RHEL 9's commands, each checked against what this installer supports before it is parsed."""

    def __init__(self):
        # Named outright, because pykickstart otherwise looks for source files of every version there ever was.
        super().__init__(mapping=RHEL9Handler.commandMap, dataMapping=RHEL9Handler.dataMap)
        self.seen_at = {}

    def dispatcher(self, args, lineno):
        """Checks one command line and hands it on."""
        supported.check(args, lineno, self.seen_at)
        return super().dispatcher(args, lineno)


class PreParser(KickstartParser):
    """Sees nothing but %pre scripts."""

    def handleCommand(self, lineno, args):
        """Passes over commands: their turn comes in the second pass."""

    def setupSections(self):
        """Registers %pre, and passes over the others."""
        self._sections = {}
        self.registerSection(PreScriptSection(self.handler, dataObj=Script))
        for name in OTHER_SECTIONS:
            self.registerSection(NullSection(self.handler, sectionOpen=name))


class FullParser(KickstartParser):
    """Sees all of it; sections that this installer has no use for are unknown to it, and so refused."""

    def setupSections(self):
        """Registers the sections that are carried out."""
        self._sections = {}
        for section in (PreScriptSection, PreInstallScriptSection, PostScriptSection, OnErrorScriptSection):
            self.registerSection(section(self.handler, dataObj=Script))
        self.registerSection(PackageSection(self.handler))


def pre_scripts(path):
    """The %pre scripts of a kickstart."""
    handler = Handler()
    _parse(PreParser(handler, missingIncludeIsFatal=False, unknownSectionIsFatal=False), path)
    return [script for script in handler.scripts if script.type == KS_SCRIPT_PRE]


def read(path):
    """The whole kickstart, checked."""
    handler = Handler()
    _parse(FullParser(handler), path)
    return handler


def scripts(handler, kind):
    """The scripts of one kind, in their order."""
    return [script for script in handler.scripts if script.type == kind]


def _parse(parser, path):
    try:
        parser.readKickstart(path)
    except KickstartError as error:
        place = f"{path}:{error.lineno}" if error.lineno else path
        raise InstallError(f"{place}: {error.message}") from None
    except ValueError as error:
        raise InstallError(f"{path}: not a kickstart") from error
