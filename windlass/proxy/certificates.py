"""TLS of the command line's programs: contexts made of what is in the files that options name. What changes
in the files needs a new context: one that is in use can learn to trust, and not to trust no longer."""

from __future__ import annotations

import argparse
import ssl
from typing import Final

__all__ = [
    "StartError",
    "backend_context",
    "reason_of",
    "server_context",
]

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class StartError(ValueError):
    """What keeps the proxy from starting, and what to change."""


def server_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for clients, if there is a certificate. Raises `StartError`."""
    if options.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = VERSIONS[options.tls_min]
    if options.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        trust(context, options.client_ca, "--client-ca")
    context.set_alpn_protocols(["http/1.1"])
    show(context, options.tls_certificate, options.tls_key, "--tls-certificate and --tls-key")
    return context


def backend_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for backends, if there are any that want it. Raises `StartError`."""
    if not any(url.startswith("https:") for url in options.backend):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[options.backend_tls_min]
    if options.backend_ca is None:
        context.load_default_certs()
    else:
        trust(context, options.backend_ca, "--backend-ca")
    if options.backend_certificate is not None:
        names = "--backend-certificate and --backend-key"
        show(context, options.backend_certificate, options.backend_key, names)
    return context


def trust(context: ssl.SSLContext, path: str, option: str) -> None:
    """Trust the authorities in a file."""
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise StartError(f"cannot use {path}: {reason_of(error)}; {option} wants a PEM file") from None


def show(context: ssl.SSLContext, certificate: str, key: str | None, options: str) -> None:
    """Show the certificate in a file as one's own."""
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        files = " and ".join(filter(None, [certificate, key]))
        raise StartError(f"cannot use {files}: {reason_of(error)}; {options} want PEM files") from None


def reason_of(error: OSError) -> str:
    """Why, without the number in front."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in the expected form").lower().replace("_", " ")
    return error.strerror or str(error)
