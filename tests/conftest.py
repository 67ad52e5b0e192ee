"""Property tests: no limit on time, which depends on the machine; in CI always the same cases."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "motet",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("motet")
