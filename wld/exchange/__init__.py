"""Owns the simulated exchange: a believable market behind the venue's protocol, and its faults."""

from wld.exchange.faults import FaultProxy, serve_fault_proxy
from wld.exchange.injection import KINDS as FAULT_KINDS
from wld.exchange.injection import FaultSpec, parse_fault
from wld.exchange.instruments import KNOWN as KNOWN_SYMBOLS
from wld.exchange.instruments import SymbolSpec, spec_for
from wld.exchange.market import Market
from wld.exchange.server import Exchange, ExchangeAddress, ExchangeConfig, check, serve_exchange

__all__ = [
    "FAULT_KINDS",
    "KNOWN_SYMBOLS",
    "Exchange",
    "ExchangeAddress",
    "ExchangeConfig",
    "FaultProxy",
    "FaultSpec",
    "Market",
    "SymbolSpec",
    "check",
    "parse_fault",
    "serve_exchange",
    "serve_fault_proxy",
    "spec_for",
]
