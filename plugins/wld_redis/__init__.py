"""Live beyond one process: a sink that publishes blocks of events to Redis Streams, and the source that reads them."""

from wld import SinkSpec, SourceSpec, hookimpl
from wld_redis.sink import RedisConfig, RedisSink
from wld_redis.source import RedisSource

__all__ = ["RedisConfig", "RedisSink", "RedisSource", "wld_sink", "wld_source"]

CAPACITY = 200_000
"""Events: what waits while Redis is away, some minutes of a busy symbol; beyond that the oldest are lost, with a Gap."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `redis`."""
    return SinkSpec(
        name="redis", config_type=RedisConfig, create=RedisSink, capacity=CAPACITY, requires=("coredis",)
    )  # fmt: skip


@hookimpl
def wld_source() -> SourceSpec:
    """`--source redis://HOST:PORT/DB?stream=NAME`."""
    return SourceSpec(name="redis", create=RedisSource, clock="recorded", requires=("coredis",))
