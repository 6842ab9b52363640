"""What a script with plain ncclient does: `python -m bench.fleet_peers INTERVAL THREADS KEY PORT...`.

Lock, read, edit, validate, commit, unlock, close, as its documentation has it; no verification, no confirmation, no
second session.
"""

from __future__ import annotations

import getpass
import sys
from concurrent.futures import ThreadPoolExecutor

from ncclient import manager

# What every peer changes; `{}` is the interval.
CONFIG = (
    '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><igmp-proxy xmlns="urn:igmpconf:yang:igmpconf"><name>default</name><interfaces>'
    "<interface>lan0</interface><query-interval>{}</query-interval></interfaces></igmp-proxy></config>"
)


def change(port: int, interval: str, key: str) -> None:
    """One device."""
    with (
        manager.connect(
            host="127.0.0.1",
            port=port,
            username=getpass.getuser(),
            key_filename=key,
            hostkey_verify=False,
            allow_agent=False,
            look_for_keys=False,
            timeout=60,
        ) as device,
        device.locked("candidate"),
    ):
        device.get_config("running")
        device.edit_config(target="candidate", config=CONFIG.format(interval))
        device.validate("candidate")
        device.commit()


def main(interval: str, threads: str, key: str, *ports: str) -> None:
    """All devices, so many at a time."""
    with ThreadPoolExecutor(max_workers=int(threads)) as pool:
        for done in [pool.submit(change, int(port), interval, key) for port in ports]:
            done.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
