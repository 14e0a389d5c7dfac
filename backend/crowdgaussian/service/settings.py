# SPDX-License-Identifier: Apache-2.0
"""What `crowdgaussian serve` can be told, and what an address means."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.protocol.messages import Limits
from crowdgaussian_shared.protocol.wire import DEFAULT_PORT, is_loopback, split_address

from ..core.progress import setting

PIPELINE = "crowdgaussian.pipeline.reconstruct:reconstruct"


@dataclass(frozen=True)
class Address:
    """A TCP address to bind; port 0 takes any free one."""

    host: str  # an IPv6 address without its brackets
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return is_loopback(self.host)

    def endpoint(self) -> str:
        """As ZeroMQ writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port or '*'}"


@dataclass(frozen=True)
class ServiceSettings:
    """Everything about one service."""

    data: Path  # jobs, photos, results and keys lie here
    bind: Address = Address("127.0.0.1", DEFAULT_PORT)
    data_port: int = setting(0, "port of the data socket; 0: the one after the control port")
    workers: int = setting(0, "worker processes; 0: one per GPU, or one")
    limits: Limits = field(default_factory=Limits)
    keep_hours: float = setting(24.0, "that photos and results are kept after a job's end")
    keep_bytes: int = 50 << 30  # of all results together; the oldest go first
    beat_seconds: float = 1.0  # between a worker's signs of life; five missing mean death
    cancel_seconds: float = 2.5  # a worker that has not stopped by then is killed
    silence_seconds: float = 1800.0  # a job without any progress for so long is stopped
    pipeline: str = PIPELINE  # module:function that the workers run

    @property
    def keys(self) -> Path:
        return self.data / "keys"


def with_number(settings: ServiceSettings, name: str, text: str) -> ServiceSettings:
    """A copy with one number changed, as in with_number(s, "jobs_total", "128").

    Raises:
        SettingError: there is no such number, or the text is not one.
    """
    for owner in (settings.limits, settings):
        old = getattr(owner, name, None)
        if not isinstance(old, int | float):
            continue
        try:
            value = type(old)(text)
        except ValueError as error:
            raise SettingError(f"'{text}' is no number for {name}.") from error
        if owner is settings:
            return replace(settings, **{name: value})  # type: ignore[arg-type]  # any number
        return replace(settings, limits=replace(settings.limits, **{name: value}))  # type: ignore[arg-type]
    names = ", ".join(sorted(_numbers(settings.limits) | _numbers(settings)))
    raise SettingError(f"There is no limit named {name}; there are {names}.")


def _numbers(owner: Limits | ServiceSettings) -> set[str]:
    return {f.name for f in fields(owner) if isinstance(getattr(owner, f.name), int | float)}


def parse_address(text: str) -> Address:
    """Reads tcp://HOST:PORT.

    Raises:
        SettingError: it is something else.
    """
    found = split_address(text)
    if found is None:
        raise SettingError(f"'{text}' is no address; write it like tcp://127.0.0.1:5555.")
    host, port = found
    return Address(host.strip("[]"), port)
