"""The same source behind TLS: `--source rediss://…`."""

from wld import SourceSpec, hookimpl
from wld_redis.source import RedisSource


@hookimpl
def wld_source() -> SourceSpec:
    """`rediss` is the scheme that Redis clients use for TLS."""
    return SourceSpec(name="rediss", create=RedisSource, clock="recorded", requires=("coredis",))
