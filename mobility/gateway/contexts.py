"""What TLS needs (versions, certificates, whom to trust), out of the files that a configuration names."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from mobility.gateway.settings import ClientCertificate, GatewayAccess, GatewaySettings, Protocol
from mobility.values import ConfigurationError

ALPN = ["h2"]


def client_context(access: GatewayAccess) -> ssl.SSLContext:
    """Of a terminal: verifies the gateway's certificate and name. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    try:
        if access.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(access.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"gateway {access.name}: cannot read ca_file {access.ca_file}: {_words(error)}"
        ) from error
    if access.certificate is not None:
        _load(context, access.certificate, access.private_key, f"gateway {access.name}")
    if access.protocol is Protocol.H2:
        context.set_alpn_protocols(ALPN)
    _log_keys(context, access.key_log)
    return context


def server_context(settings: GatewaySettings) -> ssl.SSLContext:
    """Of a gateway. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load(context, settings.certificate, settings.private_key, "gateway")
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"gateway.client_ca: cannot read {settings.client_ca}: {_words(error)}") from error
    context.verify_mode = {
        ClientCertificate.NONE: ssl.CERT_NONE,
        ClientCertificate.OPTIONAL: ssl.CERT_OPTIONAL,
        ClientCertificate.REQUIRED: ssl.CERT_REQUIRED,
    }[settings.client_certificate]
    context.set_alpn_protocols(ALPN)
    _log_keys(context, settings.key_log)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load(context: ssl.SSLContext, certificate: Path, key: Path | None, whose: str) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{whose}: cannot use certificate {certificate} with private_key {key}: {_words(error)}"
        ) from error


def _log_keys(context: ssl.SSLContext, path: Path | None) -> None:
    """For Wireshark. Whoever has the file can read the sessions: only its owner can."""
    if path is None:
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        path.chmod(0o600)
        context.keylog_filename = str(path)
    except OSError as error:
        raise ConfigurationError(f"key_log {path}: {_words(error)}") from error


def _words(error: OSError) -> str:
    return error.strerror or str(error)
