"""Writes each trade worth at least `minimum` quote units as one line of JSON to `whales.jsonl` in the data directory."""

import msgspec
import trio

import wld


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    minimum: float = 1_000.0


class Whales:
    def __init__(self, config: Config, context: wld.SinkContext) -> None:
        self.minimum = round(config.minimum * wld.SCALE)
        self.path = context.data_dir / "whales.jsonl"
        self.context = context

    async def run(self, batches: wld.Subscription, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        found = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        async with await trio.open_file(self.path, "ab") as file:
            task_status.started()
            async for batch in batches:
                whales = [event for event in batch if isinstance(event, wld.Trade) and self.is_whale(event)]
                if whales:
                    found += len(whales)
                    await file.write(b"".join(msgspec.json.encode(trade) + b"\n" for trade in whales))
                    await file.flush()
                    self.context.status("whales", {"found": found})

    def is_whale(self, trade: wld.Trade) -> bool:
        return trade.price * trade.size // wld.SCALE >= self.minimum


@wld.hookimpl
def wld_sink() -> wld.SinkSpec:
    return wld.SinkSpec(name="whales", config_type=Config, create=Whales)
