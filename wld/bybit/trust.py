"""Owns whom wld trusts on the network: the system's authorities, or one file for private endpoints; never nobody."""

from __future__ import annotations

import ssl

from wld.errors import ConfigError


def ssl_context(ca_file: str | None) -> ssl.SSLContext:
    """A context that verifies certificate and host name.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigError(f"source.ca_file: expected a PEM file of certificates, got {ca_file!r}") from None
    except OSError as error:
        raise ConfigError(f"source.ca_file: {ca_file}: cannot be read: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
