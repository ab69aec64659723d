"""A live lake: every event in hive-partitioned Parquet files that DuckDB and polars read while it grows."""

from wld import SinkSpec, hookimpl
from wld_parquet.sink import ParquetConfig, ParquetSink

__all__ = ["ParquetConfig", "ParquetSink", "wld_sink"]

CAPACITY = 500_000
"""Events: what waits while files are written, as for the recorder."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `parquet`."""
    return SinkSpec(
        name="parquet", config_type=ParquetConfig, create=ParquetSink, capacity=CAPACITY, requires=("pyarrow",)
    )
