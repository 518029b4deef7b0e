"""The servers' management controller: OpenStack's Redfish emulator in front of the laboratory's machines.

The emulator's own drivers know libvirt and clouds; this one asks the laboratory, over a socket, one JSON line each way. So the
Lease Manager speaks to a Redfish service that its authors did not write.

Arguments: socket of the laboratory, folder for state, address, port, user, file with the password, names of the systems.
"""

import json
import os
import socket
import sys
import uuid

import bcrypt
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

ORDERS = {
    "On": "On",
    "ForceOn": "On",
    "ForceOff": "Off",
    "ForceRestart": "Cycle",
    "PowerCycle": "Cycle",
    "GracefulShutdown": "Button",
}


class LaboratoryDriver(AbstractSystemsDriver):
    """Systems that are QEMU processes of the laboratory."""

    socket_path = ""
    names = []

    @classmethod
    def initialize(cls, config, logger):
        return cls

    def _ask(self, identity, **question):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket_path)
            connection.sendall(json.dumps({"system": self.name(identity), **question}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if "error" in answer:
            emulator.app.logger.error(answer["error"])
            raise error.FishyError(answer["error"])
        return answer

    @property
    def driver(self):
        return "<leaseboot laboratory>"

    @property
    def systems(self):
        return self.names

    def uuid(self, identity):
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name(identity)))

    def name(self, identity):
        if identity not in self.names:
            raise error.NotFound(f"there is no system {identity}")
        return identity

    def get_power_state(self, identity):
        return self._ask(identity)["power"]

    def set_power_state(self, identity, state):
        if state not in ORDERS:
            raise error.NotSupportedError(f"power order {state} is not supported")
        self._ask(identity, order=ORDERS[state])

    def get_boot_device(self, identity):
        return self._ask(identity)["boot"]

    def set_boot_device(self, identity, boot_source):
        self._ask(identity, boot=boot_source)

    def get_boot_mode(self, identity):
        return self._ask(identity)["mode"]

    def set_boot_mode(self, identity, boot_mode):
        if boot_mode != self.get_boot_mode(identity):
            raise error.NotSupportedError(f"this board cannot boot in mode {boot_mode}")

    def get_nics(self, identity):
        mac = self._ask(identity)["mac"]
        return [{"id": mac, "mac": mac}]


def main():
    socket_path, state, address, port, user, password_file, *names = sys.argv[1:]
    LaboratoryDriver.socket_path = socket_path
    LaboratoryDriver.names = names
    with open(password_file, "rb") as file:
        password = file.read().strip()
    users = os.path.join(state, "users")
    with open(users, "w", encoding="ascii") as file:
        file.write(f"{user}:{bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()}\n")
    emulator.fakedriver.FakeDriver = LaboratoryDriver
    emulator.app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_AUTH_FILE": users,
            "SUSHY_EMULATOR_STATE_DIR": state,
        }
    )
    emulator.app.logger.setLevel("INFO")
    emulator.app.run(host=address, port=int(port), threaded=True)


if __name__ == "__main__":
    main()
