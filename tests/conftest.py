"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Laws are about values, not about how busy the machine is; pytest-timeout ends what hangs.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
